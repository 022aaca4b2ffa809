"""The package from Python: from raw images to an array that draws itself, without leaving the process."""

import io
import logging
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import TINY
from PIL import Image

import gan_distributed
from gan_distributed import api
from gan_distributed.config import parse_overrides
from gan_distributed.errors import ConfigError, InputError
from gan_distributed.generate import generate

SHORT = {"training.total_kimg": 0.096, "checkpoint.every_kimg": 0.032, "samples.every_kimg": None}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    # Other tests of this process may have called the commands, which take both.
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    listeners = list(logging.getLogger("gan_distributed").handlers)
    data = api.prepare("builtin:fashion-mnist", str(folder / "data"), resolution=32, limit=60, workers=0)
    run = api.train(
        {"seed": 3, "model": {"conditional": True}},
        data=data,
        output=str(folder / "runs"),
        run_id="r",
        workers=0,
        settings=parse_overrides(TINY) | SHORT,
    )
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    assert logging.getLogger("gan_distributed").handlers == listeners
    return data, run


def test_a_generator_gives_what_the_command_writes(places, tmp_path):
    generator = gan_distributed.load_generator(places[1])
    images = generator(num=5, seed=2, truncation=0.7)
    assert (images.shape, images.dtype) == ((5, 32, 32, 1), np.uint8)
    generate(places[1], str(tmp_path), num=5, seed=2, truncation=0.7)
    written = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("*.png"))]
    assert np.array_equal(images[..., 0], written)
    assert np.array_equal(generator(2, 2, truncation=0.7), images[:2])
    assert repr(generator) == "<generator dcgan, 32 x 32 x 1, 10 classes, 0.096 kimg, cpu>"


def test_a_class_is_asked_for_by_name(places):
    generator = api.load_generator(places[1])
    assert generator.class_names[8] == "Bag"
    assert np.array_equal(generator(3, label="Bag"), generator(3, label=8))
    with pytest.raises(InputError, match="no such class; did you mean Bag"):
        generator(3, label="Bagg")


def test_images_draw_themselves_and_other_arrays_do_not(places):
    images = api.load_generator(places[1])(num=20)

    def drawn(array) -> tuple[int, ...]:
        return np.asarray(Image.open(io.BytesIO(array._repr_png_()))).shape

    # Ten classes are ten columns.
    assert drawn(images) == (2 * 34 + 2, 10 * 34 + 2)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(images[3]._repr_png_()))), images[3, :, :, 0])
    for other in (images / 255, images.mean(axis=0), images[0, 0], images[:0], images[..., :0]):
        assert other._repr_png_() is None
    # An array in all else.
    assert isinstance(np.concatenate([images, images]), np.ndarray)
    assert int(images.astype(int).max()) <= 255


def test_scores_are_records_with_their_protocol(places):
    (record,) = api.evaluate(places[1], places[0], metrics=["swd"], num_images=30)
    assert (record["metric"], record["protocol"]["num_fake"]) == ("swd", 30)


def test_mistakes_are_errors_of_the_package(tmp_path):
    with pytest.raises(ConfigError, match="training.batch_sise: unknown key"):
        api.train({"training": {"batch_sise": 3}}, data="x", output="y", run_id="z")
    with pytest.raises(InputError, match="neither a run nor a checkpoint"):
        api.load_generator(str(tmp_path))
    with pytest.raises(AttributeError, match="no attribute 'load_generators'"):
        gan_distributed.load_generators  # noqa: B018


def test_the_root_imports_nothing_slow():
    program = "import gan_distributed, sys; sys.exit(' '.join({'torch', 'numpy', 'ray'} & sys.modules.keys()) or 0)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
