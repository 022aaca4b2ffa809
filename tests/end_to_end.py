"""The whole job through `submit --ray` on this machine: a Ray head and nodes, a bucket server, Prometheus; a table.

make e2e, or PYTHONPATH=tests python -m end_to_end. Leaves nothing running. The test of the same name runs it small.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from board import check_board, scraped
from commands import Background, run
from ray_head import BIN, RAY, Head, job_head, join
from servers import free_port, gcs_server, get, prometheus, within

RUN, DATA = "gs://bucket/runs/e2e", "gs://bucket/data"
RECIPE = str(Path(__file__).parents[1] / "jobs" / "demo.yaml")
# As users call it, in processes of its own.
PROGRAM = [str(BIN / "gan-distributed")]
MODULE = [sys.executable, "-m"]
# How long a drained node lives on.
_DRAIN_S = "12"
_MARK = "GAN_DISTRIBUTED_END_TO_END"


@dataclass
class Size:
    """How much is done.   more_kimg: what the second command adds to the first.   verb: the words that call a verb."""

    settings: dict[str, object]
    more_kimg: float
    num_scored: int
    is_installed: bool = True

    def verb(self, name: str, *words: str) -> list[str]:
        return [*PROGRAM, name, *words] if self.is_installed else [*MODULE, f"gan_distributed.{name}", *words]


WHOLE = Size(
    {
        "training.tick_kimg": 0.64,
        "checkpoint.every_kimg": 1.28,
        "samples.every_kimg": 2.56,
        "samples.num": 20,
        "score.every_kimg": 0.64,
        "score.num_images": 64,
    },
    more_kimg=2.56,
    num_scored=256,
)


@dataclass
class Steps:
    """What was done, what came of it, and how long it took."""

    rows: list[tuple[str, str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def done(self, what: str, result: str) -> None:
        """A step is over."""
        now = time.monotonic()
        self.rows.append((what, result, now - self.began))
        self.began = now
        print(f"{what}: {result}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """All steps."""
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        return "\n".join(f"{what:<{widths[0]}}  {got:<{widths[1]}}  {took:6.1f} s" for what, got, took in self.rows)


@dataclass
class Place:
    """Where it happens: the cluster with its nodes, and the ports at which Prometheus looks."""

    folder: Path
    head: Head
    size: Size
    ranks_port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    preparing_port: int = field(default_factory=free_port)
    nodes: list[Background] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        ports = (self.ranks_port, self.ranks_port + 1, self.controller_port, self.preparing_port)
        return [f"127.0.0.1:{port}" for port in ports]

    def add_node(self) -> None:
        """One with room for both workers, which are its local ranks 0 and 1."""
        log = self.folder / f"node{len(self.nodes)}.log"
        self.nodes.append(join(self.head.address, log, 2, self.head.environment))

    def submit(self, settings: dict[str, object], *words: str) -> Background:
        """A submission that follows its job."""
        words = (RECIPE, "--data", DATA, "--output", RUN.rpartition("/")[0], "--run-id", "e2e", *words)
        words += ("--ray", self.head.dashboard, "--workers", "2", "--gpus-per-worker", "0")
        words += tuple(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))
        log = self.folder / f"submission{uuid.uuid4().hex}.log"
        return Background(self.size.verb("submit", *words), log, **self.head.environment)

    def train(self, total_kimg: float) -> Background:
        """The run, to so many images."""
        settings = self.size.settings | {"training.total_kimg": total_kimg, "cluster.cpus_per_worker": 1}
        settings |= {"score.metrics": "[swd]", "metrics.host": "127.0.0.1"}
        settings |= {"metrics.port": self.ranks_port, "metrics.controller_port": self.controller_port}
        return self.submit(settings)

    def prepare(self) -> Background:
        """The data set; its endpoint stays for a look at it."""
        settings = {"metrics.controller_port": self.preparing_port, "metrics.linger_s": 45}
        return self.submit(settings, "--prepare", "builtin:fashion-mnist", "--resolution", "32")

    def close(self) -> None:
        """End the nodes."""
        for node in self.nodes:
            node.kill()


def the_job(place: Place, server: str, steps: Steps) -> None:
    """From raw images to the end of training, all of it submitted."""
    with place.prepare() as preparation:
        place.add_node()
        num_asked = check_board(server, "preparing")
        preparation.wait_for_line("prepared: ")
        steps.done("prepare", re.search(r"\d+ images of [\dx]+", preparation.log())[0])
        with place.train(99999) as job:
            job.wait_for_line("saved checkpoint")
            steps.done("train on the first node", "a checkpoint is saved")
            lint(place.ranks_port)
            num_asked += check_board(server, "training")
            steps.done("the board", f"{num_asked} queries have data")
            steps.done("its node is drained", drained(job, place, server))
            seen_kimg = stopped(job, place.head)
            steps.done("ray job stop", f"stopped at {seen_kimg} kimg, exit code 143")
        assert preparation.end() == 0, preparation.log()
    with place.train(seen_kimg + place.size.more_kimg) as job:
        assert job.end() == 0, job.log()
        assert f"resuming at {seen_kimg} kimg" in job.log()
    host = place.head.environment["STORAGE_EMULATOR_HOST"]
    done = json.loads(get(f"{host}/storage/v1/b/bucket/o/runs%2Fe2e%2FDONE.json?alt=media"))
    steps.done("the same submission again", f"DONE at {done['seen_images'] / 1000:.1f} kimg, exit code 0")


def lint(port: int) -> None:
    """What a rank tells is as promtool wants it."""
    text = get(f"http://127.0.0.1:{port}/metrics")
    ended = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "gan_last_committed_seen_images{" in text


def drained(job: Background, place: Place, server: str) -> str:
    """The node of the workers is taken away, another one takes them."""
    assert scraped(server, ["gan_restarts_total", "gan_preemptions_total", 'gan_world_size{rank="0"}']) == [0, 0, 2]
    place.add_node()
    place.nodes[0].process.send_signal(signal.SIGTERM)
    job.wait_for_line("will be taken away")
    job.wait_for_line("resuming at")
    job.wait_for(lambda: "saved checkpoint" in job.log().rsplit("resuming at", 1)[1])
    assert scraped(server, ["gan_preemptions_total == 1", "gan_restarts_total"]) == [1, 0]
    return re.findall(r"resuming at \d+\.\d kimg", job.log())[-1]


def stopped(job: Background, head: Head) -> float:
    """The job is stopped as Ray stops one; where it stood at its last checkpoint, in kimg."""
    submission = re.search(r"^job (\S+) on ", job.log(), re.MULTILINE)[1]
    ended = run([RAY, "job", "stop", submission], **head.environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert job.end() == 143, job.log()
    stood = re.search(r"stopped at (\d+\.\d) kimg", job.log())
    assert stood is not None, job.log()
    return float(stood[1])


def the_use(place: Place, steps: Steps) -> None:
    """Pictures and scores of the run in the bucket, by commands of this machine."""
    size, environment = place.size, place.head.environment
    made = run(size.verb("generate", RUN, "gs://bucket/pictures", "--num=20", "--grid"), **environment)
    assert made.returncode == 0, made.stderr
    steps.done("generate", made.stdout.strip())
    words = size.verb("evaluate", RUN, f"--data={DATA}", "--metric=swd", f"--num-images={size.num_scored}", "--json")
    scored = run(words, **environment)
    assert scored.returncode == 0, scored.stderr
    (score,) = json.loads(scored.stdout)["scores"]
    steps.done("evaluate", f"{score['metric']} {score['value']:.4g} on {score['protocol']['num_fake']} images")


@contextlib.contextmanager
def nothing_left(steps: Steps) -> Iterator[None]:
    """Whatever was started in the block must be gone after it: all of it knows the mark."""
    mark = uuid.uuid4().hex
    with within({_MARK: mark}):
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
            # Python's own tracker of resources, and the server of warm processes, end with this process.
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            helps = parent == os.getpid() and re.search("resource_tracker|forkserver", words)
            is_own = int(process.name) == os.getpid() or helps
            if not is_own and words and f"{_MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(words[:100])
    return found


def everything(size: Size, steps: Steps) -> None:
    """Run it once."""
    with (
        nothing_left(steps),
        tempfile.TemporaryDirectory() as name,
        gcs_server("bucket") as bucket,
        # Without CPUs, so that workers live on the other nodes, as in a cluster.
        job_head(Path(name), num_cpus=0, RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=_DRAIN_S, **bucket) as head,
        contextlib.closing(Place(Path(name), head, size)) as place,
        prometheus(place.folder, place.targets) as server,
    ):
        steps.done("a Ray head, a bucket server, Prometheus", head.dashboard)
        the_job(place, server, steps)
        the_use(place, steps)


if __name__ == "__main__":
    table = Steps()
    everything(WHOLE, table)
    print(table.table())
