"""How the training step scales from one rank of one thread to two, on cores that others may slow down.

    python benchmarks/scaling_step.py [--recipe jobs/demo.yaml] [--rounds 40] [--resolution 32] [--channels 1] [--json]

Two processes, joined by gloo, take single steps in turn: one of them alone with the recipe's batch, the other waiting;
both at once, each for itself (what two cores of this machine can do); and both as the ranks of a batch twice as large.
scaling is how many times as many images in the same time the latter two make as the first: medians of the rounds'
ratios, by the wall clock, a turn ending with the slower process. cpu_*: by the CPU time of both, which leaves waiting
out. Without Ray, whose workers take the same step: `scaling.py` runs whole jobs.
"""

import argparse
import statistics

import torch
import torch.distributed as dist
from step_peers.ours import our_step
from step_peers.ranks import over_ranks, tell_figures
from step_peers.turns import Times, in_turn, ratio

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.precision import with_precision
from gan_distributed.training.world import World

_RANKS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="jobs/demo.yaml")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    tell_figures(_RANKS, measured, parser.parse_args())


def measured(options: argparse.Namespace, world: World) -> dict[str, float | str]:
    alone = with_precision(load_config(options.recipe), None, world.device)
    size, images = alone.training.batch_size, ImageSpec(options.resolution, options.channels, 10)
    larger = {"training": alone.training.model_copy(update={"batch_size": _RANKS * size})}
    rows = torch.randint(0, 256, (size, options.resolution, options.resolution, options.channels), dtype=torch.uint8)
    by_itself = our_step(alone, images, rows)
    contestants = {
        "alone": by_itself if world.rank == 0 else lambda: None,
        "apart": by_itself,
        "together": our_step(alone.model_copy(update=larger), images, rows, world),
    }
    times = over_ranks(in_turn(contestants, options.rounds, together=dist.barrier), world)
    return {
        "images_per_s_alone": size / statistics.median(times["alone"].wall),
        **{f"scaling_{name}": _RANKS * ratio(times["alone"], times[name], "wall") for name in ("apart", "together")},
        **{f"cpu_{name}": ratio(times[name], doubled(times["alone"])) for name in ("apart", "together")},
    }


def doubled(times: Times) -> Times:
    """What so many steps of one rank take in all."""
    return Times(times.wall, [_RANKS * one for one in times.cpu])


if __name__ == "__main__":
    main()
