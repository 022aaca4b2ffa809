"""How training scales over workers: whole runs through Ray, in turn, and a model of the time of a step.

    python benchmarks/scaling.py [--workers 1 2] [--repeats 3] [--steps 120] [--recipe jobs/demo.yaml] [--gpu] [--json]

Weak: the batch grows with the workers. Strong: it stays. Rates are those of ticks, without the first; the median over
ticks of all repeats. With one thread a worker, so that two workers on two cores have what one has on one. The share of
reductions is that of rank 0's phase timer. The model is fitted to the first two numbers of workers and compared with
the others: a step takes the time of its images on one worker, and 2 (n - 1) / n times that of a whole reduction.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gan_distributed.prepare import prepare
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder

_TICKS = 6


@dataclass(frozen=True)
class Point:
    """One number of workers at one batch: images a second, and the share of time that reductions take."""

    workers: int
    batch_size: int
    images_per_s: float
    reduction: float

    @property
    def step_s(self) -> float:
        return self.batch_size / self.images_per_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--recipe", default="jobs/demo.yaml")
    parser.add_argument("--batch-size", type=int, default=64, help="of one worker")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    points = measured(options.workers, options.repeats, options.steps, options.recipe, options.batch_size, options.gpu)
    if options.json:
        print(json.dumps(summary(points), indent=1))
        return
    print(f"{'workers':>8}{'batch':>8}{'images/s':>10}{'efficiency':>12}{'reduction':>11}{'model':>10}")
    for kind, found in points.items():
        latency_s = fitted(found)
        for point in found:
            print(
                f"{point.workers:>8}{point.batch_size:>8}{point.images_per_s:>10.0f}{efficiency(found, point):>11.0%} "
                f"{point.reduction:>10.1%}{predicted(found[0], point, latency_s):>10.0f}  {kind}"
            )


def figures(workers: list[int], repeats: int) -> dict[str, float]:
    """For `train_step.py`."""
    return summary(measured(workers, repeats, 120, "jobs/demo.yaml", 64, use_gpu=False))


def measured(
    workers: list[int], repeats: int, steps: int, recipe: str, batch_size: int, use_gpu: bool
) -> dict[str, list[Point]]:
    """Points of weak and of strong scaling."""
    cases = {
        "weak": [(count, batch_size * count) for count in workers],
        "strong": [(count, batch_size * max(workers)) for count in workers],
    }
    rates: dict[tuple[int, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        prepare("builtin:fashion-mnist", data, resolution=32)
        for repeat in range(repeats):
            for case in dict.fromkeys([*cases["weak"], *cases["strong"]]):
                rates.setdefault(case, []).extend(
                    _run(folder, data, f"r{repeat}-{case[0]}-{case[1]}", *case, steps, recipe, use_gpu)
                )
    return {kind: [_point(*case, rates[case]) for case in found] for kind, found in cases.items()}


def _run(
    folder: str, data: str, name: str, workers: int, batch_size: int, steps: int, recipe: str, use_gpu: bool
) -> list[tuple[float, float]]:
    """Images a second and the share of reductions of each tick but the first."""
    kimg = batch_size * steps / 1000
    words = [sys.executable, "-m", "gan_distributed.train", "--config", recipe, "--data", data, "--profile"]
    words += ["--output", str(Path(folder) / "runs"), "--run-id", name, "--workers", str(workers)]
    settings = {
        "training.batch_size": batch_size,
        "training.total_kimg": kimg,
        "training.tick_kimg": kimg / _TICKS,
        "checkpoint.every_kimg": 2 * kimg,
        "samples.every_kimg": "null",
        "metrics.port": "null",
        "metrics.controller_port": "null",
        "cluster.use_gpu": str(use_gpu).lower(),
        "model.batch_norm_groups": 8,
    }
    if not use_gpu:
        settings["cluster.cpus_per_worker"] = 1
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    subprocess.run(words, check=True, stdout=sys.stderr)
    records = read_records(RunFolder(str(Path(folder) / "runs" / name)))[1:]
    return [
        (record["images_per_s"], record["phases_s"]["reduction"] / sum(record["phases_s"].values()))
        for record in records
    ]


def _point(workers: int, batch_size: int, ticks: list[tuple[float, float]]) -> Point:
    rates, reductions = zip(*ticks, strict=True)
    return Point(workers, batch_size, statistics.median(rates), statistics.median(reductions))


def summary(points: dict[str, list[Point]]) -> dict[str, float]:
    found = {}
    for kind, several in points.items():
        for point in several:
            name = f"{kind}_{point.workers}"
            found[f"images_per_s_{name}"] = point.images_per_s
            found[f"reduction_share_{name}"] = point.reduction
            found[f"efficiency_{name}"] = efficiency(several, point)
    for point in points["weak"]:
        if point.workers == 2 * points["weak"][0].workers:
            found["scaling_2_workers"] = point.images_per_s / points["weak"][0].images_per_s
    return found


def efficiency(points: list[Point], point: Point) -> float:
    """Images a second of a worker, as a share of those with the fewest workers."""
    first = points[0]
    return point.images_per_s / point.workers / (first.images_per_s / first.workers)


def fitted(points: list[Point]) -> float:
    """What passing all gradients once costs, from the first two numbers of workers, seconds."""
    if len(points) < 2:
        return 0.0
    first, second = points[:2]
    return max(0.0, second.step_s - _compute_s(first, second)) / _rounds(second.workers)


def predicted(first: Point, point: Point, round_s: float) -> float:
    """Images a second by the model."""
    return point.batch_size / (_compute_s(first, point) + round_s * _rounds(point.workers))


def _compute_s(first: Point, point: Point) -> float:
    """A step's time without reductions, for as many images as a worker has."""
    alone_s = first.step_s * (1 - first.reduction)
    return alone_s * (point.batch_size / point.workers) / (first.batch_size / first.workers)


def _rounds(workers: int) -> float:
    """Of a ring: each rank sends 2 (n - 1) parts of a n-th, so that a reduction's time goes with 2 (n - 1) / n."""
    return 2 * (workers - 1) / workers


if __name__ == "__main__":
    main()
