"""A Ray head that takes jobs, in processes and folders of its own, and nodes that join it, as pods run them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from commands import Background, run
from servers import free_port, get

BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
# Ray gives a node 30 s to start, which a busy machine may not keep.
TOO_BUSY = "timed out during startup"
_STORE_BYTES = 100_000_000


@dataclass(frozen=True)
class Head:
    """The head. address: where nodes join.   dashboard: where jobs go.   environment: what its nodes and clients need.

    submit: the words of Ray's own submission of the checkout.
    """

    process: Background
    address: str
    dashboard: str
    environment: dict[str, str]

    @property
    def submit(self) -> list[str]:
        return [RAY, "job", "submit", "--working-dir", str(Path(__file__).parents[1])]

    def submitted(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """The end of Ray's own submission; the head answers before its agent is there to take jobs."""
        deadline = time.monotonic() + 120
        while "No available agent" in (ended := run([*self.submit, *words], **self.environment)).stdout + ended.stderr:
            assert time.monotonic() < deadline, ended.stdout + ended.stderr
            time.sleep(1)
        return ended


@contextlib.contextmanager
def job_head(logs: Path, num_cpus: int = 3, **environment: str) -> Iterator[Head]:
    """A head, from the moment it answers. logs: where its log lies.   environment: of all that runs there, too."""
    port, dashboard = free_port(), f"http://127.0.0.1:{free_port()}"
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled", **environment}
    environment["RAY_API_SERVER_ADDRESS"] = dashboard
    # From SIGTERM to SIGKILL; Ray's 3 s are short where the machine is busy or the bucket far.
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = "60"
    with short_folder() as folder:
        words = [RAY, "start", "--head", "--block", f"--num-cpus={num_cpus}", f"--port={port}", f"--temp-dir={folder}"]
        words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard.rpartition(':')[2]}"]
        # Ports of its own: where another cluster's agent has the port, the dashboard gives that one the jobs.
        words += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
        words += [f"--object-store-memory={2 * _STORE_BYTES}", "--disable-usage-stats"]
        with _started(words, logs / "head.log", environment) as process:
            process.wait_for(lambda: _answers(f"{dashboard}/api/version"))
            yield Head(process, f"127.0.0.1:{port}", dashboard, environment)


def join(address: str, log: Path, num_cpus: int, environment: dict[str, str]) -> Background:
    """A node as a pod runs it: `ray start --block`, which SIGTERM drains."""
    words = [RAY, "start", f"--address={address}", "--block", f"--num-cpus={num_cpus}", "--disable-usage-stats"]
    # Agents of its own, that do not take the ports of another node's.
    words += [f"--object-store-memory={_STORE_BYTES}", f"--dashboard-agent-listen-port={free_port()}"]
    return _started(words, log, environment)


def _started(words: list[str], log: Path, environment: dict[str, str]) -> Background:
    """What runs on a node, once it does."""
    while True:
        mark = f"GAN_DISTRIBUTED_NODE={uuid.uuid4().hex}"
        node = Background(words, log, **environment, **dict([mark.split("=")]))
        while "Ray runtime started" not in node.log():
            if node.process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return node
        # Whatever it had started already lives on.
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark.encode() in place.read_bytes():
                    os.kill(int(place.parent.name), signal.SIGKILL)
        assert TOO_BUSY in node.log(), node.log()


@contextlib.contextmanager
def short_folder() -> Iterator[str]:
    """A folder in which paths of sockets are not too long."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False
