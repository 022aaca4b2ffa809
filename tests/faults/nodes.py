"""A Ray cluster of several nodes on this machine, in folders of its own: nodes join, are drained as spot ones are, die.

The head has no CPUs, so that workers live on the other nodes only. Nothing outside this cluster is touched.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import Background, descendants
from ray_head import TOO_BUSY, join, short_folder
from servers import within

_STORE_BYTES = 100_000_000


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
        log = self.folder / f"node{len(self.spot)}.log"
        self.spot.append(join(self.cluster.address, log, num_cpus, self.environment))
        return self.spot[-1]

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

    with short_folder() as folder:
        environment = {
            "RAY_TMPDIR": folder,
            "RAY_AUTH_MODE": "disabled",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(drain_s),
        }
        head = {"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        with within(environment):
            cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        found = Nodes(cluster, Path(folder), {**environment, "RAY_ADDRESS": cluster.address})
        try:
            yield found
        finally:
            found.clear()
            cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """What starts a node, again until it does so in Ray's time."""
    while True:
        before = descendants(os.getpid())
        try:
            return start()
        except Exception as error:
            # It raises a bare Exception then.
            if TOO_BUSY not in str(error):
                raise
            # What was started lives on.
            for pid in set(descendants(os.getpid())) - set(before):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
