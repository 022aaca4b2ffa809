"""Trials on Ray Tune, as many at a time as there are cores or GPUs for.

What is worth keeping of a trial is in its run; Tune's own notes are thrown away.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gan_distributed import command
from gan_distributed.config import Config
from gan_distributed.errors import ConfigError, TrainingError
from gan_distributed.evaluation.protocol import METRICS
from gan_distributed.sweeping.halving import Halving
from gan_distributed.sweeping.roster import End, Roster
from gan_distributed.sweeping.rungs import Rungs
from gan_distributed.sweeping.trial import TrialActor
from gan_distributed.training.cluster import FitThread, last_line, ray_cluster
from gan_distributed.training.layout import Nodes, fitting_cpus, num_places, total
from gan_distributed.training.stop_signals import NO_LAST_CHECKPOINT, StopSignals
from gan_distributed.training.worker import Assignment

_POLL_S = 0.2
_LONG_S = 60.0
# After the trials' own grace: how long Tune has to end them.
_FAREWELL_S = 15.0


def run_trials(
    assignments: dict[int, Assignment],
    past: dict[int, list[tuple[float, float]]],
    rungs: Rungs,
    signals: StopSignals,
    tell: Callable[[End], None],
) -> None:
    """Train trials to their ends, or until a signal. Raises GanError.

    assignments: by trial.   past: kimg and scores from earlier commands, also of trials that are not run again.
    tell: called once a trial.
    """
    config = next(iter(assignments.values())).config
    with (
        ray_cluster(config, signals.requested) as nodes,
        tempfile.TemporaryDirectory(prefix="gan-distributed-") as scratch,
    ):
        signals.training_begins()
        cpus, use_gpu = _share(config, nodes)
        _tell_start(len(assignments), cpus, use_gpu, nodes, rungs)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        roster = ray.remote(num_cpus=0, scheduling_strategy=here)(Roster).remote()
        assignments = {number: _with_share(one, cpus, use_gpu) for number, one in assignments.items()}
        trial = tune.with_parameters(TrialActor, assignments=assignments, roster=roster, metric=rungs.metric)
        _quieten()
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": cpus, "gpu": int(use_gpu)}),
            param_space={"number": tune.grid_search(list(assignments))},
            tune_config=tune.TuneConfig(scheduler=Halving(rungs, past, past.keys() - assignments.keys(), roster)),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                stop=_Stopper(signals, roster, config.cluster.stop_grace_s),
                # A trial keeps its own.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=config.cluster.max_failures),
                verbose=0,
            ),
        )
        _watch(tuner, roster, signals, config.cluster.stop_grace_s, set(assignments), tell)


def _quieten() -> None:
    """Tune's banner, its own records of results and its log: the sweep and its runs tell what there is to know."""
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _share(config: Config, nodes: Nodes) -> tuple[int, bool]:
    """CPU threads of a trial, and whether it has a GPU."""
    cores, gpus = total(nodes, "CPU"), total(nodes, "GPU")
    use_gpu = gpus > 0 if config.cluster.use_gpu is None else config.cluster.use_gpu
    cpus = config.cluster.cpus_per_worker or (fitting_cpus(nodes, gpus, use_gpu=True) if use_gpu else 1)
    if not num_places(nodes, cpus, use_gpu=use_gpu):
        wanted = f"{cpus} CPU threads{' and a GPU' if use_gpu else ''}"
        raise ConfigError(
            f"a trial wants {wanted} on one node, and there are {cores} and {gpus} GPUs on {len(nodes)} nodes; set "
            "cluster.cpus_per_worker or cluster.use_gpu, or cluster.address of a larger cluster"
        )
    return cpus, use_gpu


def _with_share(assignment: Assignment, cpus: int, use_gpu: bool) -> Assignment:
    config = assignment.config
    cluster = config.cluster.model_copy(update={"cpus_per_worker": cpus, "use_gpu": use_gpu})
    return replace(assignment, config=config.model_copy(update={"cluster": cluster}))


def _tell_start(num: int, cpus: int, use_gpu: bool, nodes: Nodes, rungs: Rungs) -> None:
    most = min(num, num_places(nodes, cpus, use_gpu=use_gpu))
    each = f"{'1 GPU' if use_gpu else 'no GPU'} and {cpus} CPU threads each"
    better = "lower" if METRICS[rungs.metric].lower_is_better else "higher"
    command.say(f"{num} trials to train, {most} at a time, {each}; {rungs.metric} decides, {better} is better")
    if rungs.kimg:
        at = ", ".join(f"{kimg:.4g}" for kimg in rungs.kimg)
        command.say(f"compared at {at} kimg: the best one of {rungs.reduction} goes on")


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends Tune after a signal, once the trials have saved."""

    def __init__(self, signals: StopSignals, roster: Any, grace_s: float) -> None:
        self._signals, self._roster, self._grace_s = signals, roster, grace_s

    def __call__(self, _trial_id: str, _result: dict[str, Any]) -> bool:
        """No single trial."""
        return False

    def stop_all(self) -> bool:
        """Tune starts no other trial while it waits here."""
        if not self._signals.requested():
            return False
        deadline = time.monotonic() + self._grace_s
        ray.get(self._roster.end_all.remote())
        while ray.get(self._roster.num_at_work.remote()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return True


def _watch(
    tuner: tune.Tuner,
    roster: Any,
    signals: StopSignals,
    grace_s: float,
    left: set[int],
    tell: Callable[[End], None],
) -> None:
    """Tell of ends until there are no more. left: all trials."""
    fit = FitThread(tuner)
    deadline = None
    is_alive = True
    waiting = threading.Timer(_LONG_S, _tell_waiting, (roster,))
    waiting.daemon = True
    waiting.start()
    while is_alive and (deadline is None or time.monotonic() < deadline):
        time.sleep(_POLL_S)
        is_alive = fit.is_alive()
        if signals.requested() and deadline is None:
            deadline = time.monotonic() + grace_s + _FAREWELL_S
        for end in _ask(roster.take_ends):
            # One whose process died after its end is started again, and ends again.
            if end.number in left:
                left.discard(end.number)
                tell(end)
    waiting.cancel()
    if signals.requested():
        if unsaved := _ask(roster.num_at_work):
            command.say(f"{unsaved} trials: {NO_LAST_CHECKPOINT}")
        return
    if left and fit.told() is None:
        # Their processes died, more often than is survived.
        for result in tuner.get_results():
            if result.error is not None and (number := result.config["number"]) in left:
                left.discard(number)
                tell(End(number, "failed", 0, last_line(result.error)))
    if left:
        raise TrainingError(f"{len(left)} trials ended without a result: {fit.told() or 'no error was reported'}")


def _tell_waiting(roster: Any) -> None:
    if not ray.get(roster.has_begun.remote()):
        command.say("no trial has begun yet: the machine is busy, or no node has room for one; waiting")


def _ask(method: Any) -> Any:
    """The answer of the roster."""
    try:
        return ray.get(method.remote())
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"the Ray cluster is gone ({last_line(error)}); the same command, here or on another one, goes on"
        ) from error
