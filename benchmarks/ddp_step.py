"""The training step on two ranks of one thread against the same step by DistributedDataParallel, started by torchrun.

    python benchmarks/ddp_step.py [--json] [--rounds 20] [--cases dcgan r3gan] [--batch-size 64] [--width 64]

Both sides live in the same two processes, joined by gloo, and take single steps in turn; a turn begins on both ranks
at once and ends with the slower one. A ratio is the median of the rounds' ratios, DDP's time over ours, so that more
than 1 is better; by the wall clock, and by the CPU time of both ranks. Ours is the whole loop: stream, digest, metrics
over HTTP, a tick every tenth step. Before that both take two steps of the same images and latents, in float64 and with
small networks: the share of its norm by which a parameter's mean gradient is apart is told, and above 1e-6 nothing is
measured.

dcgan: 64 px, batch norm over the images of a rank, one set of latents for both phases, no penalty.   r3gan: 32 px,
R1 and R2 in each step, one pass for real and fake images.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from step_peers.ddp import DdpLoop
from step_peers.ours import example_config, our_loop
from step_peers.ranks import over_ranks, tell_figures
from step_peers.rows import rows_of
from step_peers.turns import in_turn, ratio

from gan_distributed.config import Config, load_config
from gan_distributed.data.order import rank_positions
from gan_distributed.models.networks import ImageSpec
from gan_distributed.prepare import prepare
from gan_distributed.randomness import Draws, key_of
from gan_distributed.training.parts import FAKE, DeviceBatch
from gan_distributed.training.precision import with_precision
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

_RANKS = 2
_IMAGES = 640
_LATENT_DIM = 64
_TICK_STEPS = 10
_PROFILED = 4
_MOST_APART = 1e-6
# What both sides are compared at: float64 takes long, and the same lines run at any size.
_SMALL_BATCH, _SMALL_WIDTH = 16, 8
_RESOLUTIONS = {"dcgan": 64, "r3gan": 32}
_VALUES: dict[str, dict[str, object]] = {
    "dcgan": {"model__batch_norm_groups": _RANKS},
    "r3gan": {
        "model__family": "r3gan",
        "loss__name": "rpgan",
        "loss__r1_gamma": 2.0,
        "loss__r2_gamma": 2.0,
        "training__fresh_latents": True,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", nargs="+", choices=list(_VALUES), default=list(_VALUES))
    parser.add_argument("--batch-size", type=int, default=64, help="of both ranks together")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default=None, help="of both sides; the device's own without it")
    parser.add_argument("--bucket-mb", type=float, default=None, help="training.reduction_bucket_mb of ours")
    parser.add_argument("--profile", action="store_true", help="also a table of each side's operators, of rank 0")
    tell_figures(_RANKS, measured, parser.parse_args())


def measured(options: argparse.Namespace, world: World) -> dict[str, float | str]:
    precision = options.precision
    if precision is None:
        precision = with_precision(load_config(None), None, world.device).training.precision
    figures: dict[str, float | str] = {"precision": precision, "ranks": str(world.size)}
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(world.broadcast(folder))
        for case in options.cases:
            data, resolution = str(shared / case), _RESOLUTIONS[case]
            if world.rank == 0:
                prepare("builtin:fashion-mnist", data, resolution=resolution, channels=3, limit=_IMAGES)
            dist.barrier()
            small = example_config(_SMALL_BATCH, _LATENT_DIM, _SMALL_WIDTH, "float64", **_VALUES[case])
            for network, share in distances(small, ImageSpec(resolution, 3, 0), world).items():
                figures[f"distance_{network}_{case}"] = f"{share:.1e}"
            more = _VALUES[case] | {"training__tick_kimg": _TICK_STEPS * options.batch_size / 1000}
            more["training__reduction_bucket_mb"] = options.bucket_mb
            config = example_config(options.batch_size, _LATENT_DIM, options.width, precision, **more)
            figures |= case_figures(case, config, data, str(shared / f"run-{case}"), options, world)
        # Until then the other rank reads what this one made.
        dist.barrier()
    return figures


def case_figures(
    case: str, config: Config, data: str, run: str, options: argparse.Namespace, world: World
) -> dict[str, float | str]:
    figures: dict[str, float | str] = {}
    rows, local = rows_of(data), config.training.batch_size // world.size
    ddp = DdpLoop(
        config,
        ImageSpec(rows.shape[1], 3, 0),
        lambda: rows[torch.randint(len(rows), (local,))],
        lambda: torch.randn(local, config.model.latent_dim),
    )
    with our_loop(config, data, run, world) as ours:
        sides: dict[str, Callable[[], object]] = {"ddp": ddp, "ours": ours}
        times = over_ranks(in_turn(sides, options.rounds, together=dist.barrier), world)
        if options.profile:
            for name, step in sides.items():
                tell_operators(name, step, world)
    for name, one in times.items():
        figures[f"images_per_s_{name}_{case}"] = config.training.batch_size / statistics.median(one.wall)
    figures[f"ratio_to_ddp_{case}"] = ratio(times["ddp"], times["ours"], "wall")
    figures[f"ratio_to_ddp_{case}_cpu"] = ratio(times["ddp"], times["ours"])
    return figures


def tell_operators(name: str, step: Callable[[], object], world: World) -> None:
    """Those that take longest in some steps, on standard error."""
    dist.barrier()
    with torch.profiler.profile() as profile:
        for _ in range(_PROFILED):
            step()
    if world.rank == 0:
        table = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
        print(f"{name}, {_PROFILED} steps\n{table}", file=sys.stderr)


def distances(config: Config, images: ImageSpec, world: World) -> dict[str, float]:
    """How far Adam's means of the gradients are apart after two steps, by network: the worst parameter.

    A family may start with layers of zeros, behind which there is no gradient in the first step.
    """
    size = config.training.batch_size
    steps = [
        torch.from_numpy(rank_positions(index * size, size, config.data.num_lanes, world.rank, world.size))
        for index in range(2)
    ]
    shape = (size, images.resolution, images.resolution, images.channels)
    rows = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))[steps[0]]
    state = TrainState(config, images, world)
    step = Step(config, state, world)
    ddp = DdpLoop(config, images, lambda: rows, latents_at(steps, config))
    for positions in steps:
        step([DeviceBatch(rows, torch.zeros_like(positions), positions)], stop=False)
        ddp()
    pairs = {
        "discriminator": (state.discriminator_optimizer, ddp.discriminator_adam),
        "generator": (state.generator_optimizer, ddp.generator_adam),
    }
    found = {name: apart(*map(first_moments, pair)) for name, pair in pairs.items()}
    if not max(found.values()) <= _MOST_APART:
        sys.exit(f"the two sides do not compute the same: {found}")
    return found


def latents_at(steps: list[torch.Tensor], config: Config) -> Callable[[], torch.Tensor]:
    """What our steps draw, phase by phase."""
    fresh = (0, FAKE) if config.training.fresh_latents else (0,)
    phases = iter([positions + place for positions in steps for place in fresh])
    key = key_of(config.seed, 0, "latents")
    return lambda: Draws(key, next(phases)).normal(config.model.latent_dim).double()


def first_moments(optimizer: object) -> list[torch.Tensor]:
    return [moments["exp_avg"] for moments in optimizer.state_dict()["state"].values()]


def apart(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """As a share of each tensor's norm, the largest one."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((mine - other).norm() / other.norm().clamp_min(1e-30)) for mine, other in pairs)


if __name__ == "__main__":
    main()
