"""The loop of one attempt on one rank: tick, samples, checkpoint, done?, step; in that order, so that the last turn of
an attempt and the first after a resume are the same. Decides nothing alone: every rank takes every turn together.
"""

import time
from typing import Any, Literal

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.data.attempts import counters
from gan_distributed.data.stream import Stream
from gan_distributed.training.feed import Feed
from gan_distributed.training.hardware import device_name
from gan_distributed.training.link import Link
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.records import progress_line
from gan_distributed.training.samples import encode_grid, fixed_latents, generate_rows, grid_labels
from gan_distributed.training.saving import Saving, Scribe
from gan_distributed.training.schedule import crossed
from gan_distributed.training.scoring import Scoring
from gan_distributed.training.state import NonfiniteError, TrainState
from gan_distributed.training.step import STATISTICS, Step
from gan_distributed.training.tick import LaggedFlags, TickSums
from gan_distributed.training.timing import PhaseSums, phase_table
from gan_distributed.training.tracing import Trace
from gan_distributed.training.uploads import Uploads
from gan_distributed.training.world import World

_FLUSH_S = 15.0


class Loop:
    """One attempt of one rank, from the state's clock to the end of the run or a stop."""

    def __init__(
        self,
        config: Config,
        world: World,
        state: TrainState,
        stream: Stream,
        metrics: WorkerMetrics,
        link: Link,
        scribe: Scribe | None,
        scoring: Scoring | None,
    ) -> None:
        self._config, self._world, self._state, self._stream = config, world, state, stream
        self._metrics, self._link, self._scribe = metrics, link, scribe
        self._scoring = scoring
        self._step = Step(config, state, world, link.unhurried)
        self._feed = Feed(stream, config, world)
        self._tick_sums = TickSums(world.device)
        self._requests = LaggedFlags()
        self._total_images = round(1000 * config.training.total_kimg)
        samples_kimg = config.samples.every_kimg
        self._samples_kimg = stream.manifest.num_images / 1000 if samples_kimg == "epoch" else samples_kimg
        self._saving = Saving(config, state, metrics, scribe)
        self._record: dict[str, Any] = {}
        self._last_grid: str | None = None
        self._last_flush = time.monotonic()
        self._uploads = Uploads()
        self._device_name = device_name(world.device)
        self._phases = PhaseSums()
        self._trace = (
            Trace(scribe.run.trace_url(scribe.attempt), scribe.say) if scribe and config.metrics.trace else None
        )
        self._before = state.saved_seen_images
        self._stopping = False
        # What came before belongs to no step.
        world.timer.read()

    def run(self) -> Outcome:
        """Train to the end; raises NonfiniteError, CollapseError, and what the stream or checkpoint writer raise."""
        try:
            while True:
                outcome = self.turn()
                if outcome is not None:
                    return outcome
        finally:
            self.close()

    def turn(self) -> Outcome | None:
        """What is due at this age of the state, then a step; an outcome where the attempt ends instead."""
        config, before, seen = self._config, self._before, self._state.seen_images
        done, stopping = seen >= self._total_images, self._stopping
        if crossed(before, seen, config.training.tick_kimg) or done or stopping:
            self._tick()
        if self._samples_kimg is not None and (crossed(before, seen, self._samples_kimg) or done):
            self._sample()
        if self._scoring is not None and not stopping and self._scoring.is_due(before, seen, done=done):
            self._score(self._scoring)
        self._saving.turn(before)
        self._saving.save(last=done or stopping)
        if done or stopping:
            return Outcome("done" if done else "stopped", seen, self._record, self._last_grid)
        self._before = seen
        self._stopping = self._take_step()
        return None

    def close(self) -> None:
        """Write what is pending, and tell what was measured."""
        if self._trace is not None:
            self._trace.close()
        if self._scribe is not None and self._phases.steps:
            self._scribe.say(phase_table(self._phases.seconds, self._phases.steps))
        self._flush()
        self._tell("close")
        self._uploads.close()

    def _flush(self) -> None:
        if self._scribe is not None:
            self._uploads.submit(self._scribe.recorder.flush)

    def _keep(self, url: str, data: bytes) -> None:
        if self._scribe is not None:
            self._scribe.recorder.add_file(url, data)
            self._flush()

    def _tell(self, what: Literal["tick", "scores", "grid", "close"], *arguments: Any) -> None:
        for sink in self._scribe.sinks if self._scribe is not None else ():
            self._uploads.submit(getattr(sink, what), *arguments)

    def _take_step(self) -> bool:
        if self._trace is not None:
            self._trace.step_begins()
        started = time.monotonic()
        with self._world.timer.phase("data_wait"):
            batches = [self._feed.next() for _ in range(self._config.training.discriminator_steps)]
        waited = time.monotonic() - started
        if self._scribe is not None:
            self._scribe.check_held()
        stop = self._link.stop_requested() or self._saving.is_overdue()
        report = self._step(batches, stop, self._link.save_requested())
        self._tick_sums.add(report.statistics, report.ok, self._state.skipped[1])
        self._metrics.add("gan_data_wait_seconds", waited)
        self._metrics.observe_step(time.monotonic() - started)
        self._tick_sums.waited_s += waited
        self._link.progress(self._state.seen_images)
        stop, save = self._requests.push(report.requests)
        if save:
            self._saving.now()
        return stop

    def _tick(self) -> None:
        sums = self._tick_sums
        if sums.steps == 0:
            return
        config, state = self._config, self._state
        images = sums.steps * config.training.batch_size * config.training.discriminator_steps
        means, longest_row = sums.read()  # device sync
        seconds = sums.seconds()
        self._record = {
            "seen_images": state.seen_images,
            "attempt": self._scribe.attempt if self._scribe else 0,
            "time": time.time(),
            "tick_s": seconds,
            "images_per_s": images / seconds,
            "data_wait_s": sums.waited_s,
            "skipped_steps": sums.steps - sums.good_steps,
            **dict(zip(STATISTICS, means, strict=True)),
            "augment_probability": self._step.augment_probability(),
            "order_digest": f"{state.global_digest() & (1 << 64) - 1:016x}",
            "world_size": self._world.size,
            "rollbacks": state.rollbacks,
            "device": self._device_name,
            "last_committed_seen_images": self._saving.saved_seen_images,
        }
        phases = self._world.timer.read()
        if phases:
            self._record["phases_s"] = phases
            self._phases.add(phases, sums.steps)
        self._publish(images)
        self._tick_sums = TickSums(self._world.device)
        if longest_row >= config.training.max_nonfinite_steps:
            raise NonfiniteError(f"{longest_row} steps in a row had non-finite gradients")
        if self._scoring is not None:
            self._scoring.watch(self._record, state)

    def _publish(self, images: int) -> None:
        metrics, record = self._metrics, self._record
        metrics.publish_tick(record)
        metrics.add("gan_seen_images", images)
        metrics.add("gan_nonfinite_steps", record["skipped_steps"])
        for name, seconds in record.get("phases_s", {}).items():
            metrics.add("gan_phase_seconds", seconds, phase=name)
        metrics.publish_sources(self._stream.bytes_read, counters)
        if self._scribe is None:
            return
        self._scribe.say(progress_line(record, self._total_images))
        self._scribe.recorder.add(record)
        self._tell("tick", record)
        if time.monotonic() - self._last_flush > _FLUSH_S:
            self._last_flush = time.monotonic()
            self._flush()

    def _sample(self) -> None:
        if self._scribe is None:
            return
        config, images = self._config, self._state.images
        latents = fixed_latents(config.seed, config.samples.num, config.model.latent_dim)
        num_classes = images.num_classes if config.model.conditional else 0
        rows = generate_rows(self._state.ema, latents, grid_labels(config.samples.num, num_classes))
        self._last_grid = self._scribe.run.sample_url(self._state.seen_images)
        grid = encode_grid(rows, num_classes)
        self._uploads.submit(storage.write, self._last_grid, grid)
        self._tell("grid", self._state.seen_images, grid)

    def _score(self, scoring: Scoring) -> None:
        started = time.monotonic()
        try:
            if scoring.score(self._state, self._keep, self._is_stopping):
                self._saving.now()
        finally:
            # Also the score that a collapse is told by; none of a round that was skipped.
            if scoring.values:
                self._tell("scores", self._state.seen_images, scoring.values)
                self._link.scored(self._state.seen_images, scoring.values)
        self._tick_sums.leave_out(time.monotonic() - started)

    def _is_stopping(self) -> bool:
        """Asked once a batch of scored images, which is progress, too."""
        self._link.progress(self._state.seen_images)
        return self._link.stop_requested()
