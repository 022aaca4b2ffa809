"""Checkpoints: two-phase commit, verification, retention, and the thread that writes them. Rank 0 only.

A checkpoint exists when its COMMIT.json does; that is written last, names every file with its size and sha256, and is
created only if absent. Only then is it called saved.
"""

import hashlib
import json
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gan_distributed.config import CheckpointConfig
from gan_distributed.data import storage
from gan_distributed.data.attempts import counters
from gan_distributed.errors import CheckpointError, MissingError, ResumeError, StorageError
from gan_distributed.training.run_folder import RunFolder

COMMIT_NAME = "COMMIT.json"
COMMIT_FORMAT = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommittedFile:
    """One file that a COMMIT.json names."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its folder, its clock and its files by role (state, generator, config)."""

    url: str
    seen_images: int
    files: dict[str, CommittedFile]

    def read(self, role: str) -> bytes:
        """The bytes of one file, verified; raises CheckpointError where they are not those of the commit."""
        if role not in self.files:
            raise CheckpointError(f"{self.url}: {COMMIT_NAME} names no {role}")
        file = self.files[role]
        url = storage.join(self.url, file.name)
        # What was spoiled on its way is right the second time; one that is passed over is lost.
        for _ in range(2):
            try:
                data = storage.read_bytes(url)
            except MissingError as error:
                raise CheckpointError(f"{url}: named by {COMMIT_NAME}, and not there") from error
            if len(data) == file.bytes and hashlib.sha256(data).hexdigest() == file.sha256:
                return data
            counters.add("mismatches")
        raise CheckpointError(f"{url}: {len(data)} bytes, not those that {COMMIT_NAME} names ({file.bytes} bytes)")


def open_checkpoint(url: str) -> Checkpoint:
    """The checkpoint in a folder; raises CheckpointError where it was never committed or is damaged."""
    commit_url = storage.join(url, COMMIT_NAME)
    try:
        commit = json.loads(storage.read_bytes(commit_url))
        if commit["format"] != COMMIT_FORMAT:
            # Never passed over: what is passed over may be deleted.
            raise ResumeError(
                f"{commit_url}: format {commit['format']!r}, this program reads "
                f"{COMMIT_FORMAT}; use the version that wrote it"
            )
        files = {role: CommittedFile(**file) for role, file in commit["files"].items()}
        _check_commit(url, commit["seen_images"], files)
        return Checkpoint(url, commit["seen_images"], files)
    except MissingError as error:
        raise CheckpointError(f"{url}: not a committed checkpoint ({COMMIT_NAME} is missing)") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{commit_url}: damaged ({' '.join(str(error).split())})") from error


def _check_commit(url: str, seen_images: Any, files: dict[str, CommittedFile]) -> None:
    """Raise ValueError where a commit is not of this folder; what is newer than a checkpoint is deleted on a resume."""
    folder = url.rstrip("/").rsplit("/", 1)[-1]
    if type(seen_images) is not int or (folder.isdigit() and int(folder) != seen_images):
        raise ValueError(f"seen_images is {seen_images!r}")
    for file in files.values():
        if not isinstance(file.name, str) or not re.fullmatch(r"\w[\w.-]*", file.name, re.ASCII):
            raise ValueError(f"{file.name!r} is no name of a file")


def checkpoints_newest_first(run: RunFolder) -> Iterator[str]:
    """Folders of checkpoints, committed or not."""
    for name in reversed(storage.names(run.checkpoints_url)):
        if name.isdigit():
            yield storage.join(run.checkpoints_url, name)


def newest_checkpoint(run: RunFolder, role: str) -> tuple[Checkpoint, bytes] | None:
    """The newest checkpoint that verifies, and its file of a role; damaged and uncommitted ones are passed over."""
    for url in checkpoints_newest_first(run):
        try:
            checkpoint = open_checkpoint(url)
            return checkpoint, checkpoint.read(role)
        except CheckpointError as error:
            logger.warning("checkpoint passed over: %s", error)
    return None


def collect_orphans(run: RunFolder, newest: int) -> None:
    """Delete what a crash left: folders never committed, files no commit names, damaged checkpoints behind `newest`."""
    for url in checkpoints_newest_first(run):
        try:
            named = {file.name for file in open_checkpoint(url).files.values()} | {COMMIT_NAME, "generator.safetensors"}
        except CheckpointError:
            named = set()
        if int(url.rsplit("/", 1)[-1]) > newest:
            named = set()
        for name in storage.names(url):
            if name not in named:
                storage.delete(storage.join(url, name))
        if not named:
            storage.delete_folder(url)


def commit_checkpoint(
    run: RunFolder, seen_images: int, attempt: int, contents: dict[str, tuple[str, bytes]], check: Callable[[], None]
) -> None:
    """Write the files, then COMMIT.json if absent; `check` raises where this attempt may not commit any more.

    contents: role -> (file name pattern with `{attempt}`, bytes).
    """
    url = run.checkpoint_url(seen_images)
    files: dict[str, Any] = {}
    for role, (pattern, data) in contents.items():
        name = pattern.format(attempt=f"{attempt:05d}")
        storage.write(storage.join(url, name), data)
        files[role] = {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    commit = {"format": COMMIT_FORMAT, "seen_images": seen_images, "attempt": attempt, "files": files}
    check()
    storage.create(storage.join(url, COMMIT_NAME), json.dumps(commit, indent=1).encode())
    storage.write(storage.join(url, "generator.safetensors"), contents["generator"][1])


def retain(run: RunFolder, config: CheckpointConfig, best_seen_images: int | None = None) -> None:
    """Delete committed checkpoints but the last `keep_last`, the best by score, and multiples of `keep_every_kimg`."""
    committed = [url for url in checkpoints_newest_first(run) if storage.exists(storage.join(url, COMMIT_NAME))]
    for url in committed[config.keep_last :]:
        seen_images = int(url.rsplit("/", 1)[-1])
        if config.keep_every_kimg and seen_images % round(1000 * config.keep_every_kimg) == 0:
            continue
        if seen_images != best_seen_images:
            delete_checkpoint(url)


def delete_checkpoint(url: str) -> None:
    """Remove one checkpoint. The commit goes first: what is half deleted is no checkpoint."""
    storage.delete(storage.join(url, COMMIT_NAME))
    storage.delete_folder(url)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was committed, and the seconds from the snapshot to the commit."""

    seen_images: int
    seconds: float


class CheckpointWriter:
    """Commits snapshots on a thread of its own; the step waits only while an older one is still being written.

    write(seen_images, snapshot) encodes and commits; failures are kept and raised at the next call.
    """

    def __init__(self, write: Callable[[int, dict[str, Any]], None]) -> None:
        self._write = write
        self._queue: queue.Queue[tuple[int, dict[str, Any], float] | None] = queue.Queue(maxsize=1)
        self._finished: queue.SimpleQueue[Saved | Exception] = queue.SimpleQueue()
        self.failures = 0
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        self._thread.start()

    def submit(self, seen_images: int, snapshot: dict[str, Any]) -> None:
        """Hand a snapshot over."""
        self._queue.put((seen_images, snapshot, time.monotonic()))

    def finished(self) -> list[Saved]:
        """Checkpoints committed since the last call. Raises what made this attempt unfit to commit."""
        saved = []
        while not self._finished.empty():
            outcome = self._finished.get()
            if isinstance(outcome, StorageError):
                # The store may come back before the next checkpoint; the old one still stands.
                self.failures += 1
                logger.warning("a checkpoint was not saved: %s", outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                saved.append(outcome)
        return saved

    def close(self) -> None:
        """Wait until everything handed over is written."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            seen_images, snapshot, started = item
            try:
                self._write(seen_images, snapshot)
                self._finished.put(Saved(seen_images, time.monotonic() - started))
            except Exception as error:  # noqa: BLE001 - raised in the training thread by finished()
                self._finished.put(error)
