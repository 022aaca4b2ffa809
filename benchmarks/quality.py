"""Families and losses at an equal time of training, by their scores; prints the table of docs/recipes.md.

    python benchmarks/quality.py fashion DATA [--minutes 10] [--seeds 3] [--only NAME] [--out DIR]
    python benchmarks/quality.py stacked DATA --channels FASHION_DATA …

DATA: made by `quality_data.py`. Every contestant is the `train` command with one thread. Steps of all of them in turn
(step_rates.py) tell how many images each sees in a second of CPU time; of all cores for the time asked for, so many are
what its schedules and its length are set to. The runs go on side by side, as many as there are cores. Nothing here
depends on the clock, so the machine need not be quiet. Scores are taken by `evaluate`, on 10,000 images of the weights'
average, in the features of a classifier fitted on the labels. imbalance: how far off the class furthest from its share
is.

What was measured stands in DIR/results.jsonl and is not measured again, so that a table can take several goes.
--try NAME=CONTESTANT[,A.B=C…] adds a contestant: another one with other options. That is how constants are searched.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stacked_modes import stacked_modes
from step_rates import images_per_cpu_s

from gan_distributed.config import Config, load_config, parse_overrides
from gan_distributed.data.manifest import load_manifest
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.precision import with_precision

_JOBS = Path(__file__).parent.parent / "jobs"
_METRICS = {"fashion": ("fid", "precision", "recall", "modes", "imbalance"), "stacked": ("modes", "modes_kl", "fid")}
# What evaluate is asked for; the modes of stacked images are told from their channels.
_EVALUATED = {"fashion": ("fid", "precision", "recall", "modes"), "stacked": ("fid",)}


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
_LR_SCHEDULES = ("optimizer.generator.lr.kimg", "optimizer.discriminator.lr.kimg")
_R3GAN_SCHEDULES = (
    *_LR_SCHEDULES,
    "loss.r1_gamma.kimg",
    "loss.r2_gamma.kimg",
    "optimizer.generator.beta2.kimg",
    "optimizer.discriminator.beta2.kimg",
    "ema.halflife_kimg.kimg",
)
# Of a width that two CPU cores train some ten thousand images of in ten minutes.
_NARROW = {
    "model.generator_channels": 32,
    "model.discriminator_channels": 32,
    # bf16 where the processor has instructions for it.
    "training.precision": "null",
    "augment.flip": "false",
}
_NARROW_R3GAN = _NARROW | {
    "loss.r1_every": 4,
    "loss.r2_every": 4,
    "optimizer.generator.lr.start": 2e-3,
    "optimizer.generator.lr.end": 2e-4,
    "optimizer.discriminator.lr.start": 2e-3,
    "optimizer.discriminator.lr.end": 2e-4,
}
CONTESTANTS = {
    "fashion": {
        "convnet-bce": Contestant("mnist-convnet-bce"),
        "convnet-lsgan": Contestant("mnist-convnet-lsgan"),
        "dcgan-bce, the ancestor's way": Contestant("mnist-convnet-bce", _PLAIN_DCGAN),
        "dcgan-bce, R1, EMA": Contestant("fashion-mnist-dcgan", scaled=_LR_SCHEDULES),
        "sngan-hinge": Contestant(
            "cifar100-sngan",
            _NARROW
            | {
                "training.discriminator_steps": 1,
                "optimizer.generator.lr.start": 5e-4,
                "optimizer.discriminator.lr.start": 1e-3,
                "ema.halflife_kimg": 10,
            },
            _LR_SCHEDULES,
        ),
        "r3gan": Contestant("fashion-mnist-r3gan", _NARROW_R3GAN, (*_R3GAN_SCHEDULES, "augment.p.kimg")),
    },
    "stacked": {
        "dcgan-bce, the ancestor's way": Contestant("mnist-convnet-bce", _PLAIN_DCGAN | {"model.conditional": "false"}),
        "dcgan-bce, R1, EMA": Contestant("stacked-fashion-dcgan", scaled=_LR_SCHEDULES),
        "r3gan": Contestant("stacked-fashion-r3gan", _NARROW_R3GAN, _R3GAN_SCHEDULES),
    },
}


Result = dict[str, Any]


class Results:
    """Lines of JSON in a file: what was measured, by the name of the run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Result] = {}
        if path.exists():
            self._found = {line["run"]: line for line in map(json.loads, path.read_text().splitlines())}

    def get(self, run: str, measure: Callable[[], Result]) -> Result:
        """What is known of the run, else what is measured now."""
        if run not in self._found:
            self._found[run] = {"run": run, **measure()}
            with self._path.open("a") as file:
                file.write(json.dumps(self._found[run]) + "\n")
            print(json.dumps(self._found[run]), file=sys.stderr, flush=True)
        return self._found[run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(CONTESTANTS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="time of training of each run, of all cores")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--spread", default="", metavar="SUBSTR", help="whose name holds it has all seeds, others one")
    parser.add_argument("--rounds", type=int, default=20, help="of steps of all contestants in turn, for their rates")
    parser.add_argument("--at-a-time", type=int, help="runs side by side; as many as there are cores")
    parser.add_argument("--only", default="", metavar="SUBSTR")
    parser.add_argument("--try", action="append", default=[], metavar="NAME=CONTESTANT,A.B=C", dest="tries")
    parser.add_argument("--channels", type=Path, help="stacked: the prepared set of single channels")
    parser.add_argument("--out", type=Path, help="where runs and results are kept; a temporary folder")
    options = parser.parse_args()
    if (options.kind == "stacked") != (options.channels is not None):
        parser.error("--channels goes with stacked")
    contestants = CONTESTANTS[options.kind]
    for text in options.tries:
        name, contestant = _variant(text, contestants)
        contestants[name] = contestant
    contestants = {name: contestant for name, contestant in contestants.items() if options.only in name}
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        _contest(contestants, options, out)


def _variant(text: str, contestants: dict[str, Contestant]) -> tuple[str, Contestant]:
    name, _, rest = text.partition("=")
    # Names of contestants hold commas, too.
    base = next((known for known in contestants if rest == known or rest.startswith(known + ",")), None)
    if base is None:
        raise SystemExit(f"--try {text}: {rest} begins with none of {'; '.join(contestants)}")
    pairs = [pair.partition("=") for pair in rest[len(base) + 1 :].split(",") if pair]
    changes = {key: value for key, _, value in pairs}
    origin = contestants[base]
    return name, Contestant(origin.recipe, origin.options | changes, origin.scaled)


def _contest(contestants: dict[str, Contestant], options: argparse.Namespace, out: Path) -> None:
    results, metrics = Results(out / "results.jsonl"), _METRICS[options.kind]
    cores = os.cpu_count() or 1

    def measure_rates() -> Result:
        manifest = load_manifest(str(options.data))
        images = ImageSpec(manifest.height, manifest.channels, manifest.num_classes)
        configs = {name: _config(one) for name, one in contestants.items()}
        return images_per_cpu_s(configs, images, options.rounds)

    def measure_quality(name: str, kimg: float, seed: int, run: str) -> Result:
        seconds = _train(run, contestants[name], kimg, seed, options.data, out)
        scores = _evaluate(out / run, options.data, _EVALUATED[options.kind])
        if options.channels is not None:
            scores |= stacked_modes(out / run, options.data, options.channels)
        return {"kimg": kimg, "cpu_s": round(seconds), **scores}

    rates = results.get(f"rates of {', '.join(contestants)}", measure_rates)
    kimgs = {name: round(rates[name] * cores * 60 * options.minutes / 1000, 1) for name in contestants}
    with ThreadPoolExecutor(options.at_a_time or cores) as pool:
        futures = {}
        # All of the first seed before any of the second: a table cut short compares all contestants.
        seeds = {name: range(options.seeds if options.spread in name else 1) for name in contestants}
        for seed, name in itertools.product(range(options.seeds), contestants):
            if seed not in seeds[name]:
                continue
            run = f"{_slug(name)}-{options.minutes:g}min-{seed}"
            measure = partial(measure_quality, name, kimgs[name], seed, run)
            futures[name, seed] = pool.submit(results.get, run, measure)
        found = {key: future.result() for key, future in futures.items()}
    print("| contestant | images/CPU-s | kimg | " + " | ".join(metrics) + " |")
    print("|---|---|---|" + "---|" * len(metrics))
    for name in contestants:
        columns = [_spread([found[name, seed][metric] for seed in seeds[name]]) for metric in metrics]
        print(f"| {name} | {rates[name]:.0f} | {kimgs[name]:g} | " + " | ".join(columns) + " |")


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _recipe(contestant: Contestant) -> str:
    return str(_JOBS / f"{contestant.recipe}.yaml")


def _config(contestant: Contestant) -> Config:
    overrides = parse_overrides([f"{key}={value}" for key, value in contestant.options.items()])
    return with_precision(load_config(_recipe(contestant), overrides), None, torch.device("cpu"))


def _train(
    run: str,
    contestant: Contestant,
    kimg: float,
    seed: int,
    data: Path,
    out: Path,
) -> float:
    """Train to the end; returns the CPU time in seconds."""
    values = {**contestant.options, "training.total_kimg": kimg, "seed": seed, "metrics.port": "null"}
    values |= dict.fromkeys(contestant.scaled, kimg) | {"metrics.controller_port": "null", "training.tick_kimg": 4}
    assignments = [f"{key}={value}" for key, value in values.items()]
    words = [sys.executable, "-m", "gan_distributed.train", "--config", _recipe(contestant)]
    words += ["--data", str(data), "--output", str(out), "--run-id", run, "--workers", "0"]
    words += [word for assignment in assignments for word in ("--set", assignment)]
    return _call([*words, "--set", "cluster.cpus_per_worker=1"])[1]


def _evaluate(run: Path, data: Path, metrics: tuple[str, ...]) -> Result:
    words = [sys.executable, "-m", "gan_distributed.evaluate", str(run), "--data", str(data), "--json"]
    said, _ = _call([*words, *(word for metric in metrics for word in ("--metric", metric))])
    records = json.loads(said)["scores"]
    scores = {record["metric"]: record["value"] for record in records}
    for record in records:
        if record["metric"] == "modes":
            # Every class of the data sets here has as many images.
            expected = record["protocol"]["num_fake"] / record["details"]["classes"]
            scores["imbalance"] = max(abs(count / expected - 1) for count in record["details"]["counts"])
    return scores


def _call(words: list[str]) -> tuple[str, float]:
    """What a command prints, and its CPU time in seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(words, stdout=out, stderr=err, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)}\n{err.read()}")
        return out.read(), used.ru_utime + used.ru_stime


def _spread(values: list[float]) -> str:
    """Median, least and most."""
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
