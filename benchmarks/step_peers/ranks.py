"""Processes of one thread on this machine, started by torchrun and joined by gloo, and times over all of them."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from gan_distributed.training.memory import keep_freed_memory
from gan_distributed.training.world import World
from step_peers.turns import Times, told

Figures = dict[str, float | str]


def tell_figures(
    count: int, measured: Callable[[argparse.Namespace, World], Figures], options: argparse.Namespace
) -> None:
    """Run a function on so many of them, and print what it finds; `options.json` says how."""
    with _joined(count) as world:
        figures = measured(options, world)
        if world.rank == 0:
            print(json.dumps(figures, indent=1) if options.json else told(figures))


@contextlib.contextmanager
def _joined(count: int) -> Iterator[World]:
    """This process as one of them; called in none of them, it starts this program in all, and exits as they do."""
    if "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        sys.exit(subprocess.call([*torchrun, *sys.argv], env={**os.environ, "OMP_NUM_THREADS": "1"}))
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), dist.get_rank())
    finally:
        dist.destroy_process_group()


def over_ranks(times: dict[str, Times], world: World) -> dict[str, Times]:
    """Those of all ranks: a turn lasts until the slower one is done, and takes the CPU time of both."""
    found: list[dict[str, Times]] = [{}] * world.size
    dist.all_gather_object(found, times)
    return {
        name: Times(
            [max(turn) for turn in zip(*(one[name].wall for one in found), strict=True)],
            [sum(turn) for turn in zip(*(one[name].cpu for one in found), strict=True)],
        )
        for name in times
    }
