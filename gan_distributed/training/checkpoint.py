"""Checkpoints as they lie in a run's folder: two-phase commit, verification, which one is the newest. Rank 0 only.

A checkpoint exists when its COMMIT.json does; that is written last, names every file with its size and sha256, and is
created only if absent. Only then is it called saved.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gan_distributed.data import storage
from gan_distributed.data.attempts import counters
from gan_distributed.errors import (
    AlreadyExistsError,
    CheckpointError,
    MissingError,
    NotCommittedError,
    ResumeError,
    StorageError,
)
from gan_distributed.training.run_folder import RunFolder

COMMIT_NAME = "COMMIT.json"
COMMIT_FORMAT = 1
# A file that reads back as other bytes is written once more.
_WRITES = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommittedFile:
    """One file that a COMMIT.json names."""

    name: str
    bytes: int
    sha256: str


def described(name: str, data: bytes) -> CommittedFile:
    """What a commit says of these bytes."""
    return CommittedFile(name, len(data), hashlib.sha256(data).hexdigest())


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
                data = storage.read_bytes(url, file.bytes)
            except MissingError as error:
                raise CheckpointError(f"{url}: named by {COMMIT_NAME}, and not there") from error
            if described(file.name, data) == file:
                return data
            counters.add("mismatches")
        raise CheckpointError(f"{url}: {len(data)} bytes, not those that {COMMIT_NAME} names ({file.bytes} bytes)")

    def verify(self) -> None:
        """Read every file; raises CheckpointError where one is not that of the commit."""
        for role in self.files:
            self.read(role)

    def has_sizes(self) -> bool:
        """Whether every file is there in its size, without reading it."""
        return all(storage.size(storage.join(self.url, file.name)) == file.bytes for file in self.files.values())


def open_checkpoint(url: str) -> Checkpoint:
    """The checkpoint in a folder. Raises NotCommittedError, CheckpointError where its commit is damaged.

    A commit that reads as damaged is read a second time: what is damaged in the store may be deleted, what was spoiled
    on its way may not.
    """
    try:
        return _read_commit(url)
    except NotCommittedError:
        raise
    except CheckpointError:
        checkpoint = _read_commit(url)
        counters.add("mismatches")
        return checkpoint


def _read_commit(url: str) -> Checkpoint:
    commit_url = storage.join(url, COMMIT_NAME)
    try:
        commit = json.loads(storage.read_bytes(commit_url, num_bytes=0))
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
        raise NotCommittedError(f"{url}: not a committed checkpoint ({COMMIT_NAME} is missing)") from error
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


def clock_of(url: str) -> int:
    """Images seen, as the name of a checkpoint's folder says."""
    return int(url.rsplit("/", 1)[-1])


def newest_checkpoint(run: RunFolder, role: str) -> tuple[Checkpoint, bytes] | None:
    """The newest checkpoint that verifies, and its file of a role; None where none was ever committed.

    Damaged ones are passed over with a warning. Raises CheckpointError where there are only damaged ones: to start
    again would be to give up what may yet be mended.
    """
    damaged: CheckpointError | None = None
    for url in checkpoints_newest_first(run):
        try:
            checkpoint = open_checkpoint(url)
            return checkpoint, checkpoint.read(role)
        except NotCommittedError:
            continue
        except CheckpointError as error:
            logger.warning("checkpoint passed over: %s", error)
            damaged = damaged or error
    if damaged is not None:
        raise CheckpointError(
            f"{run.checkpoints_url}: no checkpoint is whole ({damaged}); bring the files back, or start again with "
            "--fresh or another --run-id"
        )
    return None


def commit_checkpoint(
    run: RunFolder, seen_images: int, attempt: int, contents: dict[str, tuple[str, bytes]], check: Callable[[], None]
) -> None:
    """Write the files, read them back, then create COMMIT.json. Returns when the checkpoint is saved.

    contents: role -> (file name pattern with `{attempt}`, bytes).   check: raises where this attempt may not commit any
    more; asked again after the commit, since whoever took over in between may not have seen it.
    """
    url = run.checkpoint_url(seen_images)
    files = {}
    for role, (pattern, data) in contents.items():
        files[role] = described(pattern.format(attempt=f"{attempt:05d}"), data)
        _write(url, files[role], data)
    named = {role: asdict(file) for role, file in files.items()}
    commit = {"format": COMMIT_FORMAT, "seen_images": seen_images, "attempt": attempt, "files": named}
    check()
    try:
        storage.create(storage.join(url, COMMIT_NAME), json.dumps(commit, indent=1).encode())
    except AlreadyExistsError:
        # Another attempt came this far at the same time. Where its checkpoint is whole, there is one.
        open_checkpoint(url).verify()
    check()


def _write(url: str, file: CommittedFile, data: bytes) -> None:
    place = storage.join(url, file.name)
    for _ in range(_WRITES):
        storage.write(place, data)
        if described(file.name, storage.read_bytes(place, file.bytes)) == file:
            return
    raise StorageError(f"{place}: reads back as other bytes than were written; look after the store or the network")
