"""TensorBoard's own reader finds what a run told, through a restart, in a folder and in a process's memory."""

import importlib.util
import io

import numpy as np
import pytest
from datasets import write_dataset
from in_process import run_here, train_here
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_distributed.data import storage
from gan_distributed.errors import ConfigError, StorageError
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.step import STATISTICS
from gan_distributed.training.tensorboard import TensorBoard

TOLD = ["metrics.tensorboard=true", "samples.every_kimg=0.096", "training.tick_kimg=0.016"]
SCORED = ["score.every_kimg=0.048", "score.num_images=32", "score.metrics=[swd]"]


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_a_run_and_its_records_say_the_same(tmp_path):
    write_dataset(str(tmp_path / "data"))
    run_here(str(tmp_path / "data"), tmp_path / "r", *TOLD, *SCORED)
    run_here(str(tmp_path / "data"), tmp_path / "r", *TOLD, *SCORED, "training.total_kimg=0.128")
    found = read(tmp_path / "r" / "tensorboard")
    records = read_records(RunFolder(str(tmp_path / "r")))
    losses = [(event.step, event.value) for event in found.Scalars("train/loss_generator")]
    assert losses == [(record["seen_images"], np.float32(record["loss_generator"])) for record in records]
    assert [event.step for event in found.Scalars("score/swd")] == [48, 96, 128]
    pictures = found.Images("samples")
    assert [picture.step for picture in pictures] == [0, 96, 128]
    shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
    assert np.array_equal(shown, np.asarray(Image.open(tmp_path / "r" / "samples" / "000000000128.png")))


def test_what_a_later_attempt_does_again_is_told_once(tmp_path):
    values = {"images_per_s": 1.0, "data_wait_s": 0.0, "skipped_steps": 0, "augment_probability": 0.0, "world_size": 1}
    for attempt, start in ((1, 0), (2, 200)):
        sink = TensorBoard(RunFolder(str(tmp_path)), attempt, start)
        for seen in range(start + 100, start + 500, 100):
            numbers = dict.fromkeys(STATISTICS, float(attempt)) | values
            sink.tick({"seen_images": seen, "time": 1e9 + attempt, **numbers, "accuracy_fake": float("nan")})
        sink.close()
        sink.close()
    found = read(tmp_path / "tensorboard")
    told = [(event.step, event.value) for event in found.Scalars("train/loss_generator")]
    assert told == [(100, 1), (200, 1), (300, 2), (400, 2), (500, 2), (600, 2)]
    assert "train/accuracy_fake" not in found.Tags()["scalars"]
    assert len(storage.names(str(tmp_path / "tensorboard"))) == 2


def test_what_cannot_be_written_waits(monkeypatch):
    run = RunFolder("memory://tensorboard-waits")
    sink = TensorBoard(run, 1, 0)
    sink.scores(100, {"fid": 5.0, "kid": float("nan")})
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", lambda url, data: (_ for _ in ()).throw(StorageError("away")))
        with pytest.raises(StorageError):
            sink.close()
    sink.close()
    (name,) = storage.names(run.tensorboard_url)
    assert name == "events.out.tfevents.00001.000000"
    assert b"score/fid" in storage.read_bytes(f"{run.tensorboard_url}/{name}")


def test_without_the_package_the_command_ends_before_training(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "data"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    with pytest.raises(ConfigError, match=r"pip install 'gan-distributed\[tensorboard\]'"):
        train_here(tmp_path, str(tmp_path / "data"), "metrics.tensorboard=true")
    assert not (tmp_path / "runs").exists()
