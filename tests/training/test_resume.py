"""What a resume refuses, naming the fields; what it takes, and writes down; new runs from old weights."""

import io
import json
import shutil

import pytest
import torch
import yaml
from datasets import write_dataset
from in_process import run_here, train_here

from gan_distributed.config import load_config
from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, ResumeError
from gan_distributed.models import initialization
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.checkpoint import newest_checkpoint, open_checkpoint
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.world import World

LONGER = "training.total_kimg=0.128"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a data set and a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(str(folder / "data"))
    assert train_here(folder, str(folder / "data")) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def recorded(folder, run_id="r"):
    return yaml.safe_load((folder / "runs" / run_id / "config.yaml").read_text())


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.family=sngan", "model.family was dcgan, now sngan; use another --run-id or --fresh"),
        ("model.latent_dim=5", "model.latent_dim was 4, now 5; use another --run-id or --fresh"),
        ("seed=4", "seed was 3, now 4"),
        ("data.num_lanes=16", "data.num_lanes was 8, now 16"),
        ("training.precision=float64", "training.precision was float32, now float64"),
        ("training.reduction_precision=bf16", "training.reduction_precision was None, now bf16; use another --run-id"),
    ],
)
def test_what_would_be_another_run_is_refused_even_with_set(folder, setting, told):
    before = files(folder / "runs")
    with pytest.raises(ResumeError) as caught:
        train_here(folder, str(folder / "data"), setting, LONGER)
    assert told in str(caught.value)
    assert files(folder / "runs") == before


def test_other_images_are_refused(folder, tmp_path):
    write_dataset(str(tmp_path / "other"), num=200)
    with pytest.raises(
        ResumeError, match="was started on another data set .fingerprint [0-9a-f]{12}, now [0-9a-f]{12}"
    ):
        train_here(folder, str(tmp_path / "other"), LONGER)


def test_a_newer_format_is_refused_and_stays(folder):
    commit = max((folder / "runs" / "r" / "checkpoints").glob("*/COMMIT.json"))
    commit.write_text(json.dumps(json.loads(commit.read_text()) | {"format": 9}))
    with pytest.raises(ResumeError, match="format 9, this program reads 1; use the version that wrote it"):
        train_here(folder, str(folder / "data"), LONGER)
    assert commit.exists()


def test_what_is_changed_on_purpose_is_written_down_once(folder, capsys):
    changed = ["loss.r1_gamma=0.5", "optimizer.generator.lr=1e-3", LONGER]
    assert train_here(folder, str(folder / "data"), *changed) == 0
    record = recorded(folder)["recorded"]
    assert [{**change, "attempt": 2, "seen_images": 96} for change in record["changes"]] == record["changes"]
    assert {change["field"]: (change["old"], change["new"]) for change in record["changes"]} == {
        "loss.r1_gamma": (0.0, 0.5),
        "optimizer.generator.lr": (5e-3, 1e-3),
        "training.total_kimg": (0.096, 0.128),
    }
    # The same command again changes nothing more; a later change comes after.
    assert train_here(folder, str(folder / "data"), *changed) == 0
    assert train_here(folder, str(folder / "data"), *changed[:2], "training.total_kimg=0.16") == 0
    later = recorded(folder)["recorded"]["changes"]
    assert later[:3] == record["changes"]
    assert [(change["field"], change["seen_images"]) for change in later[3:]] == [("training.total_kimg", 128)]
    with pytest.raises(
        ResumeError, match="loss.r1_gamma was 0.5, now 0.0; optimizer.generator.lr was 0.001, now 0.005"
    ):
        train_here(folder, str(folder / "data"), "training.total_kimg=0.2")


def test_a_resume_draws_no_first_weights(folder, monkeypatch):
    def draws(*_arguments):
        pytest.fail("drew weights that a checkpoint has")

    monkeypatch.setattr(initialization, "start_network", draws)
    assert train_here(folder, str(folder / "data"), LONGER) == 0


def state_of(url):
    checkpoint, data = newest_checkpoint(RunFolder(str(url)), "state")
    return checkpoint, torch.load(io.BytesIO(data), weights_only=True)


def test_fine_tuning_starts_with_old_networks_and_nothing_else(folder, tmp_path):
    """--from a run; its weights, on other images, under another loss; first of all they are saved."""
    write_dataset(str(tmp_path / "other"), num=200)
    old, saved = state_of(folder / "runs" / "r")
    told = []
    settings = [f"from_checkpoint={folder / 'runs' / 'r'}", "loss.name=hinge", "checkpoint.keep_last=9"]
    run_here(str(tmp_path / "other"), tmp_path / "tuned", *settings, say=told.append)
    assert f"starting with the networks of {folder}/runs/r on" in told[0]
    first = torch.load(
        io.BytesIO(open_checkpoint(str(tmp_path / "tuned/checkpoints/000000000000")).read("state")), weights_only=True
    )
    for network in ("generator", "discriminator", "ema"):
        assert all(torch.equal(tensor, saved[network][name]) for name, tensor in first[network].items())
    moments = [value for one in first["generator_optimizer"]["state"].values() for value in one.values()]
    assert not any(moment.any() for moment in moments)
    assert first["seen_images"] == 0
    record = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["recorded"]
    assert record["origin"] == {
        "url": old.url,
        "seen_images": 96,
        "state_sha256": old.files["state"].sha256,
    }
    # It goes on by itself when the old run is gone.
    shutil.rmtree(folder / "runs")
    assert run_here(str(tmp_path / "other"), tmp_path / "tuned", *settings, LONGER).seen_images == 128
    assert yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["recorded"]["origin"] == record["origin"]


def test_from_by_the_command_and_what_does_not_fit(folder):
    data, old = str(folder / "data"), str(folder / "runs" / "r")
    checkpoint = str(max((folder / "runs" / "r" / "checkpoints").iterdir()))
    with pytest.raises(ResumeError, match="its networks are others .*: model.family is dcgan, here sngan"):
        train_here(folder, data, "model.family=sngan", run_id="new", from_=old)
    with pytest.raises(ResumeError, match="model.generator_channels is 4, here 8"):
        train_here(folder, data, "model.generator_channels=8", run_id="new", from_=old)
    assert not (folder / "runs" / "new").exists()
    assert train_here(folder, data, run_id="new", from_=checkpoint) == 0
    assert train_here(folder, data, run_id="new", from_=checkpoint) == 0
    with pytest.raises(ResumeError, match=f"from_checkpoint was {checkpoint}, now None; use another --run-id"):
        train_here(folder, data, LONGER, run_id="new")
    with pytest.raises(ResumeError, match="from_checkpoint was None, now"):
        train_here(folder, data, LONGER, from_=old)


def state_for(config):
    return TrainState(config, ImageSpec(32, 1, 3), World())


CONFIG = {"model.generator_channels": 4, "model.discriminator_channels": 4, "model.latent_dim": 4}


def test_a_state_that_does_not_fit_names_the_network():
    small, wide = (load_config(None, CONFIG | {"model.discriminator_channels": width}) for width in (4, 8))
    data = encode_state(state_for(small).snapshot(0))
    for take in (TrainState.load, TrainState.adopt):
        with pytest.raises(ResumeError, match="the saved discriminator does not fit .*; model.family and") as caught:
            take(state_for(wide), data)
        assert "\n" not in str(caught.value)


class Harmful:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        import os

        return os.mkdir, (Harmful.place,)


@pytest.mark.parametrize("kind", ["pickle", "torch", "junk", "empty", "newer"])
def test_a_state_is_data_not_a_program(tmp_path, kind):
    import pickle

    Harmful.place = str(tmp_path / "harm")
    file = io.BytesIO()
    if kind == "torch":
        torch.save({"format": 1, "generator": Harmful()}, file)
    elif kind == "newer":
        torch.save({"format": 2}, file)
    data = {"pickle": pickle.dumps(Harmful()), "junk": b"PK\3\4" + bytes(100), "empty": b""}.get(kind, file.getvalue())
    with pytest.raises(ResumeError if kind == "newer" else CheckpointError) as caught:
        state_for(load_config(None, CONFIG)).load(data)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


def test_no_credential_is_written_or_told(folder, capsys, caplog):
    """storage_options reach the file system and nothing else: neither the run's files nor what is printed."""
    secret = "hunter2hunter2"
    assert train_here(folder, str(folder / "data"), f"data.storage_options.password={secret}", run_id="secret") == 0
    assert storage.options_for(str(folder / "data"))["password"] == secret
    storage.configure(str(folder / "data"), {})
    written = files(folder / "runs" / "secret")
    assert len(written) > 10
    assert [path for path, data in written.items() if secret.encode() in data] == []
    told = capsys.readouterr()
    assert secret not in told.out + told.err + caplog.text
