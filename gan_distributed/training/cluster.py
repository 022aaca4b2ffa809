"""The job on Ray: joins or starts a cluster, runs Ray Train there, and passes lines and the stop flag to and fro.

Ray restarts the workers without limit; the mailbox counts failures and says when to give up.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from gan_distributed import command
from gan_distributed.config import Config
from gan_distributed.errors import InputError, TrainingError
from gan_distributed.training import lease
from gan_distributed.training.layout import Layout, layout_of, local_cpus, tell_layout, usable_cores
from gan_distributed.training.mailbox import Deadlines, Ended, Mailbox, Posted, View
from gan_distributed.training.memory import keep_freed_memory_of_children
from gan_distributed.training.metrics import ControllerMetrics
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.ray_worker import run_in_ray
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.stop_signals import NO_LAST_CHECKPOINT
from gan_distributed.training.worker import Assignment

_POLL_S = 0.2
# How long a resize waits for its checkpoint.
_RESIZE_SAVE_S = 60.0
_ENDLESS = -1
_STARTS = 3


def train_on_ray(
    assignment: Assignment, stop_requested: Callable[[], bool], take_signals: Callable[[], None]
) -> Outcome:
    """Run the job to its end, through deaths of workers. Raises GanError.

    take_signals: called once Ray runs, since ray.init takes SIGTERM for itself.
    """
    config = assignment.config
    # Before Ray is started: a second command on a live run ends here, in seconds.
    lease.wait_until_free(RunFolder(assignment.run_url), assignment.owner)
    with ray_cluster(config, stop_requested) as nodes, contextlib.ExitStack() as stack:
        take_signals()
        layout = layout_of(config, nodes)
        metrics = stack.enter_context(contextlib.closing(ControllerMetrics(config, stop_requested)))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gan-distributed-"))
        tell_layout(config, layout)
        outcome = _fit(assignment, layout, scratch, metrics, stop_requested)
        metrics.finish(outcome)
        return outcome


def _fit(
    assignment: Assignment, layout: Layout, scratch: str, metrics: ControllerMetrics, stop_requested: Callable[[], bool]
) -> Outcome:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cluster = assignment.config.cluster
    # On the driver's node, with which it lives and dies.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote(cluster.max_failures)
    fit = FitThread(_trainer(assignment, layout, scratch, mailbox))
    wait = Deadlines(cluster.stop_grace_s)
    view = View()
    while True:
        alive, stopping = fit.is_alive(), stop_requested()
        try:
            view = ray.get(mailbox.look.remote(stopping))
        except ray.exceptions.RayError as error:
            raise TrainingError(
                f"the Ray cluster is gone ({str(error).splitlines()[0]}); the same command, here or on another "
                f"cluster, goes on from {max(view.committed, 0) / 1000:.1f} kimg"
            ) from error
        command.about(kimg=view.seen_images / 1000)
        for line in view.lines:
            command.say(line, rank=0 if isinstance(line, Posted) else None)
        metrics.publish(view)
        if not alive or wait.is_over(view, stopping):
            break
        time.sleep(_POLL_S)
    if view.outcome is not None:
        outcome: Outcome = view.outcome
        return outcome
    if view.error is not None:
        raise view.error
    if stop_requested():
        command.say(NO_LAST_CHECKPOINT)
        return Outcome("stopped", max(view.committed, 0), {}, None)
    raise TrainingError(f"the workers ended without a result: {fit.told() or 'no error was reported'}")


def _trainer(assignment: Assignment, layout: Layout, scratch: str, mailbox: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cluster = assignment.config.cluster
    return TorchTrainer(
        run_in_ray,
        train_loop_config={"assignment": assignment, "mailbox": mailbox, "cpus_per_worker": layout.cpus_per_worker},
        scaling_config=ScalingConfig(
            num_workers=layout.workers if layout.is_elastic else layout.workers[0],
            elastic_resize_monitor_interval_s=cluster.resize_check_s,
            use_gpu=layout.use_gpu,
            resources_per_worker={"CPU": layout.cpus_per_worker, **({"GPU": 1} if layout.use_gpu else {})},
        ),
        # Ray is given no checkpoint: it keeps only its own notes here, on this node.
        run_config=RunConfig(
            name=assignment.owner,
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=_ENDLESS),
            callbacks=[_observer(mailbox)],
        ),
        torch_config=TorchConfig(timeout_s=round(cluster.collective_timeout_s)),
    )


def _observer(mailbox: Any) -> Any:
    """Tells the mailbox of ends and resizes, in Ray's controller. Its callbacks are Ray 2.60's own, hence the pin."""
    import ray
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2._internal.execution.controller import state

    class Observer(ControllerCallback):  # type: ignore[misc]
        def after_controller_state_update(self, _previous: Any, current: Any) -> None:
            if isinstance(current, state.RestartingState | state.ReschedulingState):
                ray.get(mailbox.end.remote(_ended(current.training_failed_error)))
            elif isinstance(current, state.ResizingState):
                # The controller waits here, and ends the workers after.
                goal = ray.get(mailbox.resize.remote(current.scaling_decision.num_workers))
                deadline = time.monotonic() + _RESIZE_SAVE_S
                while ray.get(mailbox.committed.remote()) < goal and time.monotonic() < deadline:
                    time.sleep(_POLL_S)

    return Observer()


def _ended(error: Any) -> Ended:
    from ray.train.v2._internal.exceptions import (
        WorkerGroupStartupTimeoutError,
        WorkerHealthCheckFailedError,
        WorkerHealthCheckTimeoutError,
    )
    from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

    if isinstance(error, PreemptionError):
        return Ended({}, str(error), is_preempted=True)
    if isinstance(error, WorkerGroupError):
        dead = (WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError)
        deaths = {rank: found for rank, found in error.worker_failures.items() if isinstance(found, dead)}
        causes = [getattr(found, "health_check_failure", None) for found in deaths.values()]
        preempted = any(getattr(cause, "preempted", False) for cause in causes)
        return Ended({rank: str(found) for rank, found in deaths.items()}, str(error), is_preempted=preempted)
    waiting = isinstance(error, ControllerError) and isinstance(
        error.controller_failure, WorkerGroupStartupTimeoutError
    )
    return Ended({}, str(error), is_waiting=waiting)


class FitThread(threading.Thread):
    """trainer.fit() off the main thread, where it leaves the signal handlers alone."""

    def __init__(self, trainer: Any) -> None:
        super().__init__(name="fit", daemon=True)
        self._trainer = trainer
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Wait for the job."""
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self._error = error

    def told(self) -> str | None:
        """What went wrong, in a line; None where nothing did."""
        return None if self._error is None else last_line(self._error)


def last_line(error: BaseException) -> str:
    """Where Ray tells the cause, after the traces of all processes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def ray_cluster(config: Config, stop_requested: Callable[[], bool]) -> Iterator[list[dict[str, float]]]:
    """Connect to the cluster that is configured, or start one on this machine; yields what each node declares.

    A process that was asked to stop stays connected to a cluster that is not its own: its end disconnects it at once,
    and Ray's farewell may take longer than a grace period.
    """
    _set_intervals(config)
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    import torch

    try:
        if address:
            _init(address=address)
        else:
            if not torch.cuda.is_available():
                keep_freed_memory_of_children()
            # Nobody drains the one node, so that a process of 200 MB that asks for it each second is saved.
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
            _init(address="local", num_cpus=local_cpus(config), include_dashboard=False)
    except ConnectionError as error:
        raise InputError(f"cluster.address {address}: no Ray cluster answers there ({error})") from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not address:
            # A local Ray declares more CPUs than there are, a cluster has those it declares.
            gpus = nodes[0].get("GPU", 0.0) if torch.cuda.is_available() else 0.0
            nodes = [{"CPU": float(usable_cores()), "GPU": gpus}]
        yield nodes
    finally:
        if not (address and stop_requested()):
            ray.shutdown()


def _init(**options: Any) -> None:
    """ray.init, again where this machine was too busy to start Ray in the half minute that it is given."""
    import ray

    for left in reversed(range(_STARTS)):
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except Exception as error:
            # Ray raises a bare Exception here, and in no other words.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not left:
                raise TrainingError(
                    f"Ray did not start within 30 s, {_STARTS} times; is the machine too busy? ({error})"
                ) from error
            command.say("Ray did not start within 30 s; trying again")
        else:
            return


def _set_intervals(config: Config) -> None:
    """Ray Train's own intervals, which it takes from the environment; what the user set stays."""
    stall_s = config.cluster.stall_timeout_s
    intervals = {
        # How often the controller looks whether the workers are done; its default of 2 s is felt in short runs.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": 0.5,
        # How long a worker may not answer; the default is 600 s.
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": stall_s,
        # How often nodes are asked whether they are drained; the default is 5 s of a notice of perhaps 25 s.
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": 1,
    }
    worker_range = config.cluster.worker_range
    if worker_range is not None and worker_range[0] < worker_range[1]:
        # After a node was lost, the first try still counts on it; the default is 60 s.
        intervals["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = 20
    for name, seconds in intervals.items():
        os.environ.setdefault(name, str(seconds))
