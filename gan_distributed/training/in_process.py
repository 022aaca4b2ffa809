"""The job without Ray: one rank in the calling process, with its stall watch and the driver's endpoint beside it."""

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from gan_distributed import command
from gan_distributed.training.layout import usable_cores
from gan_distributed.training.link import Link, unheard
from gan_distributed.training.mailbox import View
from gan_distributed.training.memory import keep_freed_memory
from gan_distributed.training.metrics import ControllerMetrics
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.stall import StallWatch
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World

_PUBLISH_S = 0.5


def train_in_process(
    assignment: Assignment,
    stop_requested: Callable[[], bool],
    scored: Callable[[int, dict[str, float]], None] = unheard,
) -> Outcome:
    """Train to the end or a stop. scored: called with images seen and scores by metric. Raises GanError."""
    config = assignment.config
    use_gpu = torch.cuda.is_available() if config.cluster.use_gpu is None else config.cluster.use_gpu
    world = World(device=torch.device("cuda" if use_gpu else "cpu"))
    if not use_gpu:
        keep_freed_memory()
    cpus_per_worker = config.cluster.cpus_per_worker or usable_cores()
    watch = StallWatch(config.cluster.stall_timeout_s, _tell_stall)
    with contextlib.closing(watch), contextlib.closing(ControllerMetrics(config, stop_requested)) as metrics:
        link = replace(_link(watch, metrics, stop_requested), scored=scored)
        outcome = run_rank(assignment, world, cpus_per_worker, link)
        with watch.paused():
            metrics.finish(outcome)
        return outcome


def _link(watch: StallWatch, metrics: ControllerMetrics, stop_requested: Callable[[], bool]) -> Link:
    view = View(running=True, world_size=1)
    published = 0.0

    def progress(seen_images: int) -> None:
        nonlocal published
        watch.progress(seen_images)
        command.about(kimg=seen_images / 1000)
        # Not at every step, which may be a short one.
        if time.monotonic() - published > _PUBLISH_S:
            published = time.monotonic()
            metrics.publish(replace(view, seen_images=seen_images))

    def commit(seen_images: int) -> None:
        nonlocal view
        view = replace(view, seen_images=watch.seen_images, committed=seen_images)
        metrics.publish(view)

    say = functools.partial(command.say, rank=0)
    return Link(say, stop_requested, progress=progress, committed=commit, unhurried=watch.paused)


def _tell_stall(seconds: float, seen_images: int, stacks: str) -> None:
    command.say(stacks.rstrip(), rank=0)
    command.say(
        f"error: no progress for {seconds:.0f} s at {seen_images / 1000:.1f} kimg; the stacks are above", rank=0
    )
