"""`train` in the calling process: it ends, resumes to the bit, refuses what does not fit, stops when told."""

import json
import signal

import numpy as np
import pytest
import safetensors.torch
import torch
from commands import Background, run, run_new, train_words
from datasets import write_dataset
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.training.checkpoint import newest_checkpoint
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder


@pytest.fixture
def data(tmp_path):
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")


def state_of(run_url: str) -> dict:
    checkpoint, data = newest_checkpoint(RunFolder(run_url), "state")
    import io

    return torch.load(io.BytesIO(data), weights_only=True) | {"checkpoint": checkpoint}


def flat(value, prefix=""):
    if isinstance(value, dict):
        return {key: item for name, part in value.items() for key, item in flat(part, f"{prefix}{name}.").items()}
    return {prefix: value}


def digests_of(folder) -> dict[int, str]:
    """The order's digest at each tick."""
    return {record["seen_images"]: record["order_digest"] for record in read_records(RunFolder(str(folder)))}


def assert_same_state(one: dict, other: dict) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.numpy().tobytes() == other[name].numpy().tobytes(), name
        elif "checkpoint" not in name:
            assert value == other[name], name


def test_a_run_ends_with_all_its_files_and_says_so(tmp_path, data):
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 0)
    ended = run_new(words)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "runs" / "r"
    assert "0.6/0.6 kimg" in ended.stderr
    last = ended.stderr.splitlines()[-2]
    assert last.startswith("done: 0.6 kimg, loss D ")
    assert "D accuracy real" in last
    assert last.endswith(f"last grid {folder}/samples/000000000640.png")
    grid = np.asarray(Image.open(folder / "samples" / "000000000640.png"))
    assert grid.shape == (2 * 34 + 2, 2 * 34 + 2)
    assert len(np.unique(grid)) > 10
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        "000000000000.png",
        "000000000320.png",
        "000000000640.png",
    ]
    assert json.loads((folder / "DONE.json").read_text())["seen_images"] == 640
    records = read_records(RunFolder(str(folder)))
    assert [record["seen_images"] for record in records] == [160, 320, 480, 640]
    assert len({record["order_digest"] for record in records}) == 4
    weights = safetensors.torch.load_file(folder / "checkpoints" / "000000000640" / "generator.safetensors")
    state = state_of(str(folder))
    assert all(torch.equal(weights[name], tensor) for name, tensor in state["ema"].items())
    assert "is finished: 0.6 kimg" in run(words).stderr


def test_kill_and_the_same_command_give_the_same_bytes(tmp_path, data):
    """I3: 40 steps straight, and about 20 steps, SIGKILL, and the same command."""
    settings = [
        "augment.policy=[color, translation]",
        "augment.p=adaptive",
        "augment.ada_kimg=2",
        "augment.target=-0.9",
    ]
    settings += ["loss.r1_gamma=1", "loss.r1_every=3"]
    straight = run(train_words(tmp_path, data, str(tmp_path / "straight"), 0, *settings))
    assert straight.returncode == 0, straight.stderr
    words = train_words(tmp_path, data, str(tmp_path / "killed"), 0, *settings)
    commit = tmp_path / "killed" / "r" / "checkpoints" / "000000000320" / "COMMIT.json"
    with Background(words, tmp_path / "log") as job:
        job.wait_for(commit.exists)
        job.kill()
    assert not (tmp_path / "killed" / "r" / "DONE.json").exists()
    resumed = run(words)
    assert resumed.returncode == 0, resumed.stderr
    assert "attempt 2: resuming at 0.3 kimg" in resumed.stderr
    assert_same_state(state_of(str(tmp_path / "straight" / "r")), state_of(str(tmp_path / "killed" / "r")))
    assert digests_of(tmp_path / "straight" / "r") == digests_of(tmp_path / "killed" / "r")
    records = read_records(RunFolder(str(tmp_path / "killed" / "r")))
    assert records[-1]["augment_probability"] == state_of(str(tmp_path / "straight" / "r"))["augment_p"] > 0


def test_sampling_and_checkpoints_change_not_one_bit(tmp_path, data):
    ends = []
    for name, settings in (("often", ["samples.every_kimg=0.032", "checkpoint.every_kimg=0.1"]), ("never", [])):
        words = train_words(tmp_path, data, str(tmp_path / name), 0, *(settings or ["samples.every_kimg=null"]))
        assert run(words).returncode == 0
        ends.append(state_of(str(tmp_path / name / "r")))
    assert_same_state(*ends)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_a_last_checkpoint_and_tells_by_its_code(tmp_path, data, number, code):
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 0, "training.total_kimg=100")
    with Background(words, tmp_path / "log") as job:
        job.wait_for_line("/100.0 kimg")
        job.process.send_signal(number)
        assert job.end() == code
        log = job.log()
    assert "saving a last checkpoint" in log
    assert "the same command goes on from there" in log
    seen = state_of(str(tmp_path / "runs" / "r"))["seen_images"]
    assert f"stopped at {seen / 1000:.1f} kimg" in log
    # It was not waited for: the lease was released.
    resumed = run(train_words(tmp_path, data, str(tmp_path / "runs"), 0, f"training.total_kimg={seen / 1000 + 0.1}"))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at" in resumed.stderr
    assert "waiting up to" not in resumed.stderr


def test_broken_checkpoints_are_passed_over_on_resume(tmp_path, data):
    output = str(tmp_path / "runs")
    assert run(train_words(tmp_path, data, output, 0)).returncode == 0
    folder = tmp_path / "runs" / "r" / "checkpoints" / "000000000640"
    state = next(folder.glob("state-*.pt"))
    state.write_bytes(state.read_bytes()[:-100])
    resumed = run(train_words(tmp_path, data, output, 0, "training.total_kimg=0.8"))
    assert resumed.returncode == 0, resumed.stderr
    assert "checkpoint passed over" in resumed.stderr
    assert "resuming at 0.3 kimg" in resumed.stderr


def test_a_changed_recipe_is_refused_unless_set(tmp_path, data):
    output = str(tmp_path / "runs")
    assert run(train_words(tmp_path, data, output, 0)).returncode == 0
    path = tmp_path / "recipe.yaml"
    words = train_words(tmp_path, data, output, 0, "training.total_kimg=0.8")
    path.write_text("seed: 3\nloss: {name: hinge}\n")
    refused = run(words)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "loss.name was bce, now hinge; change it on purpose with --set loss.name=" in refused.stderr
    path.write_text("seed: 4\n")
    assert "seed was 3, now 4; use another --run-id or --fresh" in run(words).stderr
    write_dataset(str(tmp_path / "other"), num=200)
    path.write_text("seed: 3\n")
    other = run(train_words(tmp_path, str(tmp_path / "other"), output, 0, "training.total_kimg=0.8"))
    assert other.returncode == 2
    assert "was started on another data set" in other.stderr
    fresh = run([*train_words(tmp_path, str(tmp_path / "other"), output, 0), "--fresh"])
    assert fresh.returncode == 0, fresh.stderr
    assert "starting on 1 x cpu" in fresh.stderr


def test_numbers_that_stay_bad_go_back_once_and_then_end(tmp_path, data):
    """I5 end to end: a learning rate beyond all measure makes every gradient non-finite."""
    settings = ["optimizer.discriminator.lr=1e38", "optimizer.generator.lr=1e38", "loss.name=lsgan"]
    settings += ["training.max_nonfinite_steps=3", "training.total_kimg=3"]
    ended = run(train_words(tmp_path, data, str(tmp_path / "runs"), 0, *settings))
    assert ended.returncode == 1, ended.stderr
    assert "going back to 0.0 kimg with other latents and lower learning rates" in ended.stderr
    assert "a second time from the checkpoint at 0.0 kimg" in ended.stderr.splitlines()[-1]
    assert storage.names(str(tmp_path / "runs" / "r" / "rollbacks")) == ["000001.json"]


def test_user_mistakes_are_one_line_and_exit_2(tmp_path, data):
    write_dataset(str(tmp_path / "three"), num=3)
    output = str(tmp_path / "runs")
    cases = {
        "3 images are fewer than data.num_lanes 8; prepare more images, or --set data.num_lanes=3": train_words(
            tmp_path, str(tmp_path / "three"), output, 0
        ),
        "no prepared data set": train_words(tmp_path, str(tmp_path / "nothing"), output, 0),
        "training.batch_sise: unknown key; did you mean training.batch_size?": train_words(
            tmp_path, data, output, 0, "training.batch_sise=3"
        ),
        "memory:// lives in one process only": train_words(tmp_path, "memory://x", output, 2),
        "no such option": [*train_words(tmp_path, data, output, 0), "--wrong"],
    }
    for told, words in cases.items():
        ended = run(words)
        assert ended.returncode == 2, ended.stderr
        assert told in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(tmp_path, data):
    ended = run([*train_words(tmp_path, data, str(tmp_path / "runs"), 3), "--dry-run"])
    assert ended.returncode == 0
    assert f"url: {data}" in ended.stdout
    assert "workers: 3" in ended.stdout
    assert not (tmp_path / "runs").exists()
