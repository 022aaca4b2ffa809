"""The whole job on this machine: a Ray head and nodes, a bucket server, Prometheus; a table of what was seen.

make e2e, or PYTHONPATH=tests:tests/faults python -m end_to_end. Leaves nothing running.
"""

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from board import check_board, scraped
from commands import Background, run
from nodes import Nodes, nodes
from servers import free_port, gcs_server, get, prometheus, within

RUN = "gs://bucket/runs/e2e"
# As users call it, in processes of its own.
PROGRAM = str(Path(sys.executable).parent / "gan-distributed")
RECIPE = str(Path(__file__).parents[1] / "jobs" / "demo.yaml")
_MARK = "GAN_DISTRIBUTED_END_TO_END"


class Steps:
    """What was done, what came of it, and how long it took."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, float]] = []
        self._began = time.monotonic()

    def done(self, what: str, result: str) -> None:
        """A step is over."""
        now = time.monotonic()
        self._rows.append((what, result, now - self._began))
        self._began = now
        print(f"{what}: {result}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """All steps."""
        widths = [max(len(row[column]) for row in self._rows) for column in (0, 1)]
        return "\n".join(f"{what:<{widths[0]}}  {got:<{widths[1]}}  {took:6.1f} s" for what, got, took in self._rows)


def train_words(total_kimg: float, ports: tuple[int, int]) -> list[str]:
    """The command; two workers that fit on one node, as local ranks 0 and 1."""
    words = [PROGRAM, "train", f"--config={RECIPE}", "--data=gs://bucket/data", "--run-id=e2e"]
    words += ["--output=gs://bucket/runs", "--workers=2"]
    settings = {"training.total_kimg": total_kimg, "training.tick_kimg": 0.64, "checkpoint.every_kimg": 1.28}
    settings |= {"samples.every_kimg": 2.56, "samples.num": 20, "cluster.cpus_per_worker": 1}
    settings |= {"score.every_kimg": 0.64, "score.metrics": "[swd]", "score.num_images": 64}
    settings |= {"metrics.host": "127.0.0.1", "metrics.port": ports[0], "metrics.controller_port": ports[1]}
    return words + [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def prepared(folder: Path, port: int, environment: dict[str, str]) -> Background:
    """`prepare`, done, with its endpoint still there."""
    words = [PROGRAM, "prepare", "builtin:fashion-mnist", "gs://bucket/data", "--resolution=32"]
    words += [f"--metrics-port={port}", "--metrics-linger=99999"]
    job = Background(words, folder / "prepare.log", **environment)
    job.wait_for_line("prepared: ")
    return job


def drained(job: Background, cluster: Nodes, server: str) -> str:
    """The node of the workers is taken away, another one takes them."""
    leaving = cluster.spot[0]
    cluster.add_spot(num_cpus=2)
    cluster.drain(leaving)
    job.wait_for_line("will be taken away")
    job.wait_for_line("resuming at")
    job.wait_for(lambda: "saved checkpoint" in job.log().rsplit("resuming at", 1)[1])
    assert scraped(server, ["gan_preemptions_total == 1"]) == [1]
    assert scraped(server, ["gan_restarts_total"]) == [0]
    return re.findall(r"resuming at \d+\.\d kimg", job.log())[-1]


def the_job(folder: Path, cluster: Nodes, bucket: dict[str, str], steps: Steps) -> None:
    """From raw images to scores."""
    environment = bucket | cluster.environment
    base, controller, preparing = free_port(), free_port(), free_port()
    targets = [f"127.0.0.1:{port}" for port in (base, base + 1, controller, preparing)]
    with prometheus(folder, targets) as server:
        with prepared(folder, preparing, environment) as preparation:
            steps.done("prepare", re.search(r"\d+ images of [\dx]+", preparation.log())[0])
            cluster.add_spot(num_cpus=2)
            with Background(train_words(99999, (base, controller)), folder / "log", **environment) as job:
                job.wait_for_line("saved checkpoint")
                steps.done("train on the first node", "a checkpoint is saved")
                steps.done("the board", f"{check_board(server)} queries have data")
                steps.done("its node is drained", drained(job, cluster, server))
                job.process.send_signal(signal.SIGTERM)
                assert job.end() == 143, job.log()
                steps.done("SIGTERM", re.search(r"stopped at \d+\.\d kimg", job.log())[0])
        seen_kimg = float(re.search(r"stopped at (\d+\.\d) kimg", job.log())[1])
        ended = run(train_words(seen_kimg + 2.56, (base, controller)), **environment)
        assert ended.returncode == 0, ended.stderr
    done = json.loads(get(f"{bucket['STORAGE_EMULATOR_HOST']}/storage/v1/b/bucket/o/runs%2Fe2e%2FDONE.json?alt=media"))
    steps.done("the same command again, to its end", f"DONE at {done['seen_images'] / 1000:.1f} kimg")
    made = run([PROGRAM, "generate", RUN, "gs://bucket/pictures", "--num=20", "--grid"], **environment)
    assert made.returncode == 0, made.stderr
    steps.done("generate", made.stdout.strip())
    words = [PROGRAM, "evaluate", RUN, "--data=gs://bucket/data", "--metric=swd", "--num-images=256"]
    scored = run([*words, "--json"], **environment)
    assert scored.returncode == 0, scored.stderr
    (score,) = json.loads(scored.stdout)["scores"]
    steps.done("evaluate", f"{score['metric']} {score['value']:.4g} on {score['protocol']['num_fake']} images")


@contextlib.contextmanager
def nothing_left(steps: Steps) -> Iterator[None]:
    """Whatever was started in the block must be gone after it: all of it knows the mark."""
    os.environ[_MARK] = mark = uuid.uuid4().hex
    yield
    deadline = time.monotonic() + 60
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"still there: {left}"
    steps.done("everything ended", "no process is left")


def _marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            # Python's own tracker of resources ends with this process.
            is_own = int(process.name) == os.getpid() or "resource_tracker" in words
            if not is_own and words and f"{_MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(words[:100])
    return found


def main() -> None:
    """Run everything once."""
    steps = Steps()
    with (
        nothing_left(steps),
        tempfile.TemporaryDirectory() as folder,
        gcs_server("bucket") as bucket,
        # Nodes hand their environment to the workers.
        within(bucket),
        nodes() as cluster,
    ):
        steps.done("a Ray head and a bucket server", cluster.environment["RAY_ADDRESS"])
        the_job(Path(folder), cluster, bucket, steps)
    print(steps.table())


if __name__ == "__main__":
    main()
