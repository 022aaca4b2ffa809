"""Who runs a run: numbered leases, renewed by their holder; taking over is creating the next number.

The number is also the attempt: it is in the names of all that the holder writes, so two holders never write one name.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gan_distributed.data import storage
from gan_distributed.errors import AlreadyExistsError, LeaseError, LeaseLostError, MissingError, StorageError
from gan_distributed.training.run_folder import RunFolder

LIFETIME_S = 30.0
RENEW_S = 10.0
_POLL_S = 2.0
# Clocks of machines and stores differ.
_SILENCE_S = 4 * LIFETIME_S
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseRecord:
    """One lease as it is stored. owner: the launch that it belongs to; its restarted workers share it."""

    number: int
    owner: str
    host: str
    pid: int
    process_start: str
    renewals: int
    released: bool


class Lease:
    """A held lease; a thread renews it until it is released."""

    def __init__(self, run: RunFolder, record: LeaseRecord) -> None:
        self._run, self._record = run, record
        self._stop = threading.Event()
        self._newer = 0
        self._write_lock = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def attempt(self) -> int:
        """The lease's number."""
        return self._record.number

    def check(self) -> None:
        """Raise LeaseLostError where another holder has taken over; called before anything is committed."""
        self._newer = max(self._newer, _newest_number(self._run))
        self.check_known()

    def check_known(self) -> None:
        """The same of what the last renewal saw, without asking the store; called at every step."""
        if self._newer > self.attempt:
            raise LeaseLostError(f"{self._run.url}: attempt {self._newer} took the run over; this attempt stops")

    def release(self) -> None:
        """Let the next start go on at once."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StorageError):
            self._write(released=True)

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                self._write(released=False)
                self._newer = max(self._newer, _newest_number(self._run))
            except StorageError as error:
                logger.warning("the lease could not be renewed: %s", error)

    def _write(self, released: bool) -> None:
        with self._write_lock:
            record = self._record
            self._record = LeaseRecord(**{**asdict(record), "renewals": record.renewals + 1, "released": released})
            storage.write(_lease_url(self._run, self.attempt), _encode(self._record))


def acquire(run: RunFolder, owner: str) -> Lease:
    """Take the run: at once where nobody holds it, its holder is gone, or the holder is of the same launch."""
    wait_until_free(run, owner)
    number = _newest_number(run) + 1
    record = LeaseRecord(number, owner, _host(), os.getpid(), _process_start(os.getpid()), 0, released=False)
    try:
        storage.create(_lease_url(run, number), _encode(record))
    except AlreadyExistsError as error:
        raise LeaseError(f"{run.url}: another command took the run at the same moment; try again later") from error
    storage.delete_temporaries(run.lease_url)
    return Lease(run, record)


def sign_of_life(run: RunFolder) -> Literal["new", "running", "stopped", "lost"]:
    """Whether somebody runs it now, as far as can be told without waiting; `running` where the store tells no times."""
    seen = _newest(run)
    if seen is None:
        return "new"
    if seen.released:
        return "stopped"
    if _is_dead_here(seen):
        return "lost"
    renewed = storage.modified(_lease_url(run, seen.number))
    return "lost" if renewed is not None and time.time() - renewed > _SILENCE_S else "running"


def wait_until_free(run: RunFolder, owner: str) -> None:
    """Return when the run may be taken; waits one lifetime for a holder whose fate is unknown, else LeaseError."""
    seen = _newest(run)
    if seen is None or seen.released or seen.owner == owner or _is_dead_here(seen):
        return
    logger.info(
        "%s is held by attempt %d on %s (process %d); waiting up to %.0f s for a sign of life",
        run.url,
        seen.number,
        seen.host,
        seen.pid,
        LIFETIME_S,
    )
    deadline = time.monotonic() + LIFETIME_S
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        now = _newest(run)
        if now is not None and now.number == seen.number and (now.released or _is_dead_here(now)):
            return
        if now != seen:
            raise LeaseError(
                f"{run.url}: attempt {now.number if now else '?'} is running it on {now.host if now else '?'}; "
                "wait for its end, or use another --run-id"
            )


def _newest(run: RunFolder) -> LeaseRecord | None:
    number = _newest_number(run)
    if number == 0:
        return None
    try:
        return LeaseRecord(**json.loads(storage.read_bytes(_lease_url(run, number), num_bytes=0)))
    except (MissingError, ValueError, TypeError):
        return None


def _newest_number(run: RunFolder) -> int:
    numbers = [
        int(name[:-5]) for name in storage.names(run.lease_url) if name.endswith(".json") and name[:-5].isdigit()
    ]
    return max(numbers, default=0)


def _lease_url(run: RunFolder, number: int) -> str:
    return storage.join(run.lease_url, f"{number:06d}.json")


def _encode(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record)).encode()


def _host() -> str:
    """This machine since it was started, and the name space of its process numbers: containers share the rest."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _process_start(pid: int) -> str:
    """The start time of a process in kernel ticks, which tells it from a later one of the same number."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return ""


def _is_dead_here(record: LeaseRecord) -> bool:
    if record.host != _host():
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _process_start(record.pid) != record.process_start
