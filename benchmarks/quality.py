"""Families and losses at an equal time of training, by their scores; prints the README's table.

    python benchmarks/quality.py fashion DATA [--minutes 10] [--seeds 3] [--only NAME] [--out DIR]
    python benchmarks/quality.py stacked DATA …

DATA: made by `quality_data.py`. Every contestant is the `train` command on this machine's cores. A short run tells how
many images it sees in the time, and that many is what its schedules and its length are set to. Scores are taken by
`evaluate` afterwards, on 10,000 images of the weights' average, in the features of a classifier fitted on the labels.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_JOBS = Path(__file__).parent.parent / "jobs"
_METRICS = {"fashion": ("fid", "precision", "recall", "modes", "modes_kl"), "stacked": ("modes", "modes_kl", "fid")}
_CALIBRATION_KIMG = 6.0
# What a step compiles and allocates at first is no part of its rate.
_SKIPPED_TICKS = 1


@dataclass(frozen=True)
class Contestant:
    """A recipe and what is changed of it. scaled: fields of schedules that end with the run."""

    recipe: str
    options: dict[str, Any] = field(default_factory=dict)
    scaled: tuple[str, ...] = ()


_PLAIN_DCGAN = {
    "model.family": "dcgan",
    "model.generator_channels": 32,
    "model.discriminator_channels": 32,
    "loss.label_smoothing": 0,
    "loss.r1_gamma": 0,
    "ema.halflife_kimg": "null",
}
_R3GAN_SCHEDULES = (
    "loss.r1_gamma.kimg",
    "loss.r2_gamma.kimg",
    "optimizer.generator.lr.kimg",
    "optimizer.generator.beta2.kimg",
    "optimizer.discriminator.lr.kimg",
    "optimizer.discriminator.beta2.kimg",
    "ema.halflife_kimg.kimg",
)
CONTESTANTS = {
    "fashion": {
        "convnet-bce": Contestant("mnist-convnet-bce"),
        "convnet-lsgan": Contestant("mnist-convnet-lsgan"),
        "dcgan-bce, the ancestor's way": Contestant("mnist-convnet-bce", _PLAIN_DCGAN),
        "dcgan-bce, R1, EMA": Contestant(
            "mnist-convnet-bce",
            _PLAIN_DCGAN | {"model.discriminator_batch_norm": "false", "loss.r1_gamma": 0.5, "ema.halflife_kimg": 10},
        ),
        "sngan-hinge": Contestant(
            "cifar100-sngan",
            {
                "model.generator_channels": 64,
                "model.discriminator_channels": 64,
                "training.discriminator_steps": 2,
                "augment.flip": "false",
                "ema.halflife_kimg": 10,
            },
            ("optimizer.generator.lr.kimg", "optimizer.discriminator.lr.kimg"),
        ),
        "r3gan": Contestant("fashion-mnist-r3gan", {}, (*_R3GAN_SCHEDULES, "augment.p.kimg")),
    },
    "stacked": {
        "dcgan-bce, the ancestor's way": Contestant("mnist-convnet-bce", _PLAIN_DCGAN | {"model.conditional": "false"}),
        "r3gan": Contestant("stacked-fashion-r3gan", {}, _R3GAN_SCHEDULES),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(CONTESTANTS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="time of training of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="SUBSTR")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="over every contestant's options")
    parser.add_argument("--out", type=Path, help="where runs are kept; a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        print("| contestant | images/s | kimg | " + " | ".join(_METRICS[options.kind]) + " |")
        print("|---|---|---|" + "---|" * len(_METRICS[options.kind]))
        for name, contestant in CONTESTANTS[options.kind].items():
            if options.only in name:
                print(_row(name, contestant, options, out), flush=True)


def _row(name: str, contestant: Contestant, options: argparse.Namespace, out: Path) -> str:
    slug = "".join(letter if letter.isalnum() else "-" for letter in name)
    rate = _images_per_s(slug, contestant, options, out)
    kimg = round(rate * 60 * options.minutes / 1000, 1)
    found: dict[str, list[float]] = {metric: [] for metric in _METRICS[options.kind]}
    for seed in range(options.seeds):
        run = f"{slug}-{options.minutes:g}min-{seed}"
        began = time.monotonic()
        _train(run, contestant, kimg, seed, options, out)
        seconds = time.monotonic() - began
        scores = _evaluate(out / run, options.data, _METRICS[options.kind])
        print(json.dumps({"run": run, "kimg": kimg, "seconds": seconds, **scores}), file=sys.stderr, flush=True)
        for metric, values in found.items():
            values.append(scores[metric])
    return f"| {name} | {rate:.0f} | {kimg:g} | " + " | ".join(_spread(values) for values in found.values()) + " |"


def _images_per_s(slug: str, contestant: Contestant, options: argparse.Namespace, out: Path) -> float:
    run = f"{slug}-calibration"
    _train(run, contestant, _CALIBRATION_KIMG, 0, options, out, "training.tick_kimg=1", "samples.every_kimg=null")
    lines = [json.loads(line) for part in (out / run / "metrics").iterdir() for line in part.open()]
    ticks = sorted(lines, key=lambda line: line["seen_images"])[_SKIPPED_TICKS:]
    return statistics.median(tick["images_per_s"] for tick in ticks)


def _train(
    run: str, contestant: Contestant, kimg: float, seed: int, options: argparse.Namespace, out: Path, *more: str
) -> None:
    values = {**contestant.options, "training.total_kimg": kimg, "seed": seed, "metrics.port": "null"}
    values |= dict.fromkeys(contestant.scaled, kimg) | {"metrics.controller_port": "null"}
    assignments = [f"{key}={value}" for key, value in values.items()] + options.set + list(more)
    words = [sys.executable, "-m", "gan_distributed.train", "--config", str(_JOBS / f"{contestant.recipe}.yaml")]
    words += ["--data", str(options.data), "--output", str(out), "--run-id", run, "--workers", "0"]
    words += [word for assignment in assignments for word in ("--set", assignment)]
    _call([*words, "--set", f"cluster.cpus_per_worker={os.cpu_count() or 1}"])


def _evaluate(run: Path, data: Path, metrics: tuple[str, ...]) -> dict[str, float]:
    words = [sys.executable, "-m", "gan_distributed.evaluate", str(run), "--data", str(data), "--json"]
    said = _call([*words, *(word for metric in metrics for word in ("--metric", metric))])
    records = json.loads(said)["scores"]
    return {record["metric"]: record["value"] for record in records}


def _call(words: list[str]) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(words)}\n{ended.stderr}")
    return ended.stdout


def _spread(values: list[float]) -> str:
    """Median, least and most."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
