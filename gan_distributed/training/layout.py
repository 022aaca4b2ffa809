"""How many workers there are and what each has, from the configuration and the cluster's nodes."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_distributed import command
from gan_distributed.config import Config
from gan_distributed.data.order import equal_batches

_FEW_IMAGES = 16
_CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Layout:
    """workers: fewest and most; equal where the number is fixed.   cpus_per_worker: threads of each."""

    workers: tuple[int, int]
    use_gpu: bool
    cpus_per_worker: int

    @property
    def is_elastic(self) -> bool:
        """Whether the number changes when nodes come and go."""
        return self.workers[0] < self.workers[1]


# Of each node what it declares: CPU, GPU, …
Nodes = Sequence[Mapping[str, float]]


def layout_of(config: Config, nodes: Nodes) -> Layout:
    """The layout on a cluster of these nodes; warns where it has too few GPUs."""
    cluster = config.cluster
    gpus, cores = total(nodes, "GPU"), total(nodes, "CPU")
    use_gpu = gpus > 0 if cluster.use_gpu is None else cluster.use_gpu
    most = min(config.data.num_lanes, config.training.batch_size)
    free = min((gpus if use_gpu else min(2, cores)) or 1, most)
    workers = cluster.worker_range or (free, free)
    # Nodes that are not there yet are taken to be like those that are.
    processes = max(gpus, 1) if use_gpu else workers[1]
    cpus_per_worker = cluster.cpus_per_worker or fitting_cpus(nodes, processes, use_gpu=use_gpu)
    if use_gpu and gpus < workers[0]:
        command.say(f"warning: {workers[0]} workers need as many GPUs, the cluster has {gpus}; waiting for nodes")
    return Layout(workers, use_gpu, cpus_per_worker)


def total(nodes: Nodes, resource: str) -> int:
    """What all nodes have of it."""
    return sum(int(node.get(resource, 0)) for node in nodes)


def num_places(nodes: Nodes, cpus: int, *, use_gpu: bool) -> int:
    """Processes of so many CPU threads that there is room for; with use_gpu each beside a GPU of its own."""
    free = (int(node.get("CPU", 0)) // cpus for node in nodes)
    if not use_gpu:
        return sum(free)
    return sum(min(places, int(node.get("GPU", 0))) for places, node in zip(free, nodes, strict=True))


def fitting_cpus(nodes: Nodes, processes: int, *, use_gpu: bool) -> int:
    """The most CPU threads of which so many processes find room, each on one node; 1 where there is none for all."""
    most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
    return next((cpus for cpus in range(most, 1, -1) if num_places(nodes, cpus, use_gpu=use_gpu) >= processes), 1)


def usable_cores(control_group: Path = _CONTROL_GROUP) -> int:
    """Cores that this process may use: of a container those it is given, not those of its machine.

    Threads beyond them take turns, and wait for one another at every barrier of a kernel.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (control_group / "cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def local_cpus(config: Config) -> int:
    """Logical CPUs that a Ray of this machine declares: as many as the workers need, at least the cores.

    More one-thread workers than cores only run slower.
    """
    cores = usable_cores()
    wanted = config.cluster.worker_range
    needed = (wanted[1] if wanted else 2) * (config.cluster.cpus_per_worker or 1)
    if wanted and needed > cores:
        command.say(f"warning: {needed} worker threads on {cores} cores; they will take turns")
    return max(cores, needed)


def tell_layout(config: Config, layout: Layout) -> None:
    """Say what was decided, and which numbers of workers would be better."""
    (fewest, most), batch_size = layout.workers, config.training.batch_size
    device = "1 GPU" if layout.use_gpu else "no GPU"
    if layout.is_elastic:
        command.say(
            f"{fewest} to {most} workers, {device} and {layout.cpus_per_worker} CPU threads each; "
            f"{batch_size / most:g} to {batch_size / fewest:g} images of each batch"
        )
    else:
        local = f"{batch_size / most:g} images of each batch"
        command.say(f"{most} workers, {device}, {layout.cpus_per_worker} CPU threads and {local} each")
    for line in advice(config, most, fewest=fewest, use_gpu=layout.use_gpu):
        command.say(line)


def advice(config: Config, workers: int, *, use_gpu: bool, fewest: int | None = None) -> list[str]:
    """What a number of workers, or a range of them, means for the recipe: a line each; nothing here was measured."""
    batch_size, lanes = config.training.batch_size, config.data.num_lanes
    fitting = [count for count in range(1, lanes + 1) if equal_batches(batch_size, lanes, count)]
    few = _FEW_IMAGES if use_gpu else 1
    useful = [count for count in fitting if batch_size // count >= few]
    best = max(useful, default=max(1, min(lanes, batch_size // few)))
    largest = largest_local_batch(batch_size, lanes, workers)
    lines = [
        f"all wait for the largest batch, of {largest} images: an efficiency of {batch_size / workers / largest:.0%} "
        f"at most; largest useful number of workers: {best}"
    ]
    if not set(range(fewest or workers, workers + 1)) <= set(fitting):
        equal = ", ".join(map(str, fitting)) or f"none; data.num_lanes {lanes} must divide batch_size {batch_size}"
        lines.append(f"the workers' batches differ in size; numbers of workers with equal ones: {equal}")
    if use_gpu and batch_size / workers < _FEW_IMAGES:
        lines.append(
            f"warning: below {_FEW_IMAGES} images a GPU starves; {max(1, batch_size // _FEW_IMAGES)} workers are enough"
        )
    return lines


def largest_local_batch(batch_size: int, lanes: int, workers: int) -> int:
    """The most images that a rank has in any step; the starts of batches repeat after their least common multiple."""
    starts = range(0, math.lcm(batch_size, lanes), batch_size)
    return max(int(np.bincount(np.arange(at, at + batch_size) % lanes % workers).max()) for at in starts)
