"""Dies at every crash point of a job, then lets the same job go on; a line of JSON a point. Run as a program.

    python crash_sweep.py train|commit|resume|prepare|append FOLDER

The program imports everything once; each job is a process forked from it, and dies by a real SIGKILL.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from commands import TINY
from crash_points import CrashPoint, Tracer
from datasets import write_dataset

from gan_distributed.config import load_config, parse_overrides
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation import conversion
from gan_distributed.prepare import prepare
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.worker import Assignment, Link, run_rank
from gan_distributed.training.world import World

# Three checkpoints of two steps each; only the last stays, so that older ones are deleted on the way.
SETTINGS = ["training.total_kimg=0.096", "checkpoint.every_kimg=0.032", "checkpoint.keep_last=1"]
SETTINGS += ["training.tick_kimg=0.032", "samples.every_kimg=0.064", "samples.num=1"]


def train(data: str, run_url: Path, log: Path) -> None:
    """`train --workers 0`, told what it says into a file that is whole at any moment."""
    config = load_config(None, parse_overrides([*TINY, *SETTINGS, "seed=3"]))
    assignment = Assignment(
        config, data, str(run_url), f"launch {os.getpid()}", load_manifest(data).fingerprint, frozenset()
    )
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    link = Link(lambda line: os.write(told, f"{line}\n".encode()) and None, lambda: False)
    assert run_rank(assignment, World(), 1, link).kind == "done"


def in_child(job: Callable[[], None]) -> int:
    """The job in a forked process; its exit code, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            # What the job prints is no result of the sweep.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            job()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def traced(job: Callable[[Path], None], folder: Path, notes: Path) -> list[CrashPoint]:
    """The points of an undisturbed job on this folder."""

    def run() -> None:
        tracer = Tracer(folder)
        job(folder)
        notes.write_text(json.dumps([asdict(point) for point in tracer.points]))

    assert in_child(run) == 0
    return [CrashPoint(**point) for point in json.loads(notes.read_text())]


def killed(job: Callable[[Path], None], folder: Path, point: CrashPoint) -> bool:
    """Whether the job met the point, and died there."""

    def run() -> None:
        Tracer(folder, point)
        job(folder)

    code = in_child(run)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def checkpoints_of(run: Path) -> dict[int, str]:
    """{images seen: sha256 of the state} of what is committed, read as a stranger would; each must be whole."""
    found: dict[int, str] = {}
    for commit in sorted(run.glob("checkpoints/*/COMMIT.json")):
        content = json.loads(commit.read_text())
        for file in content["files"].values():
            assert sha256_of(commit.parent / file["name"]) == file["sha256"], (commit, file)
        found[content["seen_images"]] = content["files"]["state"]["sha256"]
    return found


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reported(log: Path) -> int:
    """Images seen of the last checkpoint that was said to be saved."""
    lines = log.read_text().splitlines() if log.exists() else []
    return max((int(line.rsplit("/", 1)[1]) for line in lines if line.startswith("saved checkpoint")), default=-1)


def sweep_train(place: Path, kind: str) -> Iterator[dict]:
    """Every point of a run; of its second checkpoint; or of a resume, up to its first new checkpoint, that meets what a
    crash left: files without a commit, half a file, an older checkpoint.
    """
    data, log = str(place / "data"), place / "log"
    write_dataset(data)
    # What is imported on first use is imported here, once.
    train(data, place / "warm", place / "warm log")
    job = lambda folder: train(data, folder, log)  # noqa: E731
    (place / "straight").mkdir()
    points = traced(job, place / "straight", place / "points.json")
    straight = checkpoints_of(place / "straight")
    run, left = place / "run", place / "left"
    left.mkdir()
    if kind == "commit":
        points = list(filter(is_of_second_checkpoint, points))
    elif kind == "resume":
        assert killed(job, left, CrashPoint("link", "checkpoints/000000000064/COMMIT.json", 1))
        shutil.copytree(left, place / "again")
        points = traced(job, place / "again", place / "points.json")
        new = CrashPoint("open", "checkpoints/000000000064/.tmp", 1)
        points = points[: points.index(new)]
    for point in points:
        shutil.rmtree(run, ignore_errors=True)
        log.unlink(missing_ok=True)
        shutil.copytree(left, run)
        yield end_of(job, run, log, point, straight)


def end_of(job: Callable[[Path], None], run: Path, log: Path, point: CrashPoint, straight: dict) -> dict:
    """What became of a run that died at a point."""
    before = checkpoints_of(run)
    died = killed(job, run, point)
    after = checkpoints_of(run)
    result = {"point": asdict(point), "died": died, "wrong": []}
    newest = max(after, default=-1)
    if newest < max(reported(log), max(before, default=-1)):
        result["wrong"].append(f"newest is {newest}, {reported(log)} was said to be saved")
    log.unlink(missing_ok=True)
    if in_child(lambda: job(run)) != 0:
        result["wrong"].append("did not go on")
    resumed = [line for line in log.read_text().splitlines() if line.startswith("attempt ")]
    if newest > 0 and f"resuming at {newest / 1000:.1f} kimg" not in resumed[-1]:
        result["wrong"].append(f"newest is {newest}, went on as {resumed[-1]}")
    ended = checkpoints_of(run)
    if ended != straight:
        result["wrong"].append(f"ended in other bytes: {sorted(ended)}, {sorted(straight)}")
    ticks = [record["seen_images"] for record in read_records(RunFolder(str(run)))]
    if ticks != [32, 64, 96]:
        result["wrong"].append(f"records of {ticks}")
    if not all((run / "checkpoints" / f"{seen:012d}" / "generator.safetensors").exists() for seen in ended):
        result["wrong"].append("no copy of the generator")
    left = [str(path) for path in run.rglob("*") if path.name.startswith(".tmp")]
    folders = [path.name for path in (run / "checkpoints").iterdir() if int(path.name) not in ended]
    if left or folders:
        result["wrong"].append(f"left behind: {left + folders}")
    return result


def is_of_second_checkpoint(point: CrashPoint) -> bool:
    """Its commit, and the deletion of the first one; not the moments before a file is opened, since the call before has
    left the folder alike.
    """
    if point.call == "open":
        return False
    first, second = "checkpoints/000000000032", "checkpoints/000000000064"
    if point.path.startswith(first):
        return point.call in ("remove", "rmdir") and not point.path.endswith(".tmp")
    return point.path.startswith(second) and (point.call not in ("remove", "rmdir") or point.path.endswith(".tmp"))


def sweep_prepare(place: Path, append: bool) -> Iterator[dict]:
    """Every point of `prepare`, of a new data set or of one that is added to."""
    from preparing import contents, file_of, picture

    conversion.SHARD_BYTES = 9 * 768
    for index in range(16):
        folders = ["all", "first"] if index < 8 else ["all"]
        for folder in folders:
            path = place / folder / str(index % 2) / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no image" if index == 9 else file_of(picture(index)))
    first = place / "first data"
    make = lambda source, dest, add: prepare(  # noqa: E731
        str(source), str(dest), resolution=16, channels=3, workers=0, max_bad=0.5, append=add
    )
    assert in_child(lambda: make(place / "first", first, False)) == 0
    start = lambda dest: shutil.copytree(first, dest) if append else None  # noqa: E731
    job = lambda dest: make(place / "all", dest, append)  # noqa: E731
    start(place / "straight")
    points = traced(job, place / "straight", place / "points.json")
    straight, old = contents(place / "straight"), contents(first)
    dest = place / "dest"
    for point in points:
        shutil.rmtree(dest, ignore_errors=True)
        start(dest)
        result = {"point": asdict(point), "died": killed(job, dest, point), "wrong": []}
        if append and (newest := load_manifest(str(dest))).parent is None:
            # What there was before is untouched.
            changed = [name for name, data in old.items() if (dest / name).read_bytes() != data]
            result["wrong"] += changed
            assert newest == load_manifest(str(first))
        if (dest / "manifest.json").exists():
            manifest = load_manifest(str(dest))
            for record in (*manifest.shards, manifest.labels, manifest.blocks):
                if sha256_of(dest / record.path) != record.sha256:
                    result["wrong"].append(f"{record.path} is not that of the manifest")
        # Where the crash came after the end, the command has nothing to do and says so.
        if in_child(lambda: job(dest)) != 0:
            result["wrong"].append("did not go on")
        if contents(dest) != straight:
            result["wrong"].append("ended in other bytes")
        if left := [path.name for path in dest.rglob(".tmp*")]:
            result["wrong"].append(f"left behind: {left}")
        yield result


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, where = sys.argv[1], Path(sys.argv[2]).absolute()
    results = sweep_prepare(where, kind == "append") if kind in ("prepare", "append") else sweep_train(where, kind)
    for line in results:
        print(json.dumps(line), flush=True)
