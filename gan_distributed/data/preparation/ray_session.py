"""A Ray to decode on: the one at RAY_ADDRESS, or one of our own. The only file of `data` that imports ray."""

import contextlib
import functools
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator

from gan_distributed import command
from gan_distributed.data.preparation.engine import Cluster
from gan_distributed.errors import GanError, InputError, StorageError


@contextlib.contextmanager
def ray_session(workers: int | None, is_local: bool) -> Iterator[Cluster | None]:
    """The Ray at RAY_ADDRESS, or one that lives as long as this. is_local: its tasks stay on this machine.

    None where they would wait for ever: this node has no CPUs for tasks, as the head of a cluster for a job.
    """
    # Ray's own token authentication is for clusters; what starts here listens on this machine only.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    local = {} if address else {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    try:
        with contextlib.ExitStack() as stack:
            if not ray.is_initialized():
                _check_address(address)
                init = functools.partial(ray.init, log_to_driver=False, logging_level=logging.ERROR, **local)
                stack.enter_context(_undisturbed(init, ray.shutdown))
            options = {}
            if is_local:
                from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

                here = ray.get_runtime_context().get_node_id()
                node = next(node for node in ray.nodes() if node["NodeID"] == here)
                if not node["Resources"].get("CPU"):
                    command.say("warning: what lies on this node is decoded here alone: Ray has none of its CPUs")
                    yield None
                    return
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
            yield Cluster(ray, workers or int(ray.cluster_resources().get("CPU", 1)), options)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GanError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        said = str(error).splitlines()[0]
        raise StorageError(
            f"a decoding process was lost ({said}); run the same command with fewer --workers"
        ) from error


@contextlib.contextmanager
def _undisturbed(start: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """Start something for the time of the block; a signal ends the block only when the start is complete.

    Both happen on a thread of their own: in the main thread Ray would take SIGTERM for itself, half a start leaves
    processes behind, and Ray is slow to stop on another thread than the one that started it.
    """
    errors: list[BaseException] = []
    # Not Thread.join: once interrupted, it takes the thread for ended.
    started, leave, stopped = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        try:
            start()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        started.set()
        leave.wait()
        stop()
        stopped.set()

    threading.Thread(target=run, name="start", daemon=True).start()
    try:
        try:
            started.wait()
        finally:
            # A second signal does not wait.
            started.wait()
        if errors:
            raise errors[0]
        yield
    finally:
        leave.set()
        if started.is_set():
            stopped.wait()


def _check_address(address: str | None) -> None:
    """Raise InputError where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(
                f"RAY_ADDRESS={address}: no Ray answers there ({error}); unset it to run on this machine"
            ) from error
