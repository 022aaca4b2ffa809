"""What torch.compile is worth on this CPU: a step that it takes whole, against the same uncompiled, and against ours.

    OMP_NUM_THREADS=1 python benchmarks/compiled_step.py [--rounds 6] [--only NAME] [--json]

Rows of each family: how many times as long a step takes uncompiled (step_peers/compiled.py says how it is written), and
by our loop's own step, as when compiled; CPU time, medians of turns. Above 1, compiling wins. Before, the gradients are
held against uncompiled ones. Needs a C++ compiler. On GPUs `gpu.sh` has the same rows.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from step_peers.compiled import Weights, pure_loop
from step_peers.ours import our_step
from step_peers.turns import in_turn, ratio, told

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec

_HINGE = {"loss.name": "hinge", "model.latent_dim": 128}
_R3GAN = {"loss.name": "rpgan", "loss.r1_gamma": 1.0, "loss.r2_gamma": 1.0, "model.latent_dim": 64}
# Resolution and options of each; as wide as a CPU trains them.
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "dcgan-32, R1": (32, {"model.family": "dcgan", "model.discriminator_batch_norm": False, "loss.r1_gamma": 1.0}),
    "sngan-32": (32, {"model.family": "sngan", **_HINGE}),
    "biggan-32": (32, {"model.family": "biggan", **_HINGE}),
    "r3gan-32, R1 and R2": (32, {"model.family": "r3gan", **_R3GAN}),
}
_SIZES = {
    "model.generator_channels": 32,
    "model.discriminator_channels": 32,
    "training.batch_size": 32,
    "training.precision": "float32",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", default="", metavar="SUBSTR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    for name, (resolution, values) in CASES.items():
        if options.only not in name:
            continue
        config, images = load_config(None, _SIZES | values), ImageSpec(resolution, 3, 0)
        shape = (config.training.batch_size, resolution, resolution, 3)
        rows = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        plain, compiled = (pure_loop(config, images, rows, compiler) for compiler in (None, {}))
        started = time.process_time()
        apart = _apart(plain, compiled)
        for player, share in zip(("discriminator", "generator"), apart, strict=True):
            figures[f"{name}: {player}'s gradients apart, millionths"] = 1e6 * share
        figures[f"{name}: seconds to compile"] = time.process_time() - started
        times = in_turn(
            {"ours": our_step(config, images, rows), "plain": plain, "compiled": compiled}, options.rounds, warm_up=2
        )
        figures[f"{name}: uncompiled to compiled"] = ratio(times["plain"], times["compiled"])
        figures[f"{name}: ours to compiled"] = ratio(times["ours"], times["compiled"])
        if not options.json:
            print(told(figures), flush=True)
            figures.clear()
    if options.json:
        print(json.dumps(figures))


def _apart(
    plain: Callable[[], tuple[Weights, Weights]], compiled: Callable[[], tuple[Weights, Weights]]
) -> tuple[float, ...]:
    """The distance of each network's gradients in the first step, as a share of their norm.

    The generator's come after the discriminator has moved, by Adam's first step, which is as large for a gradient of
    rounding errors as for any other.
    """
    found = []
    for step in (plain, compiled):
        torch.manual_seed(0)
        found.append([torch.cat([part.flatten() for part in one.values()]) for one in step()])
    return tuple(float((one - other).norm() / one.norm()) for one, other in zip(*found, strict=True))


if __name__ == "__main__":
    main()
