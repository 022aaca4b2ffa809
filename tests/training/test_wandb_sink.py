"""Weights & Biases is told what the run's records say, by wandb itself, offline; and what fails there costs no run."""

import importlib.util
import json
import logging
import os

import numpy as np
import pytest
from datasets import write_dataset
from in_process import run_here, train_here
from PIL import Image
from wandb_files import read_offline

from gan_distributed.config import load_config
from gan_distributed.errors import ConfigError
from gan_distributed.training import wandb_sink
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.wandb_sink import WandB

TOLD = ["metrics.wandb=us/blobs", "samples.every_kimg=0.096", "training.tick_kimg=0.016"]
SCORED = ["score.every_kimg=0.048", "score.num_images=32", "score.metrics=[swd]"]


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """However slow the machine is, wandb comes to its end."""
    monkeypatch.setattr(wandb_sink, "_CLOSE_S", 900.0)


def test_a_run_and_its_records_say_the_same_through_a_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_dataset(str(tmp_path / "data"))
    secret = 'data.storage_options={"token": "hush"}'
    run_here(str(tmp_path / "data"), tmp_path / "r", *TOLD, *SCORED, secret)
    run_here(str(tmp_path / "data"), tmp_path / "r", *TOLD, *SCORED, secret, "training.total_kimg=0.128")
    first, second = sorted((tmp_path / "r" / "wandb").glob("offline-run-*/run-*.wandb"), key=os.path.getmtime)
    (earlier, records), (later, others) = read_offline(first), read_offline(second)
    started, again = (next(one.run for one in found if one.HasField("run")) for found in (records, others))
    assert (started.entity, started.project, started.run_id) == ("us", "blobs", again.run_id)
    assert started.run_id.startswith("r-")
    assert not os.path.exists("wandb")
    rows = [*earlier, *later]
    losses = {row["_step"]: row["train/loss_generator"] for row in rows if "train/loss_generator" in row}
    assert losses == {
        record["seen_images"]: record["loss_generator"] for record in read_records(RunFolder(str(tmp_path / "r")))
    }
    assert [row["_step"] for row in rows if "score/swd" in row] == [48, 96, 128]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config["model"]["family"] == "dcgan"
    assert b"hush" not in first.read_bytes() + second.read_bytes()
    grids = {row["_step"]: row["samples.path"] for row in rows if "samples.path" in row}
    assert sorted(grids) == [0, 96, 128]
    shown = np.asarray(Image.open(second.parent / "files" / grids[128]))
    assert np.array_equal(shown, np.asarray(Image.open(tmp_path / "r" / "samples" / "000000000128.png")))


def sink_of(folder) -> WandB:
    return WandB(load_config(None, {"metrics.wandb": "blobs"}), RunFolder(str(folder)))


def test_a_server_that_is_not_there_is_told_of_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(wandb_sink, "_START_S", 1)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    sink = sink_of(tmp_path)
    for step in range(3):
        sink.scores(step, {"fid": 1.0})
    with caplog.at_level(logging.WARNING):
        sink.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("W&B: ")
    assert "127.0.0.1:9" in said


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import time; time.sleep(1e6)", "W&B: it did not end within 2 s"),
        ("import sys; sys.exit('the disk is full')", "W&B: the disk is full"),
    ],
)
def test_one_that_hangs_or_ends_is_left_and_told_of_once(tmp_path, monkeypatch, caplog, program, told):
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(wandb_sink, "_PROGRAM", tmp_path / "program.py")
    monkeypatch.setattr(wandb_sink, "_CLOSE_S", 2.0)
    sink = sink_of(tmp_path)
    with caplog.at_level(logging.WARNING):
        # More than a pipe holds.
        for step in range(4):
            sink.grid(step, bytes(100_000))
        sink.close()
    said = [record.getMessage() for record in caplog.records if "W&B: " in record.getMessage()]
    assert len(said) == 1
    assert told in said[0]


def test_without_the_package_the_command_ends_before_training(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "data"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(ConfigError, match=r"pip install 'gan-distributed\[wandb\]'"):
        train_here(tmp_path, str(tmp_path / "data"), "metrics.wandb=blobs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("project", ["a/b/c", "a b", "", "x#1"])
def test_a_project_that_wandb_would_refuse_is_refused_before(project):
    with pytest.raises(ConfigError, match="metrics.wandb"):
        load_config(None, {"metrics.wandb": project})
