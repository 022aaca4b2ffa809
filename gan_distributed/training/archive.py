"""What one attempt writes of its state: the files of a checkpoint, their commit, the copy for users. Rank 0 only."""

from collections.abc import Callable
from typing import Any

from gan_distributed.config import Config, to_yaml
from gan_distributed.data import storage
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.checkpoint import commit_checkpoint, open_checkpoint
from gan_distributed.training.lease import Lease
from gan_distributed.training.records import Recorder
from gan_distributed.training.retention import GENERATOR_COPY, Retention
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.snapshot import Snapshot
from gan_distributed.training.state import encode_generator, encode_state, generator_metadata


class Archive:
    """Commits checkpoints as the holder of a lease, and keeps as many as are configured.

    class_names: of the data set, for whoever asks the generator for a class.   recorder: what was recorded before a
    checkpoint is written before its commit.   committed: called with the images seen once a checkpoint is saved.
    """

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        images: ImageSpec,
        class_names: tuple[str, ...],
        recorder: Recorder,
        holder: Lease,
        committed: Callable[[int], None],
    ) -> None:
        self._config, self._run, self._images, self._holder = config, run, images, holder
        self._class_names, self._recorder = class_names, recorder
        self._retention, self._committed = Retention(run, config.checkpoint), committed

    def take_over(self, seen_images: int, best_seen_images: int | None) -> None:
        """What a crash after the commit of the newest checkpoint left undone. seen_images: that one's, -1 for none."""
        if seen_images < 0:
            return
        copy = storage.join(self._run.checkpoint_url(seen_images), GENERATOR_COPY)
        if not storage.exists(copy):
            storage.write(copy, open_checkpoint(self._run.checkpoint_url(seen_images)).read("generator"))
        self._retention.apply(best_seen_images)

    def commit(self, seen_images: int, snapshot: Snapshot) -> None:
        """Return when the checkpoint is saved. Raises StorageError, CheckpointError, LeaseLostError."""
        generator = self._encoded_generator(seen_images, snapshot.on_host())
        contents = {
            "state": ("state-{attempt}.pt", encode_state(snapshot)),
            "generator": ("generator-{attempt}.safetensors", generator),
            "config": ("config-{attempt}.yaml", to_yaml(self._config).encode()),
        }
        # Who goes on from here makes no record of the steps before.
        self._recorder.flush()
        commit_checkpoint(self._run, seen_images, self._holder.attempt, contents, self._holder.check)
        self._retention.committed(seen_images)
        self._committed(seen_images)

    def tidy(self, seen_images: int, snapshot: Snapshot) -> None:
        """The copy of the generator for users, which resume never reads; then the checkpoints that need not stay."""
        state = snapshot.on_host()
        copy = storage.join(self._run.checkpoint_url(seen_images), GENERATOR_COPY)
        storage.write(copy, self._encoded_generator(seen_images, state))
        self._retention.apply(clock_of_best(state["best_score"]))

    def _encoded_generator(self, seen_images: int, state: dict[str, Any]) -> bytes:
        metadata = generator_metadata(self._config, self._images, self._class_names, seen_images)
        return encode_generator(state["ema"], metadata)


def clock_of_best(best_score: dict[str, Any] | None) -> int | None:
    """Images seen at the best score."""
    return None if best_score is None else int(best_score["seen_images"])
