"""From the command to the first step on two CPU workers, and how much of it Ray and torch take anyway.

    PYTHONPATH=tests python benchmarks/start_up.py [--rounds 5] [--recipe jobs/demo.yaml] [--json]

In turn: `train` with two workers until it tells of its first step, which a worker's line does within 0.2 s; and
`bare_trainer.py`, a TorchTrainer whose two workers import torch and leave a file. Each is a new process and a new Ray.
Wall time, and the CPU time of all processes of the command up to then, also by process: half of it is the least that
two cores need. Medians over rounds; what is over the bare one is the median of the rounds' differences.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from commands import Background
from cpu_time import cpu_times, spent_by_name

from gan_distributed.config import load_config
from gan_distributed.prepare import prepare

_BARE = Path(__file__).with_name("bare_trainer.py")
_RANKS = 2
_LABELS = {
    "ours_ray": "`train`: Ray is up",
    "ours_networks": "`train`: a worker has networks, and has checked itself",
    "ours_ready": "`train`: the first step is told of",
    "bare_ray": "bare: Ray is up",
    "bare_ready": "bare: both workers have torch",
    "over_bare": "`train` over bare",
}
# A process that took less is not worth a row.
_LEAST_CPU_S = 0.5


@dataclass(frozen=True)
class Mark:
    """Seconds from the command on: by the wall clock, and of CPU time by the names of processes."""

    wall_s: float
    processes: dict[str, float]

    @property
    def cpu_s(self) -> float:
        return sum(self.processes.values())


Marks = dict[str, Mark]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", default="jobs/demo.yaml")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="start-up") as folder:
        prepare("builtin:fashion-mnist", f"{folder}/data", resolution=32)
        rounds = [one_round(Path(folder), index, options.recipe) for index in range(options.rounds)]
    found = figures(rounds)
    if options.json:
        print(json.dumps(found | {"cpu_s_by_process": by_process(rounds)}, indent=1))
    else:
        print(table(found, rounds))


def one_round(folder: Path, index: int, recipe: str) -> dict[str, Marks]:
    """Both, in an order that changes from round to round."""
    sides = {"bare": bare, "ours": ours}
    names = list(sides) if index % 2 else list(sides)[::-1]
    found = {}
    for name in names:
        place = folder / f"{name}-{index}"
        place.mkdir()
        found[name] = sides[name](place, folder / "data", recipe)
        ready = found[name]["ready"]
        print(f"{name}: {ready.wall_s:.1f} s, CPU time {ready.cpu_s:.1f} s", file=sys.stderr)
    return found


def ours(folder: Path, data: Path, recipe: str) -> Marks:
    step_kimg = load_config(recipe).training.batch_size / 1000
    words = [sys.executable, "-m", "gan_distributed.train", "--config", recipe, "--data", str(data)]
    words += ["--output", str(folder), "--run-id", "first", "--workers", str(_RANKS)]
    for setting in (f"training.total_kimg={step_kimg}", f"training.tick_kimg={step_kimg}", "samples.every_kimg=null"):
        words += ["--set", setting]
    marks = {"ray": f"{_RANKS} workers, ", "networks": "attempt 1: starting", "ready": " images/s  "}
    return marked(words, folder, {name: tells(text) for name, text in marks.items()})


def bare(folder: Path, _data: Path, _recipe: str) -> Marks:
    def all_ready(_job: Background) -> bool:
        return all((folder / f"rank{rank}").exists() for rank in range(_RANKS))

    return marked([sys.executable, str(_BARE), str(folder)], folder, {"ray": tells("Ray is up"), "ready": all_ready})


def tells(text: str) -> Callable[[Background], bool]:
    """Whether a command has printed it."""
    return lambda job: text in job.log()


def marked(words: list[str], folder: Path, marks: dict[str, Callable[[Background], bool]]) -> Marks:
    """When each mark is there."""
    # What the last command started may not have ended yet.
    before = cpu_times(with_ended=True)
    found, begun = {}, time.monotonic()
    # By way of `env`, as a user's command starts: not in a process that has imported everything before.
    with Background(["env", *words], folder / "log") as job:
        for name, is_there in marks.items():
            job.wait_for(lambda: is_there(job))  # noqa: B023 - waits here
            found[name] = Mark(time.monotonic() - begun, spent_by_name(before))
        code = job.end()
        if code:
            sys.exit(f"{' '.join(words)} ended with {code}:\n{job.log()}")
    return found


def figures(rounds: list[dict[str, Marks]]) -> dict[str, float]:
    found = {}
    for clock in ("wall_s", "cpu_s"):
        for name in _LABELS:
            side, mark = name.split("_")
            found[f"{name}_{clock}"] = statistics.median(
                getattr(one["ours"]["ready"], clock) - getattr(one["bare"]["ready"], clock)
                if side == "over"
                else getattr(one[side][mark], clock)
                for one in rounds
            )
    return found


def by_process(rounds: list[dict[str, Marks]]) -> dict[str, dict[str, float]]:
    """CPU time of both sides by the names of processes, from those of ours that take most on."""
    found: dict[str, dict[str, float]] = {}
    for side in ("ours", "bare"):
        processes = [one[side]["ready"].processes for one in rounds]
        for name in dict.fromkeys(name for one in processes for name in one):
            found.setdefault(name, {})[side] = statistics.median(one.get(name, 0.0) for one in processes)
    return {name: sides for name, sides in found.items() if max(sides.values()) >= _LEAST_CPU_S}


def table(found: dict[str, float], rounds: list[dict[str, Marks]]) -> str:
    """A row a mark: seconds since the command; then a row for the processes of a name."""
    lines = ["| | wall | CPU time |", "|---|---|---|"]
    for name, label in _LABELS.items():
        lines.append(f"| {label} | {found[name + '_wall_s']:.1f} s | {found[name + '_cpu_s']:.1f} s |")
    lines += ["", "| processes | CPU time, `train` | bare |", "|---|---|---|"]
    for name, sides in by_process(rounds).items():
        lines.append(f"| {name} | {sides.get('ours', 0.0):.1f} s | {sides.get('bare', 0.0):.1f} s |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
