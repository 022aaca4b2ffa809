"""The job on Ray: joins or starts a cluster, runs Ray Train there, and passes lines and the stop flag to and fro."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gan_distributed import command
from gan_distributed.config import Config
from gan_distributed.data.order import equal_batches
from gan_distributed.errors import GanError, InputError, TrainingError
from gan_distributed.training import lease
from gan_distributed.training.loop import Outcome
from gan_distributed.training.metrics import ControllerMetrics
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.worker import Assignment, run_in_ray

_POLL_S = 0.3
_LAST_WORDS_S = 5.0
_FEW_IMAGES = 16


@dataclass(frozen=True)
class Layout:
    """How many workers there are, and what each has."""

    workers: int
    use_gpu: bool
    cpus: int


def train_on_ray(
    assignment: Assignment, stop_requested: Callable[[], bool], take_signals: Callable[[], None]
) -> Outcome:
    """Run the job to its end, through deaths of workers. Raises GanError.

    take_signals: called once Ray runs, since ray.init takes SIGTERM for itself.
    """
    config = assignment.config
    # Before Ray is started: a second command on a live run ends here, in seconds.
    lease.wait_until_free(RunFolder(assignment.run_url), assignment.owner)
    with _ray_cluster(config) as resources, contextlib.ExitStack() as stack:
        take_signals()
        layout = _layout(config, resources)
        metrics = stack.enter_context(contextlib.closing(ControllerMetrics(config.metrics, str(config.run_id))))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gan-distributed-"))
        _tell_layout(config, layout)
        return _fit(assignment, layout, scratch, metrics, stop_requested)


@dataclass
class Mailbox:
    """An actor between the driver and rank 0: lines to print, the stop flag, how the run ended."""

    lines: list[str] = field(default_factory=list)
    stopping: bool = False
    attempts: int = 0
    outcome: Any = None
    error: GanError | None = None

    def post(self, line: str) -> None:
        """A line from rank 0."""
        self.lines.append(line)

    def count_attempt(self) -> None:
        """A worker group has started."""
        self.attempts += 1

    def stop_requested(self) -> bool:
        """Whether the driver was asked to stop."""
        return self.stopping

    def finish(self, outcome: Any) -> None:
        """The run ended well."""
        self.outcome = outcome

    def fail(self, error: GanError) -> None:
        """The run ended with an error that a new start would only meet again."""
        self.error = error

    def look(self, stop: bool) -> "Mailbox":
        """Hand the driver what is new; take its stop flag."""
        self.stopping = self.stopping or stop
        seen = Mailbox(self.lines, self.stopping, self.attempts, self.outcome, self.error)
        self.lines = []
        return seen


def _tell_layout(config: Config, layout: Layout) -> None:
    workers, batch_size, lanes = layout.workers, config.training.batch_size, config.data.num_lanes
    device = "1 GPU" if layout.use_gpu else "no GPU"
    local = f"{batch_size / workers:g} images of each batch"
    command.say(f"{workers} workers, {device}, {layout.cpus} CPU threads and {local} each")
    if not equal_batches(batch_size, lanes, workers):
        fitting = [count for count in range(1, lanes + 1) if equal_batches(batch_size, lanes, count)]
        equal = ", ".join(map(str, fitting)) or f"none; data.num_lanes {lanes} must divide batch_size {batch_size}"
        command.say(f"the workers' batches differ in size; numbers of workers with equal ones: {equal}")
    if layout.use_gpu and batch_size / workers < _FEW_IMAGES:
        command.say(
            f"warning: below {_FEW_IMAGES} images a GPU starves; {max(1, batch_size // _FEW_IMAGES)} workers are enough"
        )


def _fit(
    assignment: Assignment, layout: Layout, scratch: str, metrics: ControllerMetrics, stop_requested: Callable[[], bool]
) -> Outcome:
    import ray

    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    fit = _FitThread(_trainer(assignment, layout, scratch, mailbox))
    seen, attempts = Mailbox(), 1
    deadline: float | None = None
    while True:
        alive = fit.is_alive()
        seen = ray.get(mailbox.look.remote(stop_requested()))
        for line in seen.lines:
            command.say(line)
        for _ in range(attempts, seen.attempts):
            command.say("a worker died; the workers were started again from the last checkpoint")
            metrics.count_restart()
        attempts = max(attempts, seen.attempts)
        if not alive:
            break
        if seen.error is not None:
            # fit() would start the workers again; give the others a moment to end, then leave.
            deadline = deadline or time.monotonic() + _LAST_WORDS_S
            if time.monotonic() > deadline:
                break
        time.sleep(_POLL_S)
    if seen.error is not None:
        raise seen.error
    if seen.outcome is None:
        raise TrainingError(f"the workers ended without a result: {fit.told()}")
    outcome: Outcome = seen.outcome
    return outcome


def _trainer(assignment: Assignment, layout: Layout, scratch: str, mailbox: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cluster = assignment.config.cluster
    return TorchTrainer(
        run_in_ray,
        train_loop_config={"assignment": assignment, "mailbox": mailbox, "num_threads": layout.cpus},
        scaling_config=ScalingConfig(
            num_workers=layout.workers,
            use_gpu=layout.use_gpu,
            resources_per_worker={"CPU": layout.cpus, **({"GPU": 1} if layout.use_gpu else {})},
        ),
        # Ray is given no checkpoint: it keeps only its own notes here, on this node.
        run_config=RunConfig(
            name=assignment.owner,
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
        torch_config=TorchConfig(timeout_s=round(cluster.collective_timeout_s)),
    )


class _FitThread(threading.Thread):
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

    def told(self) -> str:
        """The last line of what went wrong."""
        lines = [line for line in str(self._error or "no error was reported").splitlines() if line.strip()]
        return lines[-1].strip()


@contextlib.contextmanager
def _ray_cluster(config: Config) -> Iterator[dict[str, float]]:
    """Connect to the cluster that is configured, or start one on this machine; yields its resources."""
    # The controller looks this often whether the workers are done; its default of 2 s is felt in short runs.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    import torch

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    cores = os.cpu_count() or 1
    try:
        if address:
            ray.init(address=address, **options)
        else:
            # As many logical CPUs as the workers need: more one-thread workers than cores only run slower.
            needed = (config.cluster.workers or 2) * (config.cluster.cpus_per_worker or 1)
            if config.cluster.workers and needed > cores:
                command.say(f"warning: {needed} worker threads on {cores} cores; they will take turns")
            ray.init(address="local", num_cpus=max(cores, needed), include_dashboard=False, **options)
    except ConnectionError as error:
        raise InputError(f"cluster.address {address}: no Ray cluster answers there ({error})") from error
    try:
        resources = ray.cluster_resources()
        if not address and not torch.cuda.is_available():
            resources.pop("GPU", None)
        # A local Ray declares more CPUs than there are, a cluster has those it declares.
        yield resources if address else {**resources, "CPU": float(cores)}
    finally:
        ray.shutdown()


def _layout(config: Config, resources: dict[str, float]) -> Layout:
    cluster = config.cluster
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    use_gpu = gpus > 0 if cluster.use_gpu is None else cluster.use_gpu
    most = min(config.data.num_lanes, config.training.batch_size)
    workers = cluster.workers or min((gpus if use_gpu else min(2, cores)) or 1, most)
    cpus = cluster.cpus_per_worker or max(1, cores // workers)
    if use_gpu and gpus < workers:
        command.say(f"warning: {workers} workers need as many GPUs, the cluster has {gpus}; waiting for nodes")
    return Layout(workers, use_gpu, cpus)
