"""Every recipe, as a user's first try: from files of the format it is for to pictures, with narrow networks."""

import gzip
import pickle
import re
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import gan_distributed
from gan_distributed.config import load_config
from gan_distributed.generate import generate
from gan_distributed.prepare import prepare
from gan_distributed.train import train

JOBS = {path.stem: path for path in sorted((Path(__file__).parent.parent / "jobs").glob("*.yaml"))}
BUILTIN = Path(gan_distributed.__file__).parent / "data" / "sources" / "builtin" / "fashion-mnist"
NUM = 200
NARROW = [
    "samples.num=9",
    "metrics.port=null",
    "metrics.controller_port=null",
]


CLUSTER = [name for name, path in JOBS.items() if re.search(r"^# .*--workers [2-9]", path.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("name", CLUSTER)
def test_a_recipe_for_a_cluster_says_what_it_was_designed_for(name):
    """Batch, GPUs, rates, schedule and length, as they are configured."""
    text = JOBS[name].read_text()
    config = load_config(str(JOBS[name]), {})
    said = re.search(r"^# Designed for: (batch (\d+) on (\d+) GPUs \((\d+) each\).*)$", text, re.MULTILINE)
    batch, gpus, each = map(int, said.groups()[1:])
    assert batch == config.training.batch_size == gpus * each
    assert f"--workers {gpus}" in text
    assert said[1].endswith(f" {config.training.total_kimg:,.0f} kimg.")
    for lr in (config.optimizer.generator.lr, config.optimizer.discriminator.lr):
        written = [lr] if isinstance(lr, float) else [lr.start, lr.end]
        assert {f"{one:.0e}".replace("e-0", "e-") for one in written} <= set(re.findall(r"\de-\d", said[1]))
        assert ("constant" in said[1]) == isinstance(lr, float)
        assert ("half a cosine" in said[1]) == (not isinstance(lr, float) and lr.shape == "cosine")


@cache
def garments() -> tuple[np.ndarray, np.ndarray]:
    """Real images, uint8 [NUM, 28, 28], and their classes."""
    images, labels = (gzip.decompress((BUILTIN / f"t10k-{kind}-ubyte.gz").read_bytes()) for kind in KINDS)
    return np.frombuffer(images, np.uint8, NUM * 784, 16).reshape(NUM, 28, 28), np.frombuffer(labels, np.uint8, NUM, 8)


KINDS = ("images-idx3", "labels-idx1")


def in_colour(index: int, width: int, height: int) -> Image.Image:
    """A garment, dyed by its class."""
    images, labels = garments()
    grey = Image.fromarray(images[index]).resize((width, height), Image.Resampling.BICUBIC)
    hue = Image.new("L", (width, height), int(25 * labels[index]))
    return Image.merge("HSV", (hue, Image.new("L", (width, height), 160), grey)).convert("RGB")


def faces(folder: Path) -> str:
    """A folder of JPEG files of the size that aligned celebrities have."""
    for index in range(NUM):
        in_colour(index, 178, 218).save(folder / f"{index:06d}.jpg", quality=90)
    return str(folder)


def breeds(folder: Path) -> str:
    """A folder a class, of photographs that are not square."""
    labels = garments()[1]
    for index in range(NUM):
        place = folder / f"n0208{labels[index]}-breed {labels[index]}"
        place.mkdir(exist_ok=True)
        in_colour(index, 250, 187 + index % 5).save(place / f"{index}.jpg")
    return str(folder)


def icons(folder: Path) -> str:
    """A folder a class of PNG files with alpha."""
    labels = garments()[1]
    for index in range(NUM):
        place = folder / f"category {labels[index]}"
        place.mkdir(exist_ok=True)
        icon = in_colour(index, 64, 64)
        icon.putalpha(icon.convert("L").point(lambda level: 255 if level > 16 else 0))
        icon.save(place / f"{index}.png")
    return str(folder)


def digits(folder: Path) -> str:
    """IDX files, packed."""
    for kind in KINDS:
        (folder / f"train-{kind}-ubyte.gz").write_bytes((BUILTIN / f"t10k-{kind}-ubyte.gz").read_bytes())
    return str(folder / "train-images-idx3-ubyte.gz")


def cifar(folder: Path, num_classes: int) -> str:
    """The Python pickles that torchvision reads."""
    rows = np.stack([np.asarray(in_colour(index, 32, 32)).transpose(2, 0, 1).reshape(-1) for index in range(NUM)])
    labels = [int(label) * (num_classes // 10) for label in garments()[1]]
    names = [f"class {index}" for index in range(num_classes)]
    if num_classes == 100:
        place, key, meta, parts = folder / "cifar-100-python", "fine_labels", "meta", ["train"]
    else:
        place, key, meta = folder / "cifar-10-batches-py", "labels", "batches.meta"
        parts = [f"data_batch_{index}" for index in range(1, 6)]
    place.mkdir()
    share = NUM // len(parts)
    for index, part in enumerate(parts):
        chosen = slice(index * share, (index + 1) * share)
        (place / part).write_bytes(pickle.dumps({"data": rows[chosen], key: labels[chosen]}))
    (place / meta).write_bytes(pickle.dumps({"fine_label_names": names, "label_names": names}))
    return f"torchvision:CIFAR{num_classes}?root={folder}&split=train"


def stacked(folder: Path) -> str:
    """Three garments as red, green and blue."""
    images, labels = garments()
    chosen = np.random.default_rng(0).integers(0, NUM, (NUM, 3))
    with h5py.File(folder / "stacked.h5", "w") as file:
        file["images"] = np.stack([images[column] for column in chosen.T], axis=-1)
        file["labels"] = labels[chosen].astype(np.int64) @ [100, 10, 1]
    return f"{folder / 'stacked.h5'}?images=images&labels=labels"


SOURCES = {
    "celeba64-dcgan": (faces, 64),
    "celeba64-dcgan-original": (faces, 64),
    "cifar10-r3gan": (lambda folder: cifar(folder, 10), 32),
    "cifar100-hinge": (lambda folder: cifar(folder, 100), 32),
    "cifar100-sngan": (lambda folder: cifar(folder, 100), 32),
    "demo": (lambda folder: "builtin:fashion-mnist", 32),
    "dogs128-biggan": (breeds, 128),
    "dogs128-biggan-bce": (breeds, 128),
    "emoji64-dcgan": (icons, 64),
    "fashion-mnist-dcgan": (digits, 32),
    "fashion-mnist-r3gan": (digits, 32),
    "ffhq64-r3gan": (faces, 64),
    "generic128": (faces, 128),
    "generic64": (faces, 64),
    "mnist-convnet-bce": (digits, 32),
    "mnist-convnet-lsgan": (digits, 32),
    "stacked-fashion-dcgan": (stacked, 32),
    "stacked-fashion-r3gan": (stacked, 32),
}
# One of each kind of source.
FIRST = ("cifar100-hinge", "dogs128-biggan", "generic64", "mnist-convnet-lsgan", "stacked-fashion-r3gan")
BATCH = 16
# Attention over 64 x 64 pixels takes most of a step on a CPU, however narrow the network.
BATCHES = dict.fromkeys(("dogs128-biggan", "dogs128-biggan-bce"), 4)
WIDTHS = {"dcgan": 4, "convnet": 8, "sngan": 16, "biggan": 4, "r3gan": 16}


def first_try(name: str, num_steps: int, folder: Path, monkeypatch) -> list[np.ndarray]:
    """prepare, train (num_steps: of the discriminator) and generate; returns five pictures."""
    # The pickles are not those of the real data set.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    make, resolution = SOURCES[name]
    (folder / "raw").mkdir()
    data, config = str(folder / "data"), load_config(str(JOBS[name]))
    assert not prepare(make(folder / "raw"), data, resolution, limit=NUM, workers=0)
    width = WIDTHS[config.model.family]
    turns = -(-num_steps // config.training.discriminator_steps)
    batch_size = BATCHES.get(name, BATCH)
    images = turns * config.training.discriminator_steps * batch_size
    settings = [
        *NARROW,
        f"training.batch_size={batch_size}",
        f"data.num_lanes={batch_size}",
        f"model.generator_channels={width}",
        f"model.discriminator_channels={width}",
    ]
    settings += [f"training.total_kimg={images / 1000}", f"training.tick_kimg={images / 1000}"]
    runs = str(folder / "runs")
    assert train(str(JOBS[name]), data, runs, "first", workers="0", set_=settings) == 0
    (sample,) = (folder / "runs" / "first" / "samples").glob(f"{images:012d}.png")
    assert np.asarray(Image.open(sample)).std() > 1
    generate(f"{runs}/first", str(folder / "out"), num=5)
    made = [np.asarray(Image.open(path)) for path in sorted((folder / "out").glob("*.png"))]
    assert {image.shape[:2] for image in made} == {(resolution, resolution)}
    return made


def test_every_recipe_is_tried():
    assert SOURCES.keys() == JOBS.keys()


@pytest.mark.parametrize("name", FIRST)
def test_first_steps(name, tmp_path, monkeypatch):
    first_try(name, 2, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_some_hundred_steps(name, tmp_path, monkeypatch):
    made = first_try(name, 200, tmp_path, monkeypatch)
    assert np.stack(made).std() > 5
    assert np.abs(made[0].astype(int) - made[1]).mean() > 0.1


@pytest.mark.parametrize("name", JOBS)
def test_a_recipe_says_what_it_is(name):
    """What it reproduces, its data, its state, and a command that can be copied."""
    comments = [line for line in JOBS[name].read_text().splitlines() if line.startswith("#")]
    text = " ".join(line.removeprefix("# ") for line in comments)
    assert f"jobs/{name}.yaml" in text or name == "demo"
    assert "not yet measured" in text or "Measured" in text or name == "demo"
