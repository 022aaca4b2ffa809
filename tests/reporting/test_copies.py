"""Is it copying? A generator that copies is caught, one that does not is not; without features, in pixels."""

import io
import json

import numpy as np
import pytest
from datasets import write_dataset
from in_process import run_here
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.blocks import read_blocks
from gan_distributed.evaluation import networks
from gan_distributed.evaluation.classifier import FitSettings
from gan_distributed.evaluation.networks import open_network
from gan_distributed.reporting import copies
from gan_distributed.reporting.copies import look_for_copies
from gan_distributed.reporting.dataset import open_dataset
from gan_distributed.reporting.reading import Reader
from gan_distributed.training.scoring import store_beside
from gan_distributed.training.world import World


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run by class, and its data set."""
    folder = tmp_path_factory.mktemp("copies")
    write_dataset(str(folder / "data"))
    run_here(str(folder / "data"), folder / "r", "model.conditional=true", f"data.url={folder / 'data'}")
    run = Reader(str(folder / "r")).read()
    return run, open_dataset(run, None)


def shape(png: bytes) -> tuple[int, ...]:
    return np.asarray(Image.open(io.BytesIO(png))).shape


def test_an_honest_generator_in_pixels(trained):
    run, data = trained
    said = []
    found = look_for_copies(run, data, 600, said.append)
    assert "no classifier for features dataset is kept" in said[0]
    assert not storage.exists(f"{data.url}/evaluation")
    assert found.features == "pixels of images shrunk to 8 x 8"
    assert (found.num_searched, found.num_fake, found.num_suspicious, found.seen_images) == (300, 100, 0, 96)
    assert found.fake_distance > found.real_distance > 0
    assert [len(one.real) for one in found.closest] == [4] * 8
    assert all(one.distances == sorted(one.distances) for one in found.closest)
    # Three classes, six images of each.
    assert shape(found.real_grid) == shape(found.fake_grid)


def test_copies_are_caught_in_features(trained, monkeypatch):
    run, data = trained
    monkeypatch.setattr(networks, "FitSettings", lambda: FitSettings(min_shown=500))
    store = store_beside(data.url, run.folder, lambda line: None)
    open_network("dataset", run.config.score, data.url, data.manifest, World(), store)
    rows = np.concatenate([block.rows for block in read_blocks(data.url, data.manifest, range(12))])
    monkeypatch.setattr(copies, "_fakes", lambda *_: rows[50:150])
    found = look_for_copies(run, data, 600, pytest.fail)
    assert found.features.startswith("features `dataset` (")
    assert found.num_suspicious > 90
    assert found.fake_distance == 0 < found.real_distance
    for one in found.closest:
        assert one.distances[0] == 0
        assert one.real[0] == one.fake


def test_the_search_ends_when_its_time_is_over(trained):
    run, data = trained
    found = look_for_copies(run, data, 0.0, lambda line: None)
    assert found.num_searched == 16


def test_what_was_refused_is_counted_by_its_reason(trained):
    run, data = trained
    lines = [{"name": f"{number}.jpg", "reason": "truncated" if number % 3 else "not an image"} for number in range(9)]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "not JSON\n"
    storage.write(f"{data.url}/quarantine.jsonl", text.encode())
    storage.write(f"{data.url}/quarantine-0123456789ab.jsonl", b"")
    found = open_dataset(run, data.url)
    told = [(one.reason, one.count, one.example) for one in found.refused]
    assert told == [("truncated", 6, "1.jpg"), ("not an image", 3, "0.jpg")]
