"""Runs a function on several ranks: processes of this machine joined by gloo, without Ray."""

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import warm_processes

from gan_distributed.training.world import World


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """function(world, *arguments) on every rank; the results by rank. The function must be at a module's top level."""
    with tempfile.TemporaryDirectory() as folder:
        if world_size == 1:
            return [function(World(), *arguments)]
        # Tells the server what to import, which start_processes below uses.
        warm_processes.context()
        multiprocessing.start_processes(
            _rank, (world_size, folder, function, arguments), nprocs=world_size, start_method="forkserver"
        )
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _rank(rank: int, world_size: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=300))
    try:
        result = function(World(rank=rank, size=world_size, local_rank=rank), *arguments)
        torch.save(result, Path(folder) / f"{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
