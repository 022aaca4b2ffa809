"""What `training.reduction_bucket_mb` gains where workers are joined by a slow network.

    python benchmarks/overlapped_step.py [--megabits 200] [--recipe jobs/cifar10-r3gan.yaml] [--width 192] [--rounds 10]

Two processes of one thread, joined by gloo in a network of their own, whose only link has that many megabits a second
for both directions together (Linux: `unshare`, `ip` and `tc`, as root; 0: loopback as it is). They take single steps
of a recipe in turn: with one sum a phase, in buckets, and each for itself without sums. A turn ends with the slower
one; medians of seconds a step and of the rounds' ratios.
"""

import argparse
import os
import shutil
import statistics
import sys

import torch
import torch.distributed as dist
from step_peers.ours import our_step
from step_peers.ranks import over_ranks, tell_figures
from step_peers.turns import in_turn, ratio

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.world import World

_RANKS = 2
_INSIDE = "OVERLAPPED_STEP_IS_INSIDE"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabits", type=float, default=200.0)
    parser.add_argument("--recipe", default="jobs/cifar10-r3gan.yaml")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4, help="of both ranks together")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--buckets-mb", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.megabits and _INSIDE not in os.environ:
        with_slow_link(options.megabits)
    tell_figures(_RANKS, measured, options)


def with_slow_link(megabits: float) -> None:
    """This program again, in a network of its own."""
    if missing := [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]:
        sys.exit(f"{', '.join(missing)} not found, which --megabits needs; install util-linux and iproute2, or give 0")
    link = f"tc qdisc add dev lo root tbf rate {megabits:g}mbit burst 256kb latency 2s"
    run = f'ip link set lo up && {link} && exec "$0" "$@"'
    inside = {**os.environ, _INSIDE: "1", "GLOO_SOCKET_IFNAME": "lo"}
    os.execvpe("unshare", ["unshare", "--net", "sh", "-c", run, sys.executable, *sys.argv], inside)


def measured(options: argparse.Namespace, world: World) -> dict[str, float | str]:
    size, local = options.batch_size, options.batch_size // _RANKS
    config, alone = (
        load_config(
            options.recipe,
            {
                "model.generator_channels": options.width,
                "model.discriminator_channels": options.width,
                "training.batch_size": images,
                "training.precision": "float32",
                "data.num_lanes": images,
            },
        )
        for images in (size, local)
    )
    images = ImageSpec(options.resolution, 3, 10)
    rows = torch.randint(0, 256, (local, options.resolution, options.resolution, 3), dtype=torch.uint8)
    in_buckets = {
        f"buckets_of_{megabytes:g}_mb": config.model_copy(
            update={"training": config.training.model_copy(update={"reduction_bucket_mb": megabytes})}
        )
        for megabytes in options.buckets_mb
    }
    contestants = {
        "without_sums": our_step(alone, images, rows),
        "one_sum": our_step(config, images, rows, world),
        **{name: our_step(each, images, rows, world) for name, each in in_buckets.items()},
    }
    times = over_ranks(in_turn(contestants, options.rounds, together=dist.barrier), world)
    return {
        **{f"seconds_{name}": statistics.median(times[name].wall) for name in contestants},
        **{f"gained_by_{name}": ratio(times["one_sum"], times[name], "wall") for name in in_buckets},
    }


if __name__ == "__main__":
    main()
