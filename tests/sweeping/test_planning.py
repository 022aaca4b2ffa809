"""What a sweep is: values of keys from the command line, trials from the grid; what cannot be swept is refused."""

import pytest
from commands import TINY
from datasets import write_dataset

from gan_distributed.config import parse_choices
from gan_distributed.data import storage
from gan_distributed.errors import InputError
from gan_distributed.sweeping.planning import Sweep, plan_sweep

SCORED = [*TINY, "score.every_kimg=0.16", "score.metrics=[swd, fid]", "score.num_images=32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("data") / "data")
    write_dataset(url)
    return url


def planned(data: str, folder, *settings: str, num: int | None = None, **given: str) -> Sweep:
    recipe = folder / "recipe.yaml"
    recipe.write_text("run_id: faces\n")
    places = {"data.url": data, "output": str(folder / "runs"), **given}
    return plan_sweep(str(recipe), parse_choices([*SCORED, *settings]), places, num)


def test_values_are_yaml_between_commas():
    words = ["a=0.1,1,10", "b=[x, y],[z]", "c='1,2',3", "d={start: 1, end: 2},0", "e=null,true", "f=gs://a,gs://b"]
    assert parse_choices(words) == {
        "a": [0.1, 1, 10],
        "b": [["x", "y"], ["z"]],
        "c": ["1,2", 3],
        "d": [{"start": 1, "end": 2}, 0],
        "e": [None, True],
        "f": ["gs://a", "gs://b"],
    }
    # One value alone is what it is for the other commands.
    assert parse_choices(["a=1", "b=[x, y]", "c=x: 1", "d="]) == {
        "a": [1],
        "b": [["x", "y"]],
        "c": [{"x": 1}],
        "d": [None],
    }
    for wrong in ("a", "=1"):
        with pytest.raises(InputError, match="write it as section.field=value"):
            parse_choices([wrong])


def test_trials_are_runs_below_the_sweep(data, tmp_path):
    sweep = planned(data, tmp_path, "loss.r1_gamma=0.1,1,10", "seed=0,1")
    assert [trial.name for trial in sweep.trials] == [f"faces-sweep-00{number}" for number in range(6)]
    assert sweep.trials[3].values == {"loss.r1_gamma": 1, "seed": 1}
    config = sweep.trials[3].config
    assert (config.loss.r1_gamma, config.seed, config.cluster.workers) == (1, 1, 0)
    assert sweep.trials[3].run.url == f"{tmp_path}/runs/faces-sweep/faces-sweep-003"
    assert (sweep.metric, sweep.total_kimg, sweep.score_kimg) == ("swd", 0.64, 0.16)
    some = planned(data, tmp_path, "loss.r1_gamma=0.1,1,10", "seed=0,1", "score.best=fid", num=3, run_id="mine")
    assert len(some.trials) == 3
    assert {trial.name for trial in some.trials} < {f"mine-00{number}" for number in range(6)}
    assert some.metric == "fid"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), "nothing to vary"),
        (("loss.r1_gama=1,2",), "loss.r1_gama: unknown key; did you mean loss.r1_gamma?"),
        (("loss.r1_gamma=1,-2",), r"r1_gamma: .*found -2 \(in the trial loss.r1_gamma=-2\)"),
        (("seed=1,2", "score.every_kimg=null"), "score.every_kimg: the recipe takes no scores during training"),
        (("samples.num=4,8",), "trials samples.num=4 and samples.num=8 would be the same"),
        (("seed=1,1",), "would be the same"),
        (("seed=1,2", "training.batch_size=[1, 2]"), "training.batch_size"),
        (("seed=1,2", "data.url=memory://x"), "memory://x: memory:// lives in one process"),
        (("seed=1,2", "score.features=null", "score.metrics=[modes]", "score.features=inception"), "counts the data"),
        (
            tuple(f"{key}=1,2,3,4,5,6,7" for key in ("seed", "loss.r1_gamma", "loss.r2_gamma", "ema.halflife_kimg")),
            "2401",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(data, tmp_path, settings, told):
    places = {"data.url": "memory://x"} if any("memory" in setting for setting in settings) else {}
    with pytest.raises(InputError, match=told) as refused:
        planned(data, tmp_path, *settings, **places)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_in_the_place_of_the_sweep_is_left_alone(data, tmp_path):
    storage.write(str(tmp_path / "runs" / "taken" / "config.yaml"), b"seed: 1\n")
    with pytest.raises(InputError, match="taken: a run lies there; give the sweep another --run-id"):
        planned(data, tmp_path, "seed=1,2", run_id="taken")
