"""Prometheus metrics: one registry a process, served over HTTP. The only file that imports prometheus_client.

Metrics never stop training: a taken port falls back to a free one.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prometheus_client as prometheus

from gan_distributed.config import MetricsConfig
from gan_distributed.data.attempts import Counters

logger = logging.getLogger(__name__)
_STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Server:
    """An endpoint `/metrics` of one registry."""

    def __init__(self, registry: prometheus.CollectorRegistry, host: str, port: int | None) -> None:
        self._server = None
        self.port = None
        if port is None:
            return
        try:
            self._server, self._thread = prometheus.start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            logger.warning("metrics: port %d is taken (%s); a free one is used", port, error.strerror)
            self._server, self._thread = prometheus.start_http_server(0, addr=host, registry=registry)
        self.port = self._server.server_port

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class WorkerMetrics:
    """What one rank tells Prometheus; labels `run` and `rank` only."""

    def __init__(self, config: MetricsConfig, run: str, rank: int, local_rank: int) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._labels = {"run": run, "rank": str(rank)}
        self._families: dict[str, Any] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], float] = {}
        self._declare()
        port = None if config.port is None else config.port + local_rank
        self.server = Server(self._registry, config.host, port)

    def _declare(self) -> None:
        counter, gauge = self._counter, self._gauge
        counter("gan_seen_images", "Real images shown, over all ranks, since this attempt started at its checkpoint")
        gauge("gan_images_per_second", "Real images per second over all ranks, in the last tick")
        self._histogram("gan_step_seconds", "Time of one step on this rank")
        counter("gan_data_wait_seconds", "Time this rank waited for its next batch")
        counter("gan_phase_seconds", "Time of steps by phase, where metrics.phase_times is on", "phase")
        gauge("gan_loss", "Mean loss in the last tick", "network")
        gauge("gan_discriminator_accuracy", "Share of images told right in the last tick", "kind")
        gauge("gan_gradient_norm", "Mean norm of the summed gradients in the last tick", "network")
        gauge("gan_augment_probability", "Probability of each augmentation that the discriminator sees")
        counter("gan_nonfinite_steps", "Steps skipped for non-finite gradients")
        gauge("gan_checkpoint_seconds", "Time from the last snapshot to its commit")
        gauge("gan_last_checkpoint_timestamp_seconds", "When the last checkpoint was committed")
        gauge("gan_last_committed_seen_images", "Images seen at the last committed checkpoint")
        counter("gan_checkpoint_failures", "Checkpoints that could not be written")
        counter("gan_shard_bytes", "Bytes of images read, by where they came from", "source")
        counter("gan_storage_retries", "Requests to a store that were tried again")
        counter("gan_storage_hedges", "Second requests for blocks that were late")
        counter("gan_checksum_failures", "Blocks whose bytes were not those of their checksum, and were read again")
        gauge("gan_process_resident_bytes", "Resident memory of this rank's process")
        gauge("gan_gpu_memory_bytes", "Memory that this rank allocated on its GPU, at its peak")
        gauge("gan_world_size", "Number of ranks")
        gauge("gan_score", "Last score of the averaged generator", "metric")
        counter("gan_scores_skipped", "Rounds of scores that ran out of score.max_s")
        counter("gan_collapse_alarms", "Signs of a collapse: pinned discriminator, equal images, a far worse score")
        counter("gan_replayed_images", "Images shown again after a restart or a return to an older checkpoint")

    def _counter(self, name: str, text: str, *labels: str) -> None:
        self._add(name, prometheus.Counter(name, text, ["run", "rank", *labels], registry=self._registry), labels)

    def _gauge(self, name: str, text: str, *labels: str) -> None:
        self._add(name, prometheus.Gauge(name, text, ["run", "rank", *labels], registry=self._registry), labels)

    def _histogram(self, name: str, text: str) -> None:
        family = prometheus.Histogram(name, text, ["run", "rank"], registry=self._registry, buckets=_STEP_BUCKETS_S)
        self._add(name, family, ())

    def _add(self, name: str, family: Any, labels: tuple[str, ...]) -> None:
        self._families[name] = family
        if not labels:
            # The series exists from the start, so that rate() sees its first step.
            family.labels(**self._labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._families[name].labels(**self._labels, **labels).set(value)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Raise a counter."""
        self._families[name].labels(**self._labels, **labels).inc(value)

    def observe_step(self, seconds: float) -> None:
        """Add one step's time to its histogram."""
        self._families["gan_step_seconds"].labels(**self._labels).observe(seconds)

    def publish_tick(self, record: dict[str, Any]) -> None:
        """Show the last tick's record."""
        self.set("gan_images_per_second", record["images_per_s"])
        for network in ("generator", "discriminator"):
            self.set("gan_loss", record[f"loss_{network}"], network=network)
            self.set("gan_gradient_norm", record[f"gradient_norm_{network}"], network=network)
        for kind in ("real", "fake"):
            self.set("gan_discriminator_accuracy", record[f"accuracy_{kind}"], kind=kind)
        self.set("gan_augment_probability", record["augment_probability"])
        self.set("gan_process_resident_bytes", resident_bytes())

    def publish_sources(self, bytes_read: Mapping[str, int], store: Counters) -> None:
        """Bring the counters of the stream and the store up to date with their totals."""
        for source, total in bytes_read.items():
            self._raise_to("gan_shard_bytes", total, source=source)
        self._raise_to("gan_storage_retries", store.retries)
        self._raise_to("gan_storage_hedges", store.hedges)
        self._raise_to("gan_checksum_failures", store.mismatches)

    def publish_checkpoint(self, seconds: float, seen_images: int, timestamp: float) -> None:
        """Tell of a committed checkpoint."""
        self.set("gan_checkpoint_seconds", seconds)
        self.set("gan_last_checkpoint_timestamp_seconds", timestamp)
        self.set("gan_last_committed_seen_images", seen_images)

    def publish_checkpoint_failures(self, failures: int) -> None:
        """Bring the counter of failed checkpoints up to date with its total."""
        self._raise_to("gan_checkpoint_failures", failures)

    def _raise_to(self, name: str, total: float, **labels: str) -> None:
        # Several streams may follow one another in a process; their totals start again from 0.
        key = (name, tuple(labels.values()))
        last = self._totals.get(key, 0.0)
        self.add(name, total - last if total >= last else total, **labels)
        self._totals[key] = total

    def close(self) -> None:
        """Free the port."""
        self.server.close()


class ControllerMetrics:
    """What the driver tells Prometheus: how often the workers were restarted, and why."""

    def __init__(self, config: MetricsConfig, run: str) -> None:
        registry = prometheus.CollectorRegistry()
        self._restarts = prometheus.Counter(
            "gan_restarts", "Worker groups started again after a failure", ["run"], registry=registry
        ).labels(run=run)
        self._preemptions = prometheus.Counter(
            "gan_preemptions", "Worker groups started again because a node was taken away", ["run"], registry=registry
        ).labels(run=run)
        self._counted = (0, 0)
        self.server = Server(registry, config.host, config.controller_port)

    def publish(self, restarts: int, preemptions: int) -> None:
        """Bring both counters up to date with their totals."""
        self._restarts.inc(restarts - self._counted[0])
        self._preemptions.inc(preemptions - self._counted[1])
        self._counted = restarts, preemptions

    def close(self) -> None:
        """Free the port."""
        self.server.close()


def resident_bytes() -> int:
    """Resident memory of this process, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
