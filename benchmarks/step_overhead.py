"""What the loop costs over a plain hand-written one: the same networks, data and optimizer, interleaved in one process.

    python benchmarks/step_overhead.py [--steps 1] [--rounds 200] [--recipe jobs/demo.yaml]

Each round times `steps` steps of the plain loop and of the project's (`train --workers 0`: stream, digest, latents,
masked optimizer, average, statistics), in turn, by the wall clock and by the process's CPU time, which a busy machine
disturbs less; single steps in turn disturb both alike. The plain loop is what one writes by hand: torch.randn latents,
losses from torch.nn.functional, backward() and Adam. It keeps an average, too.
"""

import argparse
import contextlib
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from step_peers.ours import our_loop
from torch.nn import functional

from gan_distributed.config import Config, load_config
from gan_distributed.data.manifest import load_manifest
from gan_distributed.models.layers import BatchContext, BatchNorm, Groups
from gan_distributed.models.networks import ImageSpec, build_discriminator, build_generator
from gan_distributed.prepare import prepare
from gan_distributed.randomness import Draws


def plain_loop(config: Config, images: ImageSpec, rows: np.ndarray, labels: np.ndarray):
    """A function that trains the same networks for some steps, written by hand."""
    layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
    generator = build_generator(config.model, images, config.seed).to(memory_format=layout)
    discriminator = build_discriminator(config.model, images, config.seed).to(memory_format=layout)
    average = copy.deepcopy(generator)
    adam = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": True}
    generator_adam = torch.optim.Adam(generator.parameters(), **adam)
    discriminator_adam = torch.optim.Adam(discriminator.parameters(), **adam)
    batch_size, latent_dim = config.training.batch_size, config.model.latent_dim
    count = config.model.batch_norm_groups
    groups = Groups(torch.arange(batch_size) % count, count, torch.float32) if count > 1 else None
    # The networks' own batch norm wants to know its groups; everything else of the context is unused here.
    context = BatchContext(Draws(0, torch.arange(batch_size)), lambda x: x, groups, shared=False, observe=True)
    norms = [module for net in (generator, discriminator) for module in net.modules() if isinstance(module, BatchNorm)]
    smooth = config.loss.label_smoothing

    def step() -> None:
        picked = np.random.randint(len(rows), size=batch_size)
        real = torch.from_numpy(rows[picked]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        classes = torch.from_numpy(labels[picked])
        for parameter in discriminator.parameters():
            parameter.requires_grad_(True)
        with torch.no_grad():
            fake = generator(torch.randn(batch_size, latent_dim), classes, context)
        real_logits = discriminator(real, classes, context)
        fake_logits = discriminator(fake, classes, context)
        target = torch.full_like(real_logits, 1 - smooth)
        loss = functional.binary_cross_entropy_with_logits(real_logits, target)
        loss = loss + functional.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
        discriminator_adam.zero_grad()
        loss.backward()
        discriminator_adam.step()
        for parameter in discriminator.parameters():
            parameter.requires_grad_(False)
        fake = generator(torch.randn(batch_size, latent_dim), classes, context)
        logits = discriminator(fake, classes, context)
        loss = functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        generator_adam.zero_grad()
        loss.backward()
        generator_adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.01)
        for norm in norms:
            mean, variance = norm.observed[0]
            norm.running_mean.lerp_(mean, 0.1)
            norm.running_var.lerp_(variance, 0.1)
            norm.observed.clear()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--recipe", default="jobs/demo.yaml")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        prepare("builtin:fashion-mnist", folder, resolution=32)
        manifest = load_manifest(folder)
        config = load_config(
            options.recipe, {"loss.r1_gamma": 0.0, "samples.every_kimg": None, "training.precision": "float32"}
        )
        images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
        rows = np.load(Path(folder) / manifest.shards[0].path, mmap_mode="r")
        labels = np.load(Path(folder) / "labels.npy")
        plain = plain_loop(config, images, rows, labels)
        ours = opened.enter_context(our_loop(config, folder, None))
        clocks = {"wall": time.perf_counter, "cpu": time.process_time}
        seconds: dict[tuple[str, str], list[float]] = {
            (clock, name): [] for clock in clocks for name in ("plain", "ours")
        }
        for _ in range(options.rounds + 1):
            for name, step in (("plain", plain), ("ours", ours)):
                started = {clock: read() for clock, read in clocks.items()}
                for _ in range(options.steps):
                    step()
                for clock, read in clocks.items():
                    seconds[clock, name].append((read() - started[clock]) / options.steps)
    for clock in clocks:
        # The first round warms up.
        plain_s, ours_s = seconds[clock, "plain"][1:], seconds[clock, "ours"][1:]
        ratios = [mine / theirs for mine, theirs in zip(ours_s, plain_s, strict=True)]
        medians = statistics.median(plain_s), statistics.median(ours_s)
        print(
            f"{clock:4}  plain loop {1000 * medians[0]:.2f} ms a step, train --workers 0 {1000 * medians[1]:.2f} ms, "
            f"ratio of medians {medians[1] / medians[0]:.3f}, of rounds {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
