"""What `training.compile` is worth on this CPU: our step compiled against our step as it is.

    OMP_NUM_THREADS=1 python benchmarks/compiled_step.py [--rounds 6] [--only NAME] [--json]

Rows of each family: how many times as long a step takes uncompiled as compiled, CPU time, median of turns (above 1,
compiling wins); and the CPU time to make the graphs, the compiler's own processes and the check against the plain
gradients included, with nothing in the compiler's cache. Needs a C++ compiler. On GPUs `gpu.sh` has the same rows.
"""

import argparse
import json
import os
from typing import Any

import torch
from step_peers.ours import our_step
from step_peers.turns import in_turn, ratio, told
from torch._inductor.utils import fresh_cache

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
        images, steps = ImageSpec(resolution, 3, 0), {}
        for way, compiles in (("plain", False), ("compiled", True)):
            config = load_config(None, _SIZES | values | {"training.compile": compiles})
            shape = (config.training.batch_size, resolution, resolution, 3)
            rows = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
            steps[way] = our_step(config, images, rows)
        with fresh_cache():
            started = _cpu_s()
            steps["compiled"]()
            figures[f"{name}: CPU seconds of the first step"] = _cpu_s() - started
            times = in_turn(steps, options.rounds, warm_up=2)
        figures[f"{name}: plain to compiled"] = ratio(times["plain"], times["compiled"])
        if not options.json:
            print(told(figures), flush=True)
            figures.clear()
    if options.json:
        print(json.dumps(figures))


def _cpu_s() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
