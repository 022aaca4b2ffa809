"""A Ray cluster of several nodes on this machine, in folders of its own: nodes join, are drained as spot ones are, die.

The head has no CPUs, so that workers live on the other nodes only. Nothing outside this cluster is touched.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import Background, descendants
from servers import within

_STORE_BYTES = 100_000_000
# Ray gives a node 30 s to start, which a busy machine may not keep; it raises a bare Exception then.
_TOO_BUSY = "timed out during startup"


@dataclass
class Nodes:
    """The cluster. environment: what commands need to find it."""

    cluster: Any
    folder: Path
    environment: dict[str, str]
    spot: list[Background] = field(default_factory=list)

    def add(self, num_cpus: int = 1) -> Any:
        """A node by `ray.cluster_utils`; `kill` ends it at once."""
        # Only while something starts: the head outlives many tests.
        with within(self.environment):
            return _patiently(lambda: self.cluster.add_node(num_cpus=num_cpus, object_store_memory=_STORE_BYTES))

    def kill(self, node: Any) -> None:
        """SIGKILL of everything on a node."""
        self.cluster.remove_node(node, allow_graceful=False)

    def add_spot(self, num_cpus: int = 1) -> Background:
        """A node as a pod runs it: `ray start --block`, which SIGTERM drains."""
        words = [str(Path(sys.executable).parent / "ray"), "start", f"--address={self.cluster.address}", "--block"]
        words += [f"--num-cpus={num_cpus}", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"]
        while True:
            node = Background(words, self.folder / f"node{len(self.spot)}.log", **self.environment)
            self.spot.append(node)
            while "Ray runtime started" not in node.log():
                if node.process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return node
            assert _TOO_BUSY in node.log(), node.log()

    def drain(self, node: Background) -> None:
        """What the kubelet does when a spot machine is taken back."""
        node.process.send_signal(signal.SIGTERM)

    def clear(self) -> None:
        """End every node but the head."""
        for spot in self.spot:
            spot.kill()
        for node in list(self.cluster.worker_nodes):
            self.kill(node)


@contextlib.contextmanager
def nodes(drain_s: int = 12) -> Iterator[Nodes]:
    """A head without CPUs; nodes are added. drain_s: how long a drained node lives on."""
    from ray.cluster_utils import Cluster

    # Sockets below the folder must have short paths.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    environment = {
        "RAY_TMPDIR": folder,
        "RAY_AUTH_MODE": "disabled",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_s),
    }
    head = {"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    try:
        with within(environment):
            cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        found = Nodes(cluster, Path(folder), {**environment, "RAY_ADDRESS": cluster.address})
        try:
            yield found
        finally:
            found.clear()
            cluster.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _patiently(start: Callable[[], Any]) -> Any:
    """What starts a node, again until it does so in Ray's time."""
    while True:
        before = descendants(os.getpid())
        try:
            return start()
        except Exception as error:
            if _TOO_BUSY not in str(error):
                raise
            # What was started lives on.
            for pid in set(descendants(os.getpid())) - set(before):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
