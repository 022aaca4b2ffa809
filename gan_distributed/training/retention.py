"""Which checkpoints stay: the last few whole ones, the best, every n-th; what a crash left goes. Rank 0 only."""

import logging

from gan_distributed.config import CheckpointConfig
from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, NotCommittedError
from gan_distributed.training.checkpoint import (
    COMMIT_NAME,
    checkpoints_newest_first,
    clock_of,
    open_checkpoint,
)
from gan_distributed.training.run_folder import RunFolder

# A copy for users, written after the commit.
GENERATOR_COPY = "generator.safetensors"
logger = logging.getLogger(__name__)


class Retention:
    """Deletes older checkpoints of a run, and remembers which of the newer ones were found whole."""

    def __init__(self, run: RunFolder, config: CheckpointConfig) -> None:
        self._run, self._config = run, config
        self._verified: set[int] = set()
        self._damaged: set[int] = set()

    def committed(self, seen_images: int) -> None:
        """This attempt has just read that checkpoint back."""
        self._verified.add(seen_images)

    def apply(self, best_seen_images: int | None = None) -> None:
        """Delete what is older than `keep_last` whole checkpoints, but the best by score and multiples of
        `keep_every_kimg`. A damaged one counts for nothing, so that the only good one is never deleted.
        """
        urls = list(checkpoints_newest_first(self._run))
        if len(urls) <= self._config.keep_last:
            return
        num_whole = 0
        for url in urls:
            if num_whole < self._config.keep_last:
                num_whole += self._is_whole(url)
            elif not self._stays(clock_of(url), best_seen_images):
                delete_checkpoint(url)

    def _stays(self, seen_images: int, best_seen_images: int | None) -> bool:
        every_kimg = self._config.keep_every_kimg
        if every_kimg and seen_images % round(1000 * every_kimg) == 0:
            return True
        return seen_images == best_seen_images

    def _is_whole(self, url: str) -> bool:
        """sha256 once, sizes each time."""
        seen_images = clock_of(url)
        try:
            checkpoint = open_checkpoint(url)
            if seen_images not in self._verified:
                checkpoint.verify()
                self._verified.add(seen_images)
            elif not checkpoint.has_sizes():
                raise CheckpointError(f"{url}: a file that {COMMIT_NAME} names is missing or has another size")
        except NotCommittedError:
            return False
        except CheckpointError as error:
            if seen_images not in self._damaged:
                logger.warning("a damaged checkpoint, for which an older one is kept: %s", error)
                self._damaged.add(seen_images)
            return False
        return True


def collect_orphans(run: RunFolder, newest: int | None) -> None:
    """Delete what a crash left: folders never committed, files no commit names, damaged checkpoints behind `newest`.

    newest: images seen of the checkpoint to go on from; None: there is none. A whole checkpoint behind it was committed
    in this moment, by an attempt that was taken over, and stays.
    """
    for folder in run.written_folders:
        storage.delete_temporaries(folder)
    for url in list(checkpoints_newest_first(run)):
        named: set[str] = set()
        try:
            checkpoint = open_checkpoint(url)
            if newest is None or clock_of(url) > newest:
                checkpoint.verify()
            named = {file.name for file in checkpoint.files.values()} | {COMMIT_NAME, GENERATOR_COPY}
        except CheckpointError:
            # The commit goes first: what is half deleted is no checkpoint.
            storage.delete(storage.join(url, COMMIT_NAME))
        storage.delete_temporaries(url)
        for name in storage.names(url):
            if name not in named:
                storage.delete(storage.join(url, name))
        if not named:
            storage.delete_folder(url)


def delete_checkpoint(url: str) -> None:
    """Remove one checkpoint. The commit goes first: what is half deleted is no checkpoint."""
    storage.delete(storage.join(url, COMMIT_NAME))
    storage.delete_folder(url)
