"""The training step against the example, against the least that one writes by hand, and against its own convolutions.

    python benchmarks/train_step.py [--json] [--rounds 5] [--batches 64 128] [--threads 1] [--width 64] [--scaling]

Contestants take single steps in turn in one process; a ratio is the median of the rounds' ratios of CPU time, which
neighbours on a shared machine disturb least; those of the wall clock stand beside. Ours is the whole loop: it streams
from a server on loopback, serves metrics, ticks every fourth step. `--threads` of torch each. `--scaling` adds
benchmarks/scaling.py's figures for one and two workers.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from step_peers.example import example_loop
from step_peers.kernels import convolutions_of, seconds_of
from step_peers.minimal import minimal_loop
from step_peers.ours import example_config, our_loop
from step_peers.rows import rows_of
from step_peers.turns import Times, in_turn, ratio, told
from step_peers.two_passes import two_passes_loop
from stream_figures.bucket import serving

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.prepare import prepare
from gan_distributed.training.memory import keep_freed_memory
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.precision import with_precision
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.timing import PhaseTimer
from gan_distributed.training.world import World

_LATENT_DIM = 100
_IMAGES = 640
_TICK_STEPS = 4


class KeptTimer(PhaseTimer):
    """Keeps what it is asked for, as the loop asks at each tick, and tells the loop of nothing."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.seconds: Counter[str] = Counter()

    def read(self) -> dict[str, float]:
        self.seconds.update(super().read())
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default=None, help="of ours and the minimal loop; the device's own without it")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--peak", nargs=3, metavar=("WHAT", "DATA", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # As a run does it; all contestants have it.
    keep_freed_memory()
    if options.peak:
        print(peak_mib(options, *options.peak))
        return
    if options.precision is None:
        options.precision = with_precision(load_config(None), None, torch.device("cpu")).training.precision
    figures: dict[str, float | str] = {"precision": options.precision, "threads": options.threads}
    with tempfile.TemporaryDirectory() as folder:
        root, scratch = Path(folder) / "bucket", Path(folder) / "scratch"
        root.mkdir()
        scratch.mkdir()
        prepare("builtin:fashion-mnist", str(root / "data"), resolution=64, channels=3, limit=_IMAGES)
        with serving(root, scratch) as bucket:
            for batch_size in options.batches:
                figures |= step_figures(options, str(root / "data"), bucket.url("http", "data"), folder, batch_size)
        figures |= memory_figures(options, str(root / "data"), min(options.batches))
    figures |= penalty_figures(options.rounds, options.precision)
    if options.scaling:
        import scaling

        figures |= scaling.figures([1, 2], repeats=3)
    print(json.dumps(figures, indent=1) if options.json else told(figures))


def step_figures(options: argparse.Namespace, data: str, url: str, folder: str, batch_size: int) -> dict[str, float]:
    """Ratios and rates at one batch size."""
    sizes = batch_size, _LATENT_DIM, options.width
    config = example_config(*sizes, options.precision, training__tick_kimg=_TICK_STEPS * batch_size / 1000)
    timer, rows = KeptTimer(), rows_of(data)
    with (
        our_loop(config, url, str(Path(folder) / f"run-{batch_size}"), World(timer=timer)) as whole,
        our_loop(config, data, None) as bare,
    ):
        calls = convolutions_of(bare)
        kernels: list[float] = []
        contestants: dict[str, Callable[[], object]] = {
            "example": example_loop(rows, *sizes),
            "minimal": minimal_loop(rows, *sizes, options.precision),
            "ours": whole,
            "bare": bare,
            "kernels": lambda: kernels.append(seconds_of(calls)),
        }
        times = in_turn(contestants, options.rounds)
        timer.read()
    share = statistics.median(mine / step for mine, step in zip(kernels[1:], times["bare"].cpu, strict=True))
    found = {
        f"ratio_to_example_batch_{batch_size}": ratio(times["example"], times["ours"]),
        f"ratio_to_example_batch_{batch_size}_wall": ratio(times["example"], times["ours"], "wall"),
        f"share_of_minimal_loop_batch_{batch_size}": ratio(times["minimal"], times["ours"]),
        f"share_of_minimal_loop_batch_{batch_size}_wall": ratio(times["minimal"], times["ours"], "wall"),
        f"share_in_convolutions_batch_{batch_size}": share,
        f"slowed_by_stream_metrics_tick_batch_{batch_size}": ratio(times["ours"], times["bare"]) - 1,
        f"data_wait_share_batch_{batch_size}": timer.seconds["data_wait"] / timer.seconds.total(),
    }
    if batch_size == options.batches[0]:
        found["share_of_minimal_loop"] = found[f"share_of_minimal_loop_batch_{batch_size}"]
    return found | rates(times, batch_size)


def rates(times: dict[str, Times], batch_size: int) -> dict[str, float]:
    """Images in a second of CPU time, of each loop's best half of turns."""
    loops = {name: sorted(one.cpu)[: max(1, len(one.cpu) // 2)] for name, one in times.items() if name != "kernels"}
    return {
        f"images_per_cpu_s_{name}_batch_{batch_size}": batch_size / statistics.median(best)
        for name, best in loops.items()
    }


def penalty_figures(rounds: int, precision: str) -> dict[str, float]:
    """R3GAN with R1 and R2 in every step, one pass for all of it against two passes with two penalties."""
    values = {"model.family": "r3gan", "model.latent_dim": 64, "loss.name": "rpgan", "loss.r1_gamma": 2.0}
    width = {"model.generator_channels": 64, "model.discriminator_channels": 64, "loss.r2_gamma": 2.0}
    config = load_config(None, values | width | {"training.batch_size": 32, "training.precision": precision})
    images = ImageSpec(32, 3, 0)
    rows = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8))
    state = TrainState(config, images, World())
    step, labels = Step(config, state, World()), torch.zeros(32, dtype=torch.int64)

    def ours() -> None:
        step([DeviceBatch(rows, labels, torch.arange(32) + state.seen_images)], stop=False)

    times = in_turn({"two": two_passes_loop(config, images, rows), "ours": ours}, 2 * rounds)
    return {"r3gan_ratio_to_two_passes": ratio(times["two"], times["ours"])}


def memory_figures(options: argparse.Namespace, data: str, batch_size: int) -> dict[str, float]:
    """Peak memory above the imports, of a process that does nothing else."""
    words = [sys.executable, __file__, "--threads", str(options.threads), "--width", str(options.width)]
    words += ["--precision", options.precision, "--peak"]
    peaks = {
        what: float(subprocess.run([*words, what, data, str(batch_size)], capture_output=True, check=True).stdout)
        for what in ("minimal", "ours")
    }
    found = {f"peak_mib_{what}": peak for what, peak in peaks.items()}
    return found | {"memory_over_minimal_loop": peaks["ours"] / peaks["minimal"] - 1}


def peak_mib(options: argparse.Namespace, what: str, data: str, batch_size: str) -> float:
    sizes = int(batch_size), _LATENT_DIM, options.width
    before = peak_kib()
    with built(what, data, sizes, options.precision) as step:
        for _ in range(3):
            step()
        return (peak_kib() - before) / 1024


def peak_kib() -> int:
    """Of this process alone, where getrusage tells that of its parent, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


@contextlib.contextmanager
def built(what: str, data: str, sizes: tuple[int, int, int], precision: str) -> Iterator[Callable[[], object]]:
    if what == "minimal":
        yield minimal_loop(rows_of(data), *sizes, precision)
        return
    with tempfile.TemporaryDirectory() as folder, our_loop(example_config(*sizes, precision), data, folder) as turn:
        yield turn


if __name__ == "__main__":
    main()
