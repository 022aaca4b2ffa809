"""`evaluate` on real images: the numbers of training again, no comparison across protocols, mistakes in a line."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commands import TINY, run
from datasets import write_dataset
from test_train import state_of

from gan_distributed.config import load_config, parse_overrides
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import InputError
from gan_distributed.evaluate import evaluate
from gan_distributed.evaluation import networks
from gan_distributed.evaluation.classifier import FitSettings
from gan_distributed.prepare import prepare
from gan_distributed.training.link import Link
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.scoring import read_scores
from gan_distributed.training.trained import load_trained
from gan_distributed.training.worker import Assignment, run_rank
from gan_distributed.training.world import World

METRICS = ["fid", "kid", "precision", "recall", "density", "coverage", "inception_score", "swd", "modes", "modes_kl"]


@pytest.fixture(scope="module", autouse=True)
def quick_classifier():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "FitSettings", lambda: FitSettings(min_shown=3000))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Some Fashion-MNIST images, and a run on them that was scored."""
    folder = tmp_path_factory.mktemp("evaluate")
    prepare("builtin:fashion-mnist", str(folder / "data"), resolution=32, limit=400, workers=0)
    settings = ["score.every_kimg=0.16", "score.num_images=100", f"score.metrics=[{','.join(METRICS)}]"]
    more = ["model.conditional=true", "training.total_kimg=0.32", "samples.every_kimg=null"]
    config = load_config(None, parse_overrides([*TINY, *settings, *more])).model_copy(update={"run_id": "r"})
    manifest = load_manifest(str(folder / "data"))
    assignment = Assignment(config, str(folder / "data"), str(folder / "r"), "owner", manifest.fingerprint, frozenset())
    run_rank(assignment, World(), 1, Link(lambda line: None, lambda: False))
    return folder


def scored(capsys, source: object, folder: Path, **options) -> dict:
    evaluate(str(source), str(folder / "data"), as_json=True, **options)
    found: dict = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", ["", "checkpoints/000000000320"])
def test_the_scores_of_training_come_again_to_the_bit(folder, capsys, name):
    during = [record for record in read_scores(RunFolder(str(folder / "r"))) if record["seen_images"] == 320]
    assert [record["metric"] for record in during] == METRICS
    found = scored(capsys, folder / "r" / name, folder)
    assert found["seen_images"] == 320
    for ours, theirs in zip(found["scores"], during, strict=True):
        assert ours["protocol"] == theirs["protocol"]
        assert (ours["metric"], ours["value"], ours["spread"]) == (theirs["metric"], theirs["value"], theirs["spread"])
    values = {record["metric"]: record["value"] for record in found["scores"]}
    # 20 steps of a tiny network make no clothes.
    assert values["fid"] > 1
    assert values["precision"] < 0.5
    assert found["scores"][0]["details"]["features_accuracy"] > 0.4


def test_an_older_checkpoint_has_its_own_scores_and_they_are_kept(folder, capsys):
    (run_of_test := folder / "copy").mkdir()
    shutil.copytree(folder / "r", run_of_test / "r")
    found = scored(capsys, run_of_test / "r" / "checkpoints" / "000000000160", folder, metric=["swd"])
    assert (found["seen_images"], [record["metric"] for record in found["scores"]]) == (160, ["swd"])
    (kept,) = (run_of_test / "r" / "scores").glob("000000000160-evaluate-*.jsonl")
    assert json.loads(kept.read_text())["value"] == found["scores"][0]["value"]
    scored(capsys, run_of_test / "r" / "checkpoints" / "000000000160", folder, metric=["swd"])
    assert len(list((run_of_test / "r" / "scores").glob("000000000160-evaluate-*"))) == 1


def test_scores_of_one_protocol_compare_and_others_are_refused(folder, capsys):
    run_url = str(folder / "r")
    found = scored(capsys, run_url, folder, metric=["swd"], against=run_url)
    assert found["against"][0]["value"] == found["scores"][0]["value"]
    evaluate(run_url, str(folder / "data"), metric=["swd"], against=run_url)
    columns = capsys.readouterr().out.splitlines()[0].split()
    assert columns == ["metric", "score", "+-", "kimg", "against", "how"]
    (folder / "file.json").write_text(json.dumps(found))
    assert scored(capsys, run_url, folder, metric=["swd"], against=str(folder / "file.json"))["against"]
    with pytest.raises(
        InputError, match="do not compare: num_fake 60 and 100; num_real 60 and 100; evaluate both"
    ) as caught:
        evaluate(run_url, str(folder / "data"), metric=["swd"], num_images=60, against=run_url)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_raw_weights_are_scored_by_a_protocol_of_their_own(folder, capsys):
    run_url = str(folder / "r")
    averaged, raw = (scored(capsys, run_url, folder, metric=["swd"], raw=raw)["scores"][0] for raw in (False, True))
    assert (averaged["protocol"]["generator"], raw["protocol"]["generator"]) == ("ema", "raw")
    assert raw["value"] != averaged["value"]
    saved = state_of(run_url)
    for name, weight in load_trained(run_url, raw=True).generator.state_dict().items():
        assert weight.equal(saved["generator"][name]), name
    (folder / "averaged.json").write_text(json.dumps(averaged))
    with pytest.raises(InputError, match="which do not compare: generator raw and ema"):
        evaluate(run_url, str(folder / "data"), metric=["swd"], raw=True, against=str(folder / "averaged.json"))


def test_where_the_data_cannot_be_written_the_run_keeps_its_statistics(folder, capsys, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    shutil.copytree(folder / "r", tmp_path / "r")
    shutil.rmtree(tmp_path / "data" / "evaluation")
    (tmp_path / "data" / "evaluation").write_text("")
    evaluate(str(tmp_path / "r"), str(tmp_path / "data"), metric=["swd"])
    told = capsys.readouterr()
    assert f"kept in {tmp_path}/r/evaluation" in told.err
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "r" / "evaluation").iterdir()) == [
        "duplicates",
        "slices",
    ]
    assert told.out.splitlines()[1].startswith("swd ")
    assert "100 generated, 100 real" in told.out


def test_mistakes_are_told_in_a_line(folder, tmp_path):
    write_dataset(str(tmp_path / "colour"), num=40, channels=3)
    write_dataset(str(tmp_path / "few classes"), num=40)
    (tmp_path / "words").write_text("no scores")
    data, source = str(folder / "data"), str(folder / "r")
    cases = [
        (source, str(tmp_path / "colour"), {}, "32 px with 3 channels, the generator makes 32 px with 1"),
        (source, str(tmp_path / "few classes"), {}, "3 classes, the generator was trained on 10"),
        (source, data, {"metric": ["fud"]}, "score.metrics: Input should be 'fid', 'kid'"),
        (source, data, {"num_images": 3}, "score.num_images: Input should be greater than or equal to 16, found 3"),
        (source, data, {"features": str(tmp_path / "none.pt"), "metric": ["fid"]}, "weights of the features: "),
        (source, data, {"against": str(tmp_path / "words")}, "neither a run nor a file of score records"),
        (str(tmp_path / "nothing"), data, {}, "neither a run nor a checkpoint"),
        (source, str(tmp_path / "nothing"), {}, "no prepared data set"),
    ]
    for run_url, data_url, options, told in cases:
        with pytest.raises(InputError) as caught:
            evaluate(run_url, data_url, **options)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_command_refuses_in_one_line_with_exit_code_2(folder):
    words = [sys.executable, "-m", "gan_distributed", "evaluate", str(folder / "r"), "--data", str(folder / "data")]
    ended = run([*words, "--metric", "swd", "--num-images", "50", "--against", str(folder / "r")])
    assert ended.returncode == 2
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("error: swd was taken by two protocols, which do not compare: num_fake 50 and 100;")
    assert "Traceback" not in ended.stderr


def test_a_data_sets_place_is_opened_with_what_is_given_for_it(tmp_path):
    """A run does not keep storage_options: they may hold secrets."""
    from gan_distributed.data import storage
    from gan_distributed.errors import ConfigError
    from gan_distributed.evaluate import _open_data

    place = str(tmp_path / "set")
    _open_data(place, ["data.storage_options.endpoint_url=http://there"])
    assert storage.options_for(f"{place}/shards/00000.npy") == {"endpoint_url": "http://there"}
    storage.configure(place, {})
    with pytest.raises(ConfigError, match=r"--set score\.seed: evaluate takes data\.storage_options only"):
        _open_data(place, ["score.seed=3"])
