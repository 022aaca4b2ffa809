"""The zip that StyleGAN's dataset_tool writes: folders of 1000 by number, dataset.json with labels or null."""

import json
import zipfile

import numpy as np
import pytest
from pictures import encoded, pixels, prepared, read

from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError


def write(path, labels, count=12, folder="", **more):
    """Uncompressed, as the tool does it; the file of labels comes last."""
    names = [f"{index // 5:05d}/img{index:08d}.png" for index in range(count)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, name in enumerate(names):
            archive.writestr(folder + name, encoded(index))
        found = None if labels is None else [[name, labels(index)] for index, name in enumerate(names)]
        archive.writestr(f"{folder}dataset.json", json.dumps({"labels": found, **more}))
    return str(path)


@pytest.mark.parametrize("folder", ["", "ffhq/"])
def test_prepare(folder, tmp_path):
    rows, classes, manifest = prepared(write(tmp_path / "x.zip", lambda i: i % 3 + 8, folder=folder), tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(12)])).all()
    assert classes == [str(index % 3 + 8) for index in range(12)]
    assert manifest.class_names == ("8", "9", "10")


@pytest.mark.parametrize("folder", ["", "ffhq/"])
def test_null_labels(folder, tmp_path):
    """Folders of numbers are not classes where the file says that there are none."""
    rows, classes, manifest = prepared(write(tmp_path / "x.zip", None, folder=folder), tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(12)])).all()
    assert classes is None
    assert manifest.class_names is None


def test_vectors_are_no_classes(tmp_path):
    with pytest.raises(DataError, match="dataset.json: the label of 00000/img00000000.png is "):
        open_source(write(tmp_path / "x.zip", lambda i: [0.5, i]))


def test_a_name_without_label(tmp_path):
    url = write(tmp_path / "x.zip", lambda i: i % 2)
    with zipfile.ZipFile(url, "a") as archive:
        archive.writestr("00009/img00000099.png", encoded(99))
    with pytest.raises(DataError, match="has no label for 00009/img00000099.png"):
        open_source(url)


def test_names_are_kept(tmp_path):
    assert read(write(tmp_path / "x.zip", lambda i: i))[7][0] == "00001/img00000007.png"
