"""When the state is saved, decided by all ranks alike; rank 0 hands it over, tells what became of it, and gives up."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan_distributed.config import Config
from gan_distributed.errors import TrainingError
from gan_distributed.training.checkpoint_writer import CheckpointWriter
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.records import Recorder
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.schedule import crossed
from gan_distributed.training.sinks import Sink
from gan_distributed.training.state import NonfiniteError, TrainState


@dataclass(frozen=True)
class Scribe:
    """What only rank 0 has: the places it writes to. check_held: raises where it knows that it lost the run."""

    run: RunFolder
    attempt: int
    check_held: Callable[[], None]
    writer: CheckpointWriter
    recorder: Recorder
    say: Callable[[str], None]
    sinks: Sequence[Sink] = ()


class Saving:
    """Checkpoints of one attempt. scribe: None on ranks that write nothing."""

    def __init__(
        self,
        config: Config,
        state: TrainState,
        metrics: WorkerMetrics,
        scribe: Scribe | None,
    ) -> None:
        self._config, self._state, self._metrics, self._scribe = config, state, metrics, scribe
        # The newest checkpoint handed over, and the newest that is known to be committed.
        self._handed_over = self._saved = state.saved_seen_images
        # What came from another run is saved at once: it may be gone when this one is resumed.
        self._due = config.from_checkpoint is not None and state.saved_seen_images < 0
        self._gave_up = False

    @property
    def saved_seen_images(self) -> int:
        """Images seen at the newest checkpoint that is known to be committed; -1 before the first one."""
        return self._saved

    def turn(self, before: int) -> None:
        """Take note of a turn of the loop. before: images seen at the last one, -1 in the first."""
        self._due |= before >= 0 and crossed(before, self._state.seen_images, self._config.checkpoint.every_kimg)

    def now(self) -> None:
        """The state is saved in this turn, whatever the interval: it is the best one, or was asked for."""
        self._due = True

    def save(self, last: bool) -> None:
        """Hand the state over where it is due; every rank calls it. last: wait until it is saved.

        Raises NonfiniteError, LeaseLostError, TrainingError.
        """
        state = self._state
        if last or self._due:
            # A state in a row of skipped steps is not one to go back to. Device sync.
            healthy = int(state.skipped[1]) == 0
            if (healthy or last) and state.seen_images > self._handed_over:
                if not state.is_finite():
                    raise NonfiniteError("the state holds numbers that are not finite")
                digest = state.global_digest()
                self._handed_over = state.seen_images
                self._due = False
                if self._scribe is not None:
                    self._scribe.writer.submit(state.seen_images, state.snapshot(digest))
        if self._scribe is None:
            return
        writer, run = self._scribe.writer, self._scribe.run
        if last:
            writer.close()
        for saved in writer.finished():
            self._scribe.say(f"saved checkpoint {run.checkpoint_url(saved.seen_images)}")
            self._metrics.publish_checkpoint(saved.seconds, saved.seen_images, time.time())
            self._saved = saved.seen_images
        self._metrics.publish_checkpoint_failures(writer.failures)
        if last:
            self._check_last(writer, run)

    def is_overdue(self) -> bool:
        """Whether the store took no checkpoint for so long that the run is to stop; for rank 0."""
        limit = self._config.checkpoint.max_unsaved_kimg
        if self._gave_up or self._scribe is None or limit is None or self._handed_over <= self._saved:
            # Once asked for, a stop is not taken back: the other ranks may know of it.
            return self._gave_up
        self._gave_up = self._state.seen_images - max(0, self._saved) > 1000 * limit
        return self._gave_up

    def _check_last(self, writer: CheckpointWriter, run: RunFolder) -> None:
        is_saved = self._saved == self._state.seen_images
        if self._gave_up:
            limit = self._config.checkpoint.max_unsaved_kimg
            ended = "then a last one was saved" if is_saved else f"the last one is at {max(0, self._saved) / 1000:.1f}"
            raise TrainingError(
                f"{run.url}: stopped at {self._state.seen_images / 1000:.1f} kimg, as no checkpoint could be saved for "
                f"checkpoint.max_unsaved_kimg {limit:g}, {ended} ({writer.last_failure}); look after the store and run "
                "the same command again"
            )
        if not is_saved:
            told = f" ({writer.last_failure})" if writer.last_failure else ""
            raise TrainingError(f"{run.url}: the last checkpoint could not be saved{told}; run the same command again")
