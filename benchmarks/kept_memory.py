"""What it is worth on a CPU that a step's memory is kept for the next one: processes that keep it against others.

    python benchmarks/kept_memory.py [--repeats 3] [--cases dcgan-32 …]

A row a case, of one thread, in the device's precision: CPU time and page faults of a step, in medians of the processes'
own medians, which run in turn; how many times as long it takes without.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from step_peers.ours import our_step

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.memory import keep_freed_memory
from gan_distributed.training.precision import with_precision

_STEPS, _FIRST = 9, 3
_HINGE = {"loss.name": "hinge", "model.latent_dim": 120}
_R3GAN = {"loss.name": "rpgan", "loss.r1_gamma": 2.0, "loss.r2_gamma": 2.0, "model.latent_dim": 64}
# Family, resolution, images and width, and what else is not by default.
_CASES: dict[str, tuple[str, int, int, int, dict[str, object]]] = {
    "dcgan-32": ("dcgan", 32, 64, 32, {}),
    "dcgan-64": ("dcgan", 64, 64, 64, {}),
    "sngan-32": ("sngan", 32, 64, 64, _HINGE),
    "biggan-64": ("biggan", 64, 16, 32, _HINGE),
    "r3gan-32": ("r3gan", 32, 32, 64, _R3GAN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(_CASES), default=list(_CASES))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, how = options.child
        print(*step_figures(name, kept=how == "kept"))
        return
    print(f"{'':<12}{'CPU s a step':>16}{'faults':>10}{'kept: CPU s':>14}{'faults':>10}{'without / kept':>16}")
    for name in options.cases:
        found: dict[str, list[list[float]]] = {"plain": [], "kept": []}
        for _ in range(options.repeats):
            for how, figures in found.items():
                words = [sys.executable, __file__, "--child", name, how]
                told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
                figures.append([float(word) for word in told.split()])
        plain, kept = ([statistics.median(column) for column in zip(*one, strict=True)] for one in found.values())
        ratio = f"{plain[0] / kept[0]:>16.2f}"
        print(f"{name:<12}{plain[0]:>16.3f}{plain[1]:>10.0f}{kept[0]:>14.3f}{kept[1]:>10.0f}{ratio}", flush=True)


def step_figures(name: str, *, kept: bool) -> tuple[float, float]:
    """Seconds of CPU time and page faults of a step, each the median of several."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    family, side, size, width, more = _CASES[name]
    values = {"model.family": family, "training.batch_size": size, **more}
    values |= {"model.generator_channels": width, "model.discriminator_channels": width}
    config = with_precision(load_config(None, values), None, torch.device("cpu"))
    rows = torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8)
    step = our_step(config, ImageSpec(side, 3, 0), rows)
    seconds, faults = [], []
    for _ in range(_STEPS):
        started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        step()
        seconds.append(time.process_time() - started)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return statistics.median(seconds[_FIRST:]), statistics.median(faults[_FIRST:])


if __name__ == "__main__":
    main()
