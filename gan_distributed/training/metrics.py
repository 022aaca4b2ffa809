"""What training tells Prometheus: each rank of itself, and the driver of the whole run, which outlives its workers."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gan_distributed.config import Config, MetricsConfig
from gan_distributed.data.attempts import Counters
from gan_distributed.exposition import Exposition, push, resident_bytes
from gan_distributed.training.mailbox import View
from gan_distributed.training.timing import PHASES

if TYPE_CHECKING:
    from gan_distributed.training.outcome import Outcome

_STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_NETWORKS, _KINDS = ("generator", "discriminator"), ("real", "fake")


class WorkerMetrics:
    """What one rank tells; labels `run` and `rank`.

    gpu_bytes: the memory that this rank took of its GPU, at its peak, recordings' included; None where it has none.
    """

    def __init__(
        self,
        config: MetricsConfig,
        run: str,
        rank: int,
        local_rank: int,
        gpu_bytes: Callable[[], float] | None = None,
    ) -> None:
        port = None if config.port is None else config.port + local_rank
        self._rank, self._linger_s, self._gpu_bytes = rank, config.linger_s, gpu_bytes
        self.exposition = Exposition({"run": run, "rank": str(rank)}, config.host, port)
        self._declare_training(self.exposition)
        if config.phase_times:
            self.exposition.counter("gan_phase_seconds", "Time of steps by phase", phase=PHASES)
        self._declare_storage(self.exposition)
        self.set, self.add = self.exposition.set, self.exposition.add

    def _declare_training(self, e: Exposition) -> None:
        _declare_progress(e)
        e.counter("gan_seen_images", "Real images shown, over all ranks, since this attempt started at its checkpoint")
        e.gauge("gan_images_per_second", "Real images per second over all ranks, in the last tick")
        e.gauge("gan_local_batch_images", "Real images that this rank takes a step, in the mean")
        e.histogram("gan_step_seconds", "Time of one step on this rank", _STEP_BUCKETS_S)
        e.counter("gan_data_wait_seconds", "Time this rank waited for its next batch")
        e.gauge("gan_loss", "Mean loss in the last tick", "network")
        e.gauge("gan_discriminator_accuracy", "Share of images told right in the last tick", "kind")
        e.gauge("gan_gradient_norm", "Mean norm of the summed gradients in the last tick", "network")
        e.gauge("gan_augment_probability", "Probability of each augmentation that the discriminator sees")
        e.counter("gan_nonfinite_steps", "Steps skipped for non-finite gradients")
        e.gauge("gan_score", "Last score of the averaged generator", "metric")
        e.counter("gan_scores_skipped", "Rounds of scores that ran out of score.max_s")
        e.counter("gan_collapse_alarms", "Signs of a collapse: pinned discriminator, equal images, a far worse score")
        e.counter("gan_replayed_images", "Images shown again after a restart or a return to an older checkpoint")
        e.gauge("gan_process_resident_bytes", "Resident memory of this rank's process")
        e.gauge("gan_process_private_bytes", "Resident memory of this rank's process but for mapped files")
        e.gauge("gan_gpu_memory_bytes", "Memory that this rank took of its GPU, at its peak")

    def _declare_storage(self, e: Exposition) -> None:
        e.gauge("gan_checkpoint_seconds", "Time from the last snapshot to its commit")
        e.counter("gan_checkpoint_failures", "Checkpoints that could not be written")
        e.counter("gan_shard_bytes", "Bytes of images read, by where they came from", source=("bucket", "cache"))
        e.counter("gan_storage_retries", "Requests to a store that were tried again")
        e.counter("gan_storage_hedges", "Second requests for blocks that were late")
        e.counter("gan_checksum_failures", "Blocks whose bytes were not those of their checksum, and were read again")

    def publish_start(self, config: Config, world_size: int, seen_images: int, replayed_images: int) -> None:
        """Show what an attempt starts with; seen_images: those of its checkpoint."""
        lanes = config.data.num_lanes
        share = len(range(self._rank, lanes, world_size)) / lanes
        images = config.training.batch_size * config.training.discriminator_steps
        self.set("gan_local_batch_images", share * images)
        self.set("gan_world_size", world_size)
        self.set("gan_progress_seen_images", seen_images)
        self.set("gan_last_committed_seen_images", seen_images)
        self.add("gan_replayed_images", replayed_images)
        _publish_goal(self.exposition, config)

    def observe_step(self, seconds: float) -> None:
        """Add one step's time to its histogram."""
        self.exposition.observe("gan_step_seconds", seconds)

    def publish_tick(self, record: dict[str, Any]) -> None:
        """Show the last tick's record."""
        self.set("gan_progress_seen_images", record["seen_images"])
        self.set("gan_images_per_second", record["images_per_s"])
        for network in _NETWORKS:
            self.set("gan_loss", record[f"loss_{network}"], network=network)
            self.set("gan_gradient_norm", record[f"gradient_norm_{network}"], network=network)
        for kind in _KINDS:
            self.set("gan_discriminator_accuracy", record[f"accuracy_{kind}"], kind=kind)
        self.set("gan_augment_probability", record["augment_probability"])
        resident, private = resident_bytes()
        self.set("gan_process_resident_bytes", resident)
        self.set("gan_process_private_bytes", private)
        if self._gpu_bytes is not None:
            self.set("gan_gpu_memory_bytes", self._gpu_bytes())

    def publish_sources(self, bytes_read: Mapping[str, int], store: Counters) -> None:
        """Bring the counters of the stream and the store up to date with their totals."""
        for source, total in bytes_read.items():
            self.exposition.raise_to("gan_shard_bytes", total, source=source)
        self.exposition.raise_to("gan_storage_retries", store.retries)
        self.exposition.raise_to("gan_storage_hedges", store.hedges)
        self.exposition.raise_to("gan_checksum_failures", store.mismatches)

    def publish_checkpoint(self, seconds: float, seen_images: int, timestamp: float) -> None:
        """Tell of a committed checkpoint."""
        self.set("gan_checkpoint_seconds", seconds)
        self.set("gan_last_checkpoint_timestamp_seconds", timestamp)
        self.set("gan_last_committed_seen_images", seen_images)

    def publish_checkpoint_failures(self, failures: int) -> None:
        """Bring the counter of failed checkpoints up to date with its total."""
        self.exposition.raise_to("gan_checkpoint_failures", failures)

    def linger(self, is_over: Callable[[], bool]) -> None:
        """Leave time for a last scrape."""
        self.exposition.linger(self._linger_s, is_over)

    def close(self) -> None:
        """Free the port."""
        self.exposition.close()


class ControllerMetrics:
    """What the driver tells of the whole run; label `run`. stop_requested: ends the wait for a last scrape."""

    def __init__(self, config: Config, stop_requested: Callable[[], bool]) -> None:
        self._config, self._stop_requested = config.metrics, stop_requested
        self._run = str(config.run_id)
        self._started = time.monotonic()
        self._view = View()
        self._outcome: Outcome | None = None
        self.exposition = Exposition({"run": self._run}, config.metrics.host, config.metrics.controller_port)
        _declare_progress(self.exposition)
        self.exposition.counter("gan_restarts", "Worker groups started again after a failure")
        self.exposition.counter("gan_preemptions", "Worker groups started again because a node was taken away")
        _publish_goal(self.exposition, config)

    def publish(self, view: View) -> None:
        """Show how the run stands. view: its totals since this command began."""
        tell = self.exposition
        tell.raise_to("gan_restarts", view.restarts)
        tell.raise_to("gan_preemptions", view.preemptions)
        tell.set("gan_world_size", view.world_size if view.running else 0)
        tell.set("gan_progress_seen_images", view.seen_images)
        tell.set("gan_last_committed_seen_images", max(view.committed, 0))
        if view.committed > self._view.committed:
            tell.set("gan_last_checkpoint_timestamp_seconds", time.time())
        self._view = view

    def finish(self, outcome: "Outcome") -> None:
        """Take the end of the run, and leave time for a last scrape where nothing presses."""
        self._outcome = outcome
        if outcome.kind == "done":
            self.exposition.linger(self._config.linger_s, self._stop_requested)

    def close(self) -> None:
        """Push how the run ended, where that is wanted, and free the port."""
        self.exposition.close()
        if self._config.pushgateway is not None:
            push(self._config.pushgateway, "gan_train", {"run": self._run}, self._fill_final)

    def _fill_final(self, e: Exposition) -> None:
        state = "failed" if self._outcome is None else self._outcome.kind
        record = {} if self._outcome is None else self._outcome.record
        e.gauge("gan_final_state", "1 for how the last command on the run ended", "state")
        for one in ("done", "stopped", "failed"):
            e.set("gan_final_state", float(one == state), state=one)
        values = {
            "gan_final_timestamp_seconds": ("When it ended", time.time()),
            "gan_final_seconds": ("How long it took", time.monotonic() - self._started),
            "gan_final_committed_images": ("Images seen at the last checkpoint", max(self._view.committed, 0)),
            "gan_final_restarts": ("Worker groups started again after a failure", self._view.restarts),
            "gan_final_preemptions": ("Worker groups started again for a lost node", self._view.preemptions),
        }
        if record:
            values["gan_final_images_per_second"] = ("Real images per second in the last tick", record["images_per_s"])
            e.gauge("gan_final_loss", "Mean loss in the last tick", "network")
            for network in _NETWORKS:
                e.set("gan_final_loss", record[f"loss_{network}"], network=network)
        for name, (text, value) in values.items():
            e.gauge(name, text)
            e.set(name, value)


def _declare_progress(e: Exposition) -> None:
    e.gauge("gan_world_size", "Number of ranks at work; the driver says 0 while none is")
    e.gauge("gan_progress_seen_images", "Images seen by the run: its clock")
    e.gauge("gan_target_images", "Images to be seen by the whole run")
    e.gauge("gan_checkpoint_interval_images", "Images from one checkpoint to the next")
    e.gauge("gan_last_committed_seen_images", "Images seen at the last committed checkpoint")
    e.gauge("gan_last_checkpoint_timestamp_seconds", "When the last checkpoint was committed")


def _publish_goal(e: Exposition, config: Config) -> None:
    e.set("gan_target_images", round(1000 * config.training.total_kimg))
    e.set("gan_checkpoint_interval_images", 1000 * config.checkpoint.every_kimg)
