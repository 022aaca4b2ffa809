"""Every kind of source gives the same sorted list of images, with the right classes, or one clear line."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.sources import archives, entries, labels, opening, spool
from gan_distributed.data.sources.entries import BadImageError, Entry
from gan_distributed.data.sources.listing import Listing
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, InputError, StorageError


def png(value=0):
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    return file.getvalue()


CATS_AND_DOGS = {"dog/b.png": png(1), "cat/a.png": png(2), "cat/c.PNG": png(3), "dog/notes.txt": b"woof"}


def make(kind, files, folder):
    """The files as a folder or an archive; returns its URL."""
    if kind == "folder":
        for name, data in files.items():
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(folder / "images")
    if kind == "memory":
        for name, data in files.items():
            storage.write(f"memory://{folder}/{name}", data)
        return f"memory://{folder}"
    path = folder / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return str(path)


KINDS = ["folder", "memory", "zip", "tar", "tar.gz", "tgz"]


def listed(url):
    """[(name, class)] of a source."""
    with open_source(url) as source:
        names = source.class_names
        return [(entry.name, names[entry.label] if names else None) for entry in source.entries]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_agree(kind, tmp_path):
    with open_source(make(kind, CATS_AND_DOGS, tmp_path)) as source:
        assert [entry.name for entry in source.entries] == ["cat/a.png", "cat/c.PNG", "dog/b.png"]
        assert [entry.label for entry in source.entries] == [0, 0, 1]
        assert source.class_names == ("cat", "dog")
        assert [source.open_image(index) for index in range(3)] == [png(2), png(3), png(1)]
        assert [entry.num_bytes for entry in source.entries] == [len(png(value)) for value in (2, 3, 1)]
        again = pickle.loads(pickle.dumps(source.reader))
        assert again.read(source.entries[2]) == png(1)
        assert hash(again) == hash(source.reader)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_folder_is_no_class(kind, tmp_path):
    files = {f"set/2024/{name}": data for name, data in CATS_AND_DOGS.items()}
    assert listed(make(kind, files, tmp_path)) == [
        ("set/2024/cat/a.png", "cat"), ("set/2024/cat/c.PNG", "cat"), ("set/2024/dog/b.png", "dog"),
    ]  # fmt: skip


def test_no_sub_folders_no_labels(tmp_path):
    assert listed(make("folder", {"one/a.png": png(), "one/b.png": png()}, tmp_path)) == [
        ("one/a.png", None), ("one/b.png", None),
    ]  # fmt: skip


def test_mixed_levels_give_a_warning(tmp_path, caplog, propagating):
    assert listed(make("folder", {"a.png": png(), "cat/b.png": png()}, tmp_path))[1] == ("cat/b.png", None)
    assert "1 of 2 images lie outside of sub-folders" in caplog.text


def test_splits_are_questioned(tmp_path, caplog, propagating):
    listed(make("zip", {"train/cat/a.png": png(), "test/cat/b.png": png()}, tmp_path))
    assert "did you mean one of these" in caplog.text


@pytest.fixture
def propagating(monkeypatch):
    """The command's own handler, where another test installed it, keeps records from caplog."""
    import logging

    monkeypatch.setattr(logging.getLogger("gan_distributed"), "propagate", True)


def test_hidden_files_are_not_images(tmp_path):
    files = {"a.png": png(), "__MACOSX/._a.png": b"x", ".thumbs/a.png": b"x", "cat/._b.png": b"x"}
    assert listed(make("zip", files, tmp_path)) == [("a.png", None)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "name,label\nx/1.png,10\nx/2.png,9\ny/3.png,10\n"),
        ("labels.csv", "\ufeffx/1.png, 10\r\n\r\n./x/2.png,9\r\ny/3.png,10\r\nnot-there.png,3\r\n"),
        ("labels.json", json.dumps({"x/1.png": 10, "x/2.png": "9", "y/3.png": 10})),
        ("dataset.json", json.dumps({"labels": [["x/1.png", 10], ["x/2.png", 9], ["y/3.png", 10]]})),
    ],
)
def test_files_of_labels_win(kind, name, content, tmp_path):
    files = {"x/1.png": png(), "x/2.png": png(), "y/3.png": png(), name: content.encode()}
    found = listed(make(kind, files, tmp_path))
    assert [label for _, label in found if label != "3"] == ["10", "9", "10"]
    with open_source(make(kind, files, tmp_path)) as source:
        assert source.class_names == ("9", "10")


def test_labels_without_the_shared_folder(tmp_path):
    files = {"labels.csv": b"1.png,cat\n2.png,dog\n", "images/1.png": png(), "images/2.png": png()}
    assert listed(make("tar", files, tmp_path)) == [("images/1.png", "cat"), ("images/2.png", "dog")]
    nested = {f"top/{name}": data for name, data in files.items()}
    assert listed(make("zip", nested, tmp_path))[0] == ("top/images/1.png", "cat")


def test_stylegan_without_labels(tmp_path):
    files = {"00000/img0.png": png(), "00001/img1.png": png(), "dataset.json": b'{"labels": null}'}
    assert listed(make("zip", files, tmp_path))[0] == ("00000/img0.png", None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", b"a.png,cat\n", "has no label for b.png"),
        ("labels.csv", b"a.png,cat\nb.png\n", "line 2"),
        ("labels.csv", b"a.png,cat\na.png,dog\nb.png,x\n", "two labels"),
        ("labels.csv", b"\xff\xfe\x00", "cannot be read"),
        ("labels.json", b"{", "cannot be read"),
        ("labels.json", b"[" * 100_000, "cannot be read"),
        ("labels.json", b'{"a.png": 1.5}', "whole number"),
        ("labels.json", b'"a"', "is not {name: label}"),
        ("dataset.json", b"{}", '"labels"'),
        ("dataset.json", b'{"labels": [["a.png", [0.1, 0.2]]]}', "whole number"),
        ("dataset.json", b'{"labels": [["a.png"]]}', "not a name and its label"),
    ],
)
def test_broken_files_of_labels(name, content, said, tmp_path):
    url = make("folder", {"a.png": png(), "b.png": png(), name: content}, tmp_path)
    with pytest.raises(DataError, match=name) as caught:
        open_source(url)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from(labels.LABEL_FILES))
def test_any_bytes_as_labels(data, name):
    try:
        assert all(len(pair) == 2 for pair in labels.parse_labels("here", name, data) or [])
    except DataError as error:
        assert str(error).startswith("here: ")


@given(st.lists(st.text(min_size=1, max_size=4) | st.integers(-20, 20).map(str), min_size=1))
def test_classes_are_sorted_and_complete(found):
    indices, names = labels.index_classes(found)
    assert [names[index] for index in indices] == found
    assert len(set(names)) == len(names)
    if all(name.lstrip("-").isascii() and name.lstrip("-").isdigit() and name.count("-") < 2 for name in names):
        assert [int(name) for name in names] == sorted(int(name) for name in names)
    else:
        assert list(names) == sorted(names)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_names_that_climb_are_only_names(kind, tmp_path):
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    files = {"../../evil.png": png(1), "/etc/evil.png": png(2), "cat/../x.png": png(3)}
    before = set(tmp_path.rglob("*"))
    with open_source(make(kind, files, inside)) as source:
        assert sorted(entry.name for entry in source.entries) == ["../../evil.png", "cat/../x.png", "etc/evil.png"]
        assert {source.open_image(index) for index in range(3)} == {png(1), png(2), png(3)}
    assert set(tmp_path.rglob("*")) - before == {inside / f"images.{kind}"}


def test_links_and_devices_in_a_tar_are_ignored(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in {"l.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "d.png": tarfile.CHRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("good.png")
        info.size = len(png())
        archive.addfile(info, io.BytesIO(png()))
    assert listed(str(tmp_path / "x.tar")) == [("good.png", None)]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_a_huge_member_is_refused_unread(kind, tmp_path, monkeypatch):
    for module in (entries, archives, opening):
        monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 2**20)
    files = {"a.png": png(), "bomb.png": bytes(3 * 2**20), "c.png": png(7)}
    with open_source(make(kind, files, tmp_path)) as source:
        assert source.open_image(0) == png()
        with pytest.raises(BadImageError, match="3145728 bytes, more than 1 MiB"):
            source.open_image(1)
        assert source.open_image(2) == png(7)
        if kind == "tar.gz":
            assert Path(source.reader.url).stat().st_size < 2**20


def test_a_zip_member_cannot_give_more_than_it_declares(tmp_path):
    """The header of a bomb says 100 bytes; what unpacks beyond is never read."""
    path = Path(make("zip", {"bomb.png": bytes(50 * 2**20)}, tmp_path))
    lying = path.read_bytes().replace(struct.pack("<I", 50 * 2**20), struct.pack("<I", 100))
    path.write_bytes(lying)
    with open_source(str(path)) as source, pytest.raises(BadImageError, match="damaged in the archive"):
        source.open_image(0)


def test_a_tar_header_of_a_gigabyte_is_refused(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**16)))
    with pytest.raises(DataError, match="damaged or incomplete"):
        open_source(str(tmp_path / "x.tar.gz"))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_cut_archives(kind, tmp_path):
    generator = np.random.default_rng(0)
    path = Path(make(kind, {f"{index}.png": generator.bytes(5000) for index in range(5)}, tmp_path))
    whole = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="damaged or incomplete|ends within|unknown kind"):
            open_source(str(path))


def test_a_damaged_or_encrypted_zip_member(tmp_path):
    path = Path(make("zip", {"a.png": png(1), "b.png": png(2)}, tmp_path))
    data = bytearray(path.read_bytes())
    data[data.index(b"a.png") + 10] ^= 0xFF
    # Bit 0 of the flags of the last entry of the central directory: encrypted.
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with open_source(str(path)) as source:
        with pytest.raises(BadImageError, match="damaged in the archive"):
            source.open_image(0)
        with pytest.raises(BadImageError, match="encrypted"):
            source.open_image(1)


def test_of_two_members_of_a_name_the_later_counts(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("a.png", png(2))
    with open_source(str(tmp_path / "x.zip")) as source:
        assert len(source.entries) == 1
        assert source.open_image(0) == png(2)


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


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="nothing here"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nothing here"):
        open_source(f"memory://{tmp_path}/nowhere")
    with pytest.raises(DataError, match="holds no images"):
        open_source(str(tmp_path))
    (tmp_path / "x.zip").write_bytes(b"a text")
    with pytest.raises(DataError, match="unknown kind"):
        open_source(str(tmp_path / "x.zip"))
    (tmp_path / "x.png").write_bytes(png())
    with pytest.raises(DataError, match="unknown kind"):
        open_source(str(tmp_path / "x.png"))
    with pytest.raises(DataError, match="holds no images"):
        open_source(make("zip", {}, tmp_path))
    with pytest.raises(InputError, match="known schemes"):
        open_source("nosuch://x")


def test_a_dead_link_is_one_bad_image(tmp_path):
    url = make("folder", {"a.png": png()}, tmp_path)
    (Path(url) / "b.png").symlink_to("/nowhere.png")
    with open_source(url) as source, pytest.raises(BadImageError, match="cannot be opened"):
        source.open_image(1)


def test_temporary_files_go_away(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = make("tar.gz", CATS_AND_DOGS, tmp_path)
    with open_source(url) as source:
        assert Path(source.reader.url).is_relative_to(tmp_path)
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(Path(url).read_bytes()[:-30])
    with pytest.raises(DataError):
        open_source(str(bad))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "images.tar.gz"]


def test_no_room_to_unpack(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="set TMPDIR"), spool.spooling(Path("/dev/full")) as out:
        out.write(b"x")


def spread(found, limit):
    """What a listing keeps of the entries."""
    listing = Listing(found)
    listing.spread(limit)
    kept = list(listing)
    assert len(listing) == len(kept)
    listing.close()
    return kept


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 70))
def test_spread(classes, limit):
    found = [Entry(f"{index:03d}.png", label, 1) for index, label in enumerate(classes)]
    chosen = spread(found, limit)
    assert len(chosen) == min(limit, len(found))
    assert chosen == sorted(chosen)
    counts = {label: sum(entry.label == label for entry in chosen) for label in set(classes)}
    available = {label: classes.count(label) for label in counts}
    # No class has two fewer than another, unless all of it was taken.
    short = [counts[label] for label in counts if counts[label] < available[label]]
    assert not short or max(counts.values()) - min(short) <= 1
    # More images elsewhere do not change which are chosen of these, beyond their number.
    assert set(spread(found, limit)) <= set(spread(found, limit + 1))


def test_spread_is_not_the_first():
    found = [Entry(f"{index:05d}.png", None, 1) for index in range(1000)]
    chosen = spread(found, 100)
    assert chosen != found[:100]
    assert 300 < np.mean([int(entry.name[:5]) for entry in chosen]) < 700
