"""What a checkpoint costs the training loop: how long it holds a step up, and how much slower steps are meanwhile.

    python benchmarks/checkpoint_stall.py [--recipe jobs/demo.yaml] [--state-mb 80] [--rounds 12] [--steps 10]

Each round takes `steps` steps without a checkpoint, then one turn that hands a checkpoint over, then steps until it is
committed. `--state-mb` widens both networks until the state has that size. The share is that of all time that the
recipe's interval of checkpoints takes; the folder is a temporary one on this machine's disk. CPU time is the training
thread's own: it leaves out what other processes and the writing thread take.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gan_distributed import command
from gan_distributed.config import Config, load_config
from gan_distributed.data.manifest import Manifest, load_manifest
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream
from gan_distributed.models.networks import ImageSpec
from gan_distributed.prepare import prepare
from gan_distributed.training import lease
from gan_distributed.training.archive import Archive
from gan_distributed.training.checkpoint_writer import CheckpointWriter
from gan_distributed.training.link import Link
from gan_distributed.training.loop import Loop
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.records import Recorder
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.saving import Scribe
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.world import World


@dataclass
class Figures:
    """Seconds: steps alone, turns that handed a checkpoint over, steps while it was written, snapshot to commit.

    The first two also by the CPU time of the training thread.
    """

    steps: list[tuple[float, float]]
    stalls: list[tuple[float, float]]
    beside: list[tuple[float, float]]
    commits: list[float]


def widened(config: Config, images: ImageSpec, state_mb: float) -> Config:
    """The configuration with both networks as wide as that size of the state takes."""
    factor = 1.0
    while True:
        model = config.model.model_copy(
            update={
                "generator_channels": round((config.model.generator_channels or 64) * factor),
                "discriminator_channels": round((config.model.discriminator_channels or 64) * factor),
            }
        )
        wide = config.model_copy(update={"model": model})
        found_mb = state_bytes(wide, images) / 1e6
        if found_mb >= state_mb:
            return wide
        # Weights grow with the square of the width, about.
        factor *= max(1.02, (state_mb / found_mb) ** 0.5)


def state_bytes(config: Config, images: ImageSpec) -> int:
    return len(encode_state(TrainState(config, images, World()).snapshot(0)))


def measure(config: Config, manifest: Manifest, data: str, run: RunFolder, rounds: int, steps: int) -> Figures:
    images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
    world, state = World(), TrainState(config, images, World())
    order = Order(manifest.block_lengths, config.seed, config.data.num_lanes, config.data.window_blocks)
    stream = Stream(data, manifest, order, config.data, config.training.batch_size, 0, 1)
    metrics = WorkerMetrics(config.metrics.model_copy(update={"port": None}), "benchmark", 0, 0)
    held = lease.acquire(run, "benchmark")
    recorder = Recorder(run, held.attempt)
    archive = Archive(config, run, images, manifest.class_names or (), recorder, held, lambda _: None)
    writer = CheckpointWriter(archive.commit, archive.tidy, config.checkpoint.write_timeout_s)
    scribe = Scribe(run, held.attempt, held.check_known, writer, recorder, command.say)
    figures = Figures([], [], [], [])
    with contextlib.closing(stream), contextlib.closing(metrics):
        stream.start(0)
        loop = Loop(config, world, state, stream, metrics, Link(command.say, lambda: False), scribe, None)

        def timed(action: Callable[[], object]) -> tuple[float, float]:
            started, cpu_started = time.perf_counter(), time.thread_time()
            action()
            return time.perf_counter() - started, time.thread_time() - cpu_started

        def turn() -> None:
            loop._saving.save(last=False)
            loop._take_step()

        def hand_over() -> None:
            loop._saving.now()
            loop._saving.save(last=False)

        timed(turn)
        for _ in range(rounds):
            figures.steps += [timed(turn) for _ in range(steps)]
            figures.stalls.append(timed(hand_over))
            started = time.perf_counter()
            while loop._saving._saved < loop._saving._handed_over:
                figures.beside.append(timed(turn))
            figures.commits.append(time.perf_counter() - started)
        writer.close()
    held.release()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="jobs/demo.yaml")
    parser.add_argument("--state-mb", type=float, default=80.0)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        prepare("builtin:fashion-mnist", data, resolution=32)
        manifest = load_manifest(data)
        images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
        recipe = load_config(options.recipe)
        for name, config in (("recipe", recipe), ("wide", widened(recipe, images, options.state_mb))):
            run = RunFolder(str(Path(folder) / name))
            found = measure(config, manifest, data, run, options.rounds, options.steps)
            (step, step_cpu), (stall, stall_cpu) = medians(found.steps), medians(found.stalls)
            (beside, _), commit = medians(found.beside), statistics.median(found.commits)
            num_steps = 1000 * config.checkpoint.every_kimg / config.training.batch_size
            slower_s = max(0.0, 1 - step / beside) * commit
            print(
                f"{name}: state {state_bytes(config, images) / 1e6:.1f} MB, step {1000 * step:.1f} ms "
                f"(CPU {1000 * step_cpu:.1f} ms), a checkpoint every {num_steps:.0f} steps\n"
                f"  handing it over: {1000 * stall:.1f} ms, {100 * stall / step:.1f}% of a step (CPU "
                f"{1000 * stall_cpu:.1f} ms, {100 * stall_cpu / step_cpu:.1f}%), "
                f"{100 * stall / step / num_steps:.4f}% of all time\n"
                f"  committed after {commit:.2f} s; steps meanwhile: {1000 * beside:.1f} ms, "
                f"{100 * slower_s / step / num_steps:.3f}% of all time"
            )


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Of the wall clock and of the CPU time."""
    wall, cpu = zip(*pairs, strict=True)
    return statistics.median(wall), statistics.median(cpu)


if __name__ == "__main__":
    main()
