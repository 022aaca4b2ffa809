"""HDF5 files as h5py writes them: layouts, labels, encoded files, links, what is broken, and `prepare` over them."""

import pickle
import sys

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import encoded, pixels, prepared, read

from gan_distributed.data import storage
from gan_distributed.data.sources.formats import list_format
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, GanError, InputError, StorageError

ROWS = np.stack([pixels(index) for index in range(10)])
LABELS = np.arange(10) % 3 + 8


def write(path, options=None, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **((options or {}) if name in ("imgs", "images") else {}))
    return str(path)


def lengths_of_any(path, count=6, name="images"):
    with h5py.File(path, "w") as file:
        array = file.create_dataset(name, (count,), h5py.vlen_dtype(np.uint8))
        for index in range(count):
            array[index] = np.frombuffer(encoded(index), np.uint8)
    return str(path)


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_prepare(layout, where, tmp_path):
    """As StudioGAN writes it: imgs and labels, in chunks of many."""
    images = ROWS if layout == "NHWC" else ROWS.transpose(0, 3, 1, 2)
    url = write(
        tmp_path / "x.h5", {"chunks": (4, *images.shape[1:]), "compression": "gzip"}, imgs=images, labels=LABELS
    )
    if where == "memory":
        storage.write(f"memory://{tmp_path}/x.h5", (tmp_path / "x.h5").read_bytes())
        url = f"memory://{tmp_path}/x.h5"
    rows, classes, manifest = prepared(url, tmp_path / "out")
    assert (rows == ROWS).all()
    assert classes == [str(label) for label in LABELS]
    assert manifest.class_names == ("8", "9", "10")


def test_several_files(tmp_path):
    for part in range(3):
        write(tmp_path / f"part-{part}.h5", images=ROWS[part * 3 : part * 3 + 3], y=LABELS[part * 3 : part * 3 + 3])
    found = read(f"{tmp_path}/part-*.h5")
    assert [label for _, label, _ in found] == [str(label) for label in LABELS[:9]]
    assert all((image == ROWS[index]).all() for index, (_, _, image) in enumerate(found))
    assert found[4][0] == "part-1.h5//000000001"


@pytest.mark.parametrize(
    "options", [{}, {"chunks": True}, {"chunks": (10, 2, 2, 1)}, {"chunks": (1, 16, 16, 3), "compression": "lzf"}]
)
def test_chunks(options, tmp_path):
    found = read(write(tmp_path / "x.h5", options, images=ROWS))
    assert all((image == ROWS[index]).all() for index, (_, _, image) in enumerate(found))


def test_grey(tmp_path):
    for name, images in (("a", ROWS[..., 0]), ("b", ROWS[..., :1]), ("c", ROWS[:, None, :, :, 0])):
        found = read(write(tmp_path / f"{name}.h5", data=images))
        assert all((image == ROWS[index][..., :1]).all() for index, (_, _, image) in enumerate(found))


def test_by_choice(tmp_path):
    url = str(tmp_path / "x.h5")
    with h5py.File(url, "w") as file:
        file["a/deep"] = ROWS[:4]
        file["b"] = ROWS[4:8]
        file["kind"] = np.array([b"x", b"y", b"y", b"x"])
        file["word"] = ["ä", "ö", "ä", "ö"]
        file["column"] = np.array([[1], [0], [1], [0]])
    found = read(f"{url}?images=a/deep&labels=kind")
    assert [label for _, label, _ in found] == ["x", "y", "y", "x"]
    assert (found[2][2] == ROWS[2]).all()
    assert [label for _, label, _ in read(f"{url}?image=b&label=word")] == ["ä", "ö", "ä", "ö"]
    assert [label for _, label, _ in read(f"{url}?image=b&label=column")] == ["1", "0", "1", "0"]
    for query, said in [
        ("", r"which array holds the images\? Give \?images=NAME; there is b \(uint8 \[4, 16, 16, 3\]\), "),
        ("?images=kinds", "no such array 'kinds' that fits"),
        ("?images=column", "no such array 'column' that fits"),
        ("?images=b&labels=a", "no such array 'a' that fits"),
    ]:
        with pytest.raises(DataError, match=said):
            open_source(url + query)


@pytest.mark.parametrize("kind", ["any", "void", "bytes"])
def test_encoded_files(kind, tmp_path):
    path = tmp_path / "x.h5"
    if kind == "any":
        lengths_of_any(path)
    else:
        files = [encoded(index) for index in range(6)]
        dtype = f"{'V' if kind == 'void' else 'S'}{max(map(len, files)) + 3}"
        array = np.array([file + bytes(3) if kind == "void" else file for file in files], dtype)
        write(path, images=array)
    rows, _, _ = prepared(path, tmp_path / "out")
    assert (rows == ROWS[:6]).all()


def test_a_broken_row_among_encoded_files(tmp_path):
    url = lengths_of_any(tmp_path / "x.h5", 20)
    data = (tmp_path / "x.h5").read_bytes()
    place = data.index(encoded(5))
    (tmp_path / "x.h5").write_bytes(data[:place] + b"broken" + data[place + 6 :])
    found = read(url)
    assert [isinstance(image, str) for _, _, image in found] == [index == 5 for index in range(20)]


def test_a_broken_chunk(tmp_path):
    url = write(tmp_path / "x.h5", {"chunks": (2, 16, 16, 3), "fletcher32": True}, images=ROWS)
    data = (tmp_path / "x.h5").read_bytes()
    place = data.index(ROWS[4].tobytes())
    (tmp_path / "x.h5").write_bytes(data[:place] + bytes(100) + data[place + 100 :])
    found = read(url)
    assert [image if isinstance(image, str) else None for _, _, image in found] == [
        "damaged in the file" if index in (4, 5) else None for index in range(10)
    ]


def test_a_store_that_fails_is_no_bad_image(tmp_path, monkeypatch):
    url = f"memory://{tmp_path}/x.h5"
    storage.write(url, storage.read_bytes(write(tmp_path / "x.h5", {"chunks": (2, 16, 16, 3)}, images=ROWS)))
    with open_source(url) as source:
        source.open_image(0)
        from gan_distributed.data.sources import hdf5

        stream = hdf5._images(url, None).stream._stream
        monkeypatch.setattr(stream, "read", lambda num_bytes: (_ for _ in ()).throw(OSError("connection reset")))
        with pytest.raises(StorageError, match="connection reset; run the same command again"):
            source.open_image(9)


def test_nothing_outside_of_the_file_is_opened(tmp_path):
    write(tmp_path / "secret.h5", images=ROWS)
    raw = tmp_path / "raw.bin"
    raw.write_bytes(ROWS.tobytes())
    made = {
        "external": lambda file: file.__setitem__("images", h5py.ExternalLink(str(tmp_path / "secret.h5"), "/images")),
        "group": lambda file: file.__setitem__("a", h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")),
        "soft": lambda file: (file.create_dataset("z", data=ROWS), file.__setitem__("images", h5py.SoftLink("/z"))),
        "raw": lambda file: file.create_dataset(
            "images", ROWS.shape, np.uint8, external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
        ),
        "virtual": lambda file: file.create_virtual_dataset("images", virtual()),
    }

    def virtual():
        layout = h5py.VirtualLayout(ROWS.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "images", ROWS.shape)
        return layout

    for name, make in made.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            make(file)
        source = f"{tmp_path}/{name}.h5" + ("?images=a/images" if name == "group" else "")
        with pytest.raises(DataError, match="is a link, which is not followed|lies in other files"):
            open_source(source)


def test_what_would_fill_the_memory(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", (8, 2**14, 2**14, 3), np.uint8, chunks=(1, 64, 64, 3))
        file.create_dataset("imgs", (2**20, 64, 64, 3), np.uint8, chunks=(2**15, 64, 64, 3), compression="gzip")
    with pytest.raises(DataError, match="805306368 bytes an image"):
        open_source(f"{tmp_path}/x.h5?images=images")
    with pytest.raises(DataError, match="chunks of 402653184 bytes; write it with smaller ones"):
        open_source(f"{tmp_path}/x.h5?images=imgs")


def test_wrong_arrays(tmp_path):
    for name, arrays, said in [
        ("float", {"images": ROWS.astype(np.float32)}, r"there is images \(float32"),
        ("labels", {"images": ROWS, "labels": LABELS[:9]}, "9 labels in /labels for 10 images"),
        ("empty", {"images": ROWS[:0]}, "holds no images"),
        ("nothing", {}, "there is none at the top"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            open_source(write(tmp_path / f"{name}.h5", **arrays))
        assert "\n" not in str(caught.value)
    assert len(read(f"{tmp_path}/labels.h5?labels=none")) == 10
    assert read(write(tmp_path / "layout.h5", images=np.zeros((3, 16, 16, 7), np.uint8)))[0][2].startswith(
        "pixels of sh"
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_or_change_of_the_tables(tmp_path, data):
    """The library is in C; what it finds is told in one line. Changed bytes are in the tables of a small file."""
    path = tmp_path / "whole.h5"
    if not path.exists():
        write(path, {"chunks": (4, 16, 16, 3), "compression": "gzip"}, images=ROWS, labels=LABELS)
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        whole[data.draw(st.integers(0, min(6000, len(whole) - 1)))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x.h5").write_bytes(whole)
    try:
        read(tmp_path / "x.h5")
    except GanError as error:
        assert "\n" not in str(error)


def test_the_reader_is_small(tmp_path):
    listed = list_format(write(tmp_path / "x.h5", imgs=ROWS), tmp_path)
    assert listed.is_raw
    assert not list_format(lengths_of_any(tmp_path / "y.h5"), tmp_path).is_raw
    again = pickle.loads(pickle.dumps(listed.reader))
    assert len(pickle.dumps(listed.reader)) < 500
    for entry in reversed(list(list_format(str(tmp_path / "x.h5"), tmp_path).entries)):
        assert (np.asarray(again.read(entry)) == ROWS[entry.position]).all()


def test_without_the_library(tmp_path, monkeypatch):
    url = write(tmp_path / "x.h5", imgs=ROWS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'gan-distributed\[hdf5\]'"):
        open_source(url)
