"""`generate`: from a run or a checkpoint, the same pictures for the same seed."""

import sys

import numpy as np
import pytest
import torch
from commands import run, train_words
from datasets import write_dataset
from PIL import Image

from gan_distributed import generate as verb
from gan_distributed.errors import InputError
from gan_distributed.training.samples import fixed_latents, generate_rows
from gan_distributed.training.trained import load_trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(str(folder / "data"))
    ended = run(train_words(folder, str(folder / "data"), str(folder / "runs"), 0, "model.conditional=true"))
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "r"


def generate(*words: object):
    return run([sys.executable, "-m", "gan_distributed.generate", *map(str, words)])


def pictures(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_a_run_and_its_newest_checkpoint_give_the_same_pictures(trained, tmp_path):
    assert generate(trained, tmp_path / "a", "--num", 5, "--seed", 7).stdout == f"5 images in {tmp_path / 'a'}\n"
    generate(trained / "checkpoints" / "000000000640", tmp_path / "b", "--num", 3, "--seed", 7)
    generate(trained, tmp_path / "c", "--num", 3, "--seed", 8)
    first, second, other = (pictures(tmp_path / name) for name in "abc")
    assert [len(first), len(second)] == [5, 3]
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (32, 32)


def test_labels_and_grid(trained, tmp_path):
    for label in (0, 1):
        assert generate(trained, tmp_path / str(label), "--num", 2, "--label", label).returncode == 0
    assert not np.array_equal(pictures(tmp_path / "0")[0], pictures(tmp_path / "1")[0])
    generate(trained, tmp_path / "grid", "--num", 9, "--grid")
    assert pictures(tmp_path / "grid")[0].shape == (104, 104)


def test_truncated_pictures_are_the_same_for_any_number_and_more_alike(trained, tmp_path):
    assert generate(trained, tmp_path, "--num", 3, "--label", 1, "--truncation", 0.2).returncode == 0
    loaded = load_trained(str(trained))
    network, config = loaded.generator, loaded.config
    labels = torch.ones(70, dtype=torch.int64)
    truncated, free = (
        generate_rows(network, fixed_latents(0, 70, config.model.latent_dim, limit), labels) for limit in (0.2, None)
    )
    assert np.array_equal(truncated[:3, :, :, 0], np.stack(pictures(tmp_path)))
    assert truncated.std(axis=0).mean() < 0.5 * free.std(axis=0).mean()


@pytest.mark.parametrize("truncation", [0.0, -1.0, float("inf"), float("nan")])
def test_a_truncation_that_is_none_is_refused(trained, tmp_path, truncation):
    with pytest.raises(InputError, match=r"--truncation .*: give a number above 0"):
        verb.generate(str(trained), str(tmp_path), truncation=truncation)


def test_mistakes_are_told(trained, tmp_path):
    cases = {
        "--label 3: known classes are 0 to 2": (trained, tmp_path, "--label", 3),
        "neither a run nor a checkpoint": (tmp_path / "nothing", tmp_path),
    }
    for told, words in cases.items():
        ended = generate(*words)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
        assert told in ended.stderr
