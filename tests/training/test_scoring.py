"""Scores during training: no bit of the weights changes, the best checkpoint stays, alarms warn or go back."""

import io
import json
from pathlib import Path

import pytest
import torch
from commands import TINY
from datasets import write_dataset
from servers import get

from gan_distributed.config import Config, MetricsConfig, load_config, parse_overrides
from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import TrainingError
from gan_distributed.evaluation import networks
from gan_distributed.evaluation.classifier import FitSettings
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training import scoring
from gan_distributed.training.checkpoint import newest_checkpoint
from gan_distributed.training.collapse import CollapseWatch, Standing, signs_of_scores
from gan_distributed.training.link import Link
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.scoring import Scoring, read_scores
from gan_distributed.training.state import TrainState
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World

SHORT = ["training.total_kimg=0.16", "samples.every_kimg=null"]
SCORED = [*SHORT, "score.every_kimg=0.04", "score.num_images=24", "score.metrics=[swd]"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("data") / "data")
    write_dataset(url)
    return url


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch):
    monkeypatch.setattr(networks, "FitSettings", lambda: FitSettings(min_shown=600, epochs=1))


def config_of(*settings: str) -> Config:
    return load_config(None, parse_overrides([*TINY, *settings]))


def train(folder: Path, data: str, *settings: str) -> tuple[RunFolder, list[str]]:
    said: list[str] = []
    run = RunFolder(str(folder / "r"))
    config = config_of(*settings).model_copy(update={"run_id": "r"})
    assignment = Assignment(config, data, run.url, "owner", load_manifest(data).fingerprint, frozenset())
    run_rank(assignment, World(), 1, Link(said.append, lambda: False))
    return run, said


def state_of(run: RunFolder) -> dict:
    found = newest_checkpoint(run, "state")
    assert found is not None
    return torch.load(io.BytesIO(found[1]), weights_only=True)


def tensors(state: dict, prefix: str = "") -> dict[str, bytes]:
    found = {}
    for name, value in state.items():
        if isinstance(value, dict):
            found |= tensors(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            found[f"{prefix}{name}"] = value.numpy().tobytes()
    return found


def test_scores_change_not_one_bit_of_the_weights(tmp_path, data):
    """I2."""
    never, _ = train(tmp_path / "never", data, *SHORT)
    every = ["score.metrics=[fid,kid,precision,coverage,inception_score,swd,modes]", "score.every_kimg=0.05"]
    often, said = train(tmp_path / "often", data, *SCORED, *every)
    assert tensors(state_of(often)) == tensors(state_of(never))
    ages = sorted({record["seen_images"] for record in read_scores(often)})
    assert ages == [64, 112, 160]
    assert len(read_scores(often)) == 7 * len(ages)
    assert state_of(never)["best_score"] is None
    assert any(line.startswith("0.2 kimg  fid ") for line in said)


def test_the_best_checkpoint_stays_and_a_resume_knows_it(tmp_path, data, monkeypatch):
    # The first score stays the best one, whatever comes.
    monkeypatch.setattr(scoring, "is_better", lambda *_: False)
    settings = [*SCORED, "checkpoint.keep_last=1", "checkpoint.every_kimg=0.06"]
    run, _ = train(tmp_path, data, *settings)
    kept = sorted(path.name for path in Path(run.checkpoints_url).iterdir())
    assert kept == ["000000000048", "000000000160"]
    best = state_of(run)["best_score"]
    first = read_scores(run)[0]
    assert (best["seen_images"], best["value"], best["metric"]) == (48, first["value"], "swd")
    assert best["protocol_digest"] == first["protocol_digest"]
    # A run that goes on keeps it, and says where the score has another protocol.
    more = [*settings, "score.num_images=25", "training.total_kimg=0.2"]
    config = config_of(*more)
    assignment = Assignment(
        config, data, run.url, "owner", load_manifest(data).fingerprint, frozenset(["training.total_kimg"])
    )
    said: list[str] = []
    run_rank(assignment, World(), 1, Link(said.append, lambda: False))
    assert "scores have another protocol now; the best swd of before is forgotten" in said
    assert state_of(run)["best_score"]["seen_images"] == 208


def alarm_at(*ages: int):
    """Signs of a collapse at these ages, each once."""
    left = set(ages)

    def signs(now: Standing, *_, **__) -> list[str]:
        if now.seen_images not in left:
            return []
        left.remove(now.seen_images)
        return ["everything looks alike"]

    return signs


def test_a_collapse_goes_back_to_the_best_checkpoint(tmp_path, data, monkeypatch):
    monkeypatch.setattr(scoring, "is_better", lambda metric, value, best: False)
    monkeypatch.setattr(scoring, "signs_of_scores", alarm_at(128))
    run, said = train(tmp_path, data, *SCORED, "score.on_collapse=rollback", "checkpoint.every_kimg=0.03")
    assert "warning: collapse? everything looks alike" in said
    assert "everything looks alike: going back to 0.0 kimg with other latents and lower learning rates" in said
    (record,) = [json.loads(path.read_text()) for path in Path(run.url, "rollbacks").iterdir()]
    assert record == {"to_seen_images": 48, "reason": "everything looks alike", "cause": "collapse"}
    state = state_of(run)
    assert (state["seen_images"], state["best_score"]["seen_images"]) == (160, 48)
    # The later attempt's scores stand.
    assert [record["attempt"] for record in read_scores(run)] == [1, 2, 2, 2]
    straight, _ = train(tmp_path / "straight", data, *SCORED)
    assert tensors(state) != tensors(state_of(straight))


def test_a_second_collapse_from_the_same_checkpoint_ends_the_run(tmp_path, data, monkeypatch):
    monkeypatch.setattr(scoring, "is_better", lambda metric, value, best: False)
    monkeypatch.setattr(scoring, "signs_of_scores", alarm_at(80, 128))
    with pytest.raises(TrainingError, match="a second time from the checkpoint at 0.0 kimg"):
        train(tmp_path, data, *SCORED, "score.on_collapse=rollback")


@pytest.mark.parametrize("settings", [["score.on_collapse=rollback", "score.max_rollbacks=0"], []])
def test_without_returns_left_an_alarm_only_warns(tmp_path, data, monkeypatch, settings):
    monkeypatch.setattr(scoring, "is_better", lambda metric, value, best: False)
    monkeypatch.setattr(scoring, "signs_of_scores", alarm_at(80))
    run, said = train(tmp_path, data, *SCORED, *settings)
    assert "warning: collapse? everything looks alike" in said
    assert state_of(run)["seen_images"] == 160
    assert not Path(run.url, "rollbacks").exists()


def test_prometheus_sees_scores_alarms_and_what_was_skipped(tmp_path, data, monkeypatch):
    monkeypatch.setattr(scoring, "signs_of_scores", alarm_at(500))
    config = config_of(*SCORED, "score.metrics=[swd,modes]")
    manifest = load_manifest(data)
    state = TrainState(config, ImageSpec(32, 1, 3), World())
    state.seen_images = 500
    metrics = WorkerMetrics(MetricsConfig(host="127.0.0.1", port=0), "r", 0, 0)
    said: list[str] = []
    run = RunFolder(str(tmp_path / "r"))

    def scoring_of(config: Config) -> Scoring:
        return Scoring(config, World(), run, (data, manifest), metrics, 1, 0, said.append)

    assert scoring_of(config).score(state, storage.write, lambda: False)
    late = config.model_copy(update={"score": config.score.model_copy(update={"max_s": 1e-9})})
    assert not scoring_of(late).score(state, pytest.fail, lambda: False)
    assert said[-1] == "scores at 0.5 kimg skipped: not done within score.max_s 1e-09 s"
    # A stop does not wait for scores.
    assert not scoring_of(config).score(state, pytest.fail, lambda: True)
    assert said[-1] == "scores at 0.5 kimg skipped: the run is to stop"
    text = get(f"http://127.0.0.1:{metrics.exposition.port}/metrics")
    metrics.close()
    records = {record["metric"]: record for record in read_scores(run)}
    assert f'gan_score{{metric="swd",rank="0",run="r"}} {records["swd"]["value"]}' in text
    assert f'gan_score{{metric="modes",rank="0",run="r"}} {records["modes"]["value"]}' in text
    assert 'gan_collapse_alarms_total{rank="0",run="r"} 1.0' in text
    assert 'gan_scores_skipped_total{rank="0",run="r"} 2.0' in text


def test_scores_are_due_at_their_interval_and_at_the_end(tmp_path, data):
    metrics = WorkerMetrics(MetricsConfig(port=None), "r", 0, 0)
    arguments = World(), RunFolder(str(tmp_path)), (data, load_manifest(data)), metrics, None, 0, print
    due = Scoring(config_of(*SCORED), *arguments).is_due
    assert due(150, 160, done=False)
    assert not due(160, 176, done=False)
    assert due(160, 176, done=True)
    # Not of the first weights, and not again where a run resumes.
    assert not due(-1, 0, done=False)
    assert not due(160, 160, done=False)


def standing(metric: str, value: float, duplicate_rate: float = 0.0) -> Standing:
    return Standing(metric, value, 1000, "digest", duplicate_rate)


def test_signs_of_a_collapse():
    def signs(now: Standing, best: Standing | None, real: float = 0.1, is_young: bool = False) -> list[str]:
        return signs_of_scores(now, best, real, is_young=is_young)

    assert signs(standing("fid", 10), None) == []
    assert signs(standing("fid", 14), standing("fid", 10)) == []
    assert signs(standing("fid", 16), standing("fid", 10)) == ["fid 16 is more than 1.5 times worse than the best, 10"]
    assert signs(standing("recall", 0.3), standing("recall", 0.5)) != []
    assert signs(standing("recall", 0.4), standing("recall", 0.5)) == []
    # KID around 0 says nothing by its ratio.
    assert signs(standing("kid", 0.01), standing("kid", -0.001)) == []
    assert signs(standing("fid", 9, 0.25), standing("fid", 10)) == []
    assert signs(standing("fid", 9, 0.4), None) == [
        "40% of the generated images look like another one, 10% of the real ones"
    ]
    # In its first days every generator makes equal images; one that no longer does not is collapsed.
    assert signs(standing("fid", 9, 1.0), None, is_young=True) == []
    assert signs(standing("fid", 9, 1.0), standing("fid", 10, 0.9), is_young=True) == []
    assert signs(standing("fid", 9, 0.9), standing("fid", 10, 0.1), is_young=True) != []


def test_a_pinned_discriminator_is_told_once():
    watch = CollapseWatch()
    pinned, fine = ({"accuracy_real": 1.0, "accuracy_fake": fake} for fake in (0.999, 0.9))
    told = [watch.tick(record) for record in [pinned] * 4 + [fine] + [pinned] * 7]
    assert [bool(lines) for lines in told] == [False] * 9 + [True] + [False] * 2
    assert told[9] == ["the discriminator tells 99.9% of images right, 5 ticks in a row"]
