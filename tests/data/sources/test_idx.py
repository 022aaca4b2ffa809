"""Images that are pixels already: IDX files, the built-in data set, torchvision's."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from gan_distributed.data import storage
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError


def write_idx(folder, images, classes=None, packed=False, stem="train"):
    wrap = gzip.compress if packed else bytes
    end = ".gz" if packed else ""
    count, height, width = images.shape
    path = folder / f"{stem}-images-idx3-ubyte{end}"
    path.write_bytes(wrap(struct.pack(">IIII", 0x803, count, height, width) + images.tobytes()))
    if classes is not None:
        data = struct.pack(">II", 0x801, len(classes)) + bytes(classes)
        (folder / f"{stem}-labels-idx1-ubyte{end}").write_bytes(wrap(data))
    return str(path)


IMAGES = np.arange(12 * 9 * 8, dtype=np.uint8).reshape(12, 9, 8)


@pytest.mark.parametrize("packed", [False, True])
def test_idx(packed, tmp_path):
    classes = [2, 10, 0] * 4
    with open_source(write_idx(tmp_path, IMAGES, classes, packed)) as source:
        assert source.class_names == ("0", "2", "10")
        assert [source.class_names[entry.label] for entry in source.entries] == [str(label) for label in classes]
        assert source.is_raw
        for index in range(12):
            assert (np.asarray(source.open_image(index)) == IMAGES[index]).all()
        assert len({entry.crc for entry in source.entries}) > 1
        assert pickle.loads(pickle.dumps(source.reader)).read(source.entries[3]).size == (8, 9)


def test_idx_elsewhere_and_without_labels(tmp_path):
    url = f"memory://{tmp_path}/images.idx3"
    storage.write(url, Path(write_idx(tmp_path, IMAGES)).read_bytes())
    with open_source(url) as source:
        assert source.class_names is None
        assert (np.asarray(source.open_image(11)) == IMAGES[11]).all()


def test_broken_idx(tmp_path):
    path = Path(write_idx(tmp_path, IMAGES, [1] * 11))
    with pytest.raises(DataError, match="does not hold 12 labels"):
        open_source(str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="863 bytes of pixels are not 12 images of 9x8"):
        open_source(str(path))
    packed = Path(write_idx(tmp_path, IMAGES, packed=True, stem="t10k"))
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or incomplete"):
        open_source(str(packed))


def test_builtin():
    with open_source("builtin:fashion-mnist") as source:
        assert len(source.entries) == 10_000
        assert source.class_names[9] == "Ankle boot"
        assert source.entries[0].label == 9
        assert np.bincount([entry.label for entry in source.entries]).tolist() == [1000] * 10
        assert to_row(source.open_image(0), 28, 1, "center").mean() > 10
    with pytest.raises(DataError, match="no such data set; there is fashion-mnist"):
        open_source("builtin:emoji")


def test_torchvision(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    write_idx(raw, IMAGES, [4, 3] * 6)
    write_idx(raw, IMAGES[:4], [1] * 4, stem="t10k")
    url = f"torchvision:MNIST?root={tmp_path}"
    with open_source(f"{url}&split=train") as source:
        assert len(source.entries) == 12
        assert source.class_names[3:5] == ("3 - three", "4 - four")
        assert [entry.label for entry in source.entries] == [4, 3] * 6
        assert (np.asarray(source.open_image(5)) == IMAGES[5]).all()
        again = pickle.loads(pickle.dumps(source.reader))
        assert again.read(source.entries[5]).size == (8, 9)
    with open_source(f"{url}&split=test") as source:
        assert len(source.entries) == 4
    with open_source("torchvision:FakeData?size=5&num_classes=3") as source:
        assert len(source.entries) == 5
        assert to_row(source.open_image(0), 32, 3, "center").std() > 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("CIFAR1000", "no data set 'CIFAR1000'; it has .*CIFAR100, "),
        ("CIFAR100?root={0}&split=train", "add download=true"),
        ("CIFAR100?root={0}&split=val", "has train and test"),
        ("CIFAR100?root={0}&colour=1", "takes no colour; it takes root, train, download"),
        ("CIFAR100", "needs root"),
    ],
)
def test_torchvision_errors(query, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        open_source("torchvision:" + query.format(tmp_path))
    assert "\n" not in str(caught.value)
