"""A whole round of scores: any number of ranks gives the same, records carry all, bad input is refused before work."""

import dataclasses
import json
import typing

import numpy as np
import pytest
import torch
from datasets import blobs, write_dataset
from ranks import run_ranks

from gan_distributed.config import MetricName, ScoreConfig
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import InputError
from gan_distributed.evaluation import networks
from gan_distributed.evaluation.classifier import FitSettings
from gan_distributed.evaluation.fakes import labels_of
from gan_distributed.evaluation.plan import plan
from gan_distributed.evaluation.protocol import METRICS, Protocol, check_comparable, is_better
from gan_distributed.evaluation.scorer import Round, Scorer
from gan_distributed.evaluation.store import Store
from gan_distributed.training.world import World

ALL = typing.get_args(MetricName)
NUM = 200


def make(numbers: torch.Tensor) -> torch.Tensor:
    """Blobs of a seed of their own, darker; image i is the same in any batch."""
    rows, _ = blobs(NUM, seed=7)
    return torch.from_numpy((rows * 0.9).astype(np.uint8))[numbers]


def score(world: World, folder: str, name: str, **options) -> Round | None:
    networks.FitSettings = lambda: FitSettings(min_shown=1000)
    config = ScoreConfig(**{"metrics": ALL, "num_images": NUM} | options)
    data = f"{folder}/data"
    return Scorer(config, data, load_manifest(data), world, Store((f"{folder}/{name}",), _quiet)).score(make, 500)


def _quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    write_dataset(str(folder / "data"), num=700)
    return folder


@pytest.fixture(scope="module")
def alone(folder) -> Round:
    found = score(World(), str(folder), "alone")
    assert found is not None
    return found


def values(found: Round) -> dict[str, float]:
    return {score.metric: score.value for score in found.scores}


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_ranks_scores_the_same(folder, alone, world_size):
    wanted = values(alone)
    for found in run_ranks(world_size, score, str(folder), f"ranks {world_size}"):
        assert [score.protocol for score in found.scores] == [score.protocol for score in alone.scores]
        for metric, value in values(found).items():
            # Sums of moments meet in another order; all else is the same to the bit.
            assert value == pytest.approx(wanted[metric], rel=1e-6 if metric == "fid" else 0), metric
        assert found.duplicate_rate == alone.duplicate_rate


def test_again_from_what_was_kept_is_the_same_to_the_bit(folder, alone, monkeypatch):
    monkeypatch.setattr("gan_distributed.evaluation.reference.read_blocks", None)
    again = score(World(), str(folder), "alone")
    assert again is not None
    assert values(again) == values(alone)


def test_scores_tell_good_from_bad(alone):
    found = values(alone)
    assert found["modes"] == 3
    assert found["modes_kl"] < 0.05
    assert found["swd"] == pytest.approx(0.02, abs=0.02)
    assert 0 < alone.duplicate_rate <= 1


def test_every_record_carries_the_whole_protocol(folder, alone):
    """I6."""
    fields = {field.name for field in dataclasses.fields(Protocol)}
    assert [score.metric for score in alone.scores] == list(ALL)
    for score_ in alone.scores:
        record = json.loads(json.dumps(score_.to_record()))
        assert record["protocol"].keys() == fields
        assert record["protocol_digest"] == score_.protocol.digest
        assert (record["kimg"], record["seen_images"]) == (0.5, 500)
        protocol = record["protocol"]
        assert (protocol["num_fake"], protocol["generator"], protocol["flips"]) == (NUM, "ema", False)
        assert protocol["dataset"] == load_manifest(str(folder / "data")).fingerprint
        needs_network = record["metric"] != "swd"
        assert (protocol["features"] == "dataset", protocol["features_sha256"] is not None) == (needs_network,) * 2
    numbers = {score_.metric: score_.protocol.num_real for score_ in alone.scores}
    assert (numbers["fid"], numbers["kid"], numbers["inception_score"]) == (700, 200, 0)


def test_records_of_different_protocols_are_never_compared(alone):
    """I6: whatever field differs."""
    record = alone.scores[0].to_record()
    check_comparable(record, json.loads(json.dumps(record)))
    for field in dataclasses.fields(Protocol):
        other = dataclasses.replace(alone.scores[0].protocol, **{field.name: "another"})
        assert other.digest != alone.scores[0].protocol.digest
        with pytest.raises(InputError, match=f"{field.name} .* and another; evaluate both the same way$"):
            check_comparable(record, {**record, "protocol": dataclasses.asdict(other)})


def test_the_configuration_names_every_metric():
    assert tuple(METRICS) == ALL
    assert is_better("fid", 1.0, 2.0)
    assert is_better("recall", 2.0, 1.0)
    assert not is_better("fid", float("nan"), 1.0)


def test_a_round_that_takes_too_long_is_skipped_whole(folder, alone):
    assert score(World(), str(folder), "alone", max_s=1e-9) is None


def test_labels_are_drawn_in_the_shares_of_the_data():
    histogram = np.array([100, 0, 300])
    labels = labels_of(torch.arange(4000), histogram, 0)
    shares = np.bincount(labels.numpy(), minlength=3) / 4000
    assert shares == pytest.approx([0.25, 0, 0.75], abs=0.03)
    assert torch.equal(labels[100:200], labels_of(torch.arange(100, 200), histogram, 0))
    assert labels_of(torch.arange(3), None, 0).tolist() == [0, 0, 0]


def test_what_cannot_be_scored_is_refused_in_a_line(folder):
    manifest = load_manifest(str(folder / "data"))
    bare = manifest.model_copy(update={"class_names": None, "class_histogram": None, "labels": None})
    single = manifest.model_copy(update={"class_names": ("all",), "class_histogram": (manifest.num_images,)})
    few = manifest.model_copy(update={"num_images": 9})
    assert plan(ScoreConfig(), manifest, "url").metrics == ("fid",)
    assert plan(ScoreConfig(), bare, "url").metrics == ("swd",)
    assert plan(ScoreConfig(features="inception"), bare, "url").metrics == ("fid",)
    cases = [
        ({"metrics": ("fid",)}, bare, "labels of two or more classes, the data set has 0"),
        ({"features": "dataset"}, single, "labels of two or more classes, the data set has 1"),
        ({"metrics": ("modes",), "features": "inception"}, manifest, "it needs score.features dataset, not inception"),
        ({}, few, "scores need 16 real images, the data set has 9"),
    ]
    for options, data, told in cases:
        with pytest.raises(InputError, match=told) as caught:
            plan(ScoreConfig(**options), data, "url")
        assert "\n" not in str(caught.value)
