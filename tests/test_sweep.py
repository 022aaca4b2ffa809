"""`sweep`: trials on real Ray Tune that are stopped, interrupted and gone on with; the table and page at the end."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from commands import TINY, Background, run
from datasets import write_dataset
from in_process import run_here, undisturbed

from gan_distributed.config import parse_choices
from gan_distributed.errors import InputError, TrainingError
from gan_distributed.sweep import sweep
from gan_distributed.sweeping.planning import Sweep, plan_sweep
from gan_distributed.sweeping.record import Record
from gan_distributed.sweeping.roster import End
from gan_distributed.training import lease
from gan_distributed.training.checkpoint import newest_checkpoint
from gan_distributed.training.layout import usable_cores
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder

SCORED = ["samples.every_kimg=null", "score.every_kimg=0.032", "score.metrics=[swd]", "score.num_images=32"]
RATES = ["5e-3", "1e-9", "1e-8"]
VARIED = f"optimizer.generator.lr={','.join(RATES)}"


def recipe_below(folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text("seed: 3\nrun_id: rates\n")
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The runs of a sweep of three trials: one trained to its end, one to a part of it, one not begun."""
    folder = tmp_path_factory.mktemp("made")
    write_dataset(str(folder / "data"))
    for number, kimg in ((0, 0.096), (1, 0.064)):
        settings = [*SCORED, f"training.total_kimg={kimg}", f"optimizer.generator.lr={RATES[number]}"]
        run_here(str(folder / "data"), folder / "runs" / "rates-sweep" / f"rates-sweep-00{number}", *settings)
    return folder


@pytest.fixture
def trained(made, tmp_path):
    """Of these, the second was stopped."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    record, sweep = record_of(tmp_path)
    record.add(sweep.trials[1], End(1, "stopped", 64))
    return tmp_path


def words_of(*settings: str) -> list[str]:
    return [*TINY, *SCORED, "training.total_kimg=0.096", *settings]


def record_of(folder: Path) -> tuple[Record, Sweep]:
    places = {"data.url": str(folder / "data"), "output": str(folder / "runs")}
    sweep = plan_sweep(recipe_below(folder), parse_choices(words_of(VARIED)), places, None)
    return Record(sweep), sweep


def end(folder: Path, *settings: str, **options) -> int:
    """The command in this process, for where no trial is left to train."""
    with undisturbed():
        return sweep(
            recipe=recipe_below(folder),
            data=str(folder / "data"),
            output=str(folder / "runs"),
            set_=words_of(*settings),
            **options,
        )


def test_what_is_trained_is_not_trained_again_but_compared(trained, capsys):
    record, planned = record_of(trained)
    record.add(planned.trials[2], End(2, "stopped", 0))
    assert end(trained, VARIED) == 0
    shown = capsys.readouterr()
    assert "all 3 trials ended before" in shown.err
    header, best, second, last, _, place = shown.out.splitlines()
    assert header.split() == ["run", "status", "kimg", "swd", "at", "kimg", "optimizer.generator.lr"]
    assert best.split()[:3] == ["rates-sweep-000", "done", "0.096"]
    assert second.split()[:3] == ["rates-sweep-001", "stopped", "0.064"]
    assert last.split() == ["rates-sweep-002", "stopped", "0", "1e-8"]
    page = trained / "runs" / "rates-sweep" / "comparison.html"
    assert place == f"the best 2 side by side: {page}"
    assert "rates-sweep-000" in page.read_text()
    assert end(trained, VARIED, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["metric"], found["lower_is_better"], found["page"]) == ("swd", True, str(page))
    assert [trial["status"] for trial in found["trials"]] == ["done", "stopped", "stopped"]
    assert found["trials"][0]["score"] < found["trials"][1]["score"]
    assert found["trials"][0]["values"] == {"optimizer.generator.lr": "5e-3"}


def test_another_sweep_of_the_same_name_is_refused(trained):
    before = (trained / "runs" / "rates-sweep" / "sweep.json").read_bytes()
    with pytest.raises(InputError, match=r"has another axes: .*give the same command, or another --run-id"):
        end(trained, "optimizer.generator.lr=5e-3,1e-7")
    with pytest.raises(InputError, match="has another protocol: .*'num_images': 32.*'num_images': 64"):
        end(trained, VARIED, "score.num_images=64")
    assert (trained / "runs" / "rates-sweep" / "sweep.json").read_bytes() == before


def test_what_another_command_did_meanwhile_is_read(trained, monkeypatch, capsys):
    """It held the sweep when this command came, and ended all of it before it let go."""
    record, planned = record_of(trained)
    acquire = lease.acquire

    def after_a_while(run: RunFolder, owner: str) -> lease.Lease:
        record.add(planned.trials[2], End(2, "stopped", 0))
        return acquire(run, owner)

    monkeypatch.setattr(lease, "acquire", after_a_while)
    assert end(trained, VARIED) == 0
    assert "3 of 3 trials ended before" in capsys.readouterr().err
    assert lease.sign_of_life(planned.folder) == "stopped"
    assert [record_of(trained)[0].of(trial).get("status") for trial in planned.trials] == [None, "stopped", "stopped"]


def test_a_sweep_without_an_end_fails(trained, capsys):
    record, planned = record_of(trained)
    for number in (0, 2):
        record.add(planned.trials[number], End(number, "stopped", 0))
    (trained / "runs" / "rates-sweep" / "rates-sweep-000" / "DONE.json").unlink()
    with pytest.raises(TrainingError, match="rates-sweep: no trial came to its end"):
        end(trained, VARIED)
    assert "rates-sweep-000  stopped" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_poor_trials_stop_and_an_interrupted_sweep_goes_on(tmp_path):
    """One trial at a time, the best one first, so that which ones are poor is no matter of chance."""
    write_dataset(str(tmp_path / "data"))
    words = [sys.executable, "-m", "gan_distributed.sweep", recipe_below(tmp_path), "--data", str(tmp_path / "data")]
    words += ["--output", str(tmp_path / "runs"), "--first-rung-kimg", "0.1"]
    for setting in [*TINY, *SCORED, "training.total_kimg=1.28", f"cluster.cpus_per_worker={usable_cores()}", VARIED]:
        words += ["--set", setting]
    folder = tmp_path / "runs" / "rates-sweep"
    with Background(words, tmp_path / "log") as job:
        job.wait_for((folder / "rates-sweep-000" / "checkpoints" / "000000000320" / "COMMIT.json").exists)
        job.process.send_signal(signal.SIGINT)
        assert job.end() == 130, job.log()
        assert "[0/3] rates-sweep-000 interrupted at " in job.log()
        assert "interrupted; the same command goes on" in job.log()
    assert not (folder / "rates-sweep-001").exists()
    ended = run([*words, "--json"])
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert next((trial["run"], trial["status"]) for trial in found["trials"]) == ("rates-sweep-000", "done")
    assert {trial["status"] for trial in found["trials"][1:]} == {"stopped"}
    for trial in found["trials"]:
        lived = RunFolder(str(folder / trial["run"]))
        checkpoint, _ = newest_checkpoint(lived, "state")
        assert checkpoint.seen_images == trial["seen_images"]
        # Stopped soon after the first rung, which the first score past it stands for.
        assert trial["status"] == "done" or 128 <= trial["seen_images"] < 1280
    # Went on from its own checkpoint.
    assert {record["attempt"] for record in read_records(RunFolder(str(folder / "rates-sweep-000")))} == {1, 2}
    assert (folder / "comparison.html").exists()
    again = run(words)
    assert again.returncode == 0, again.stderr
    assert "all 3 trials ended before" in again.stderr
    assert "at a time" not in again.stderr
    # Each is a run like any other.
    listed = run([*words[:2], "gan_distributed.runs", str(folder), "--json"])
    assert [one["status"] for one in json.loads(listed.stdout)["runs"]] == ["done", "stopped", "stopped"]
