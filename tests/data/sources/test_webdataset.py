"""WebDataset tars, written by webdataset itself: grouping, labels, arrays, what is broken, and `prepare` over them."""

import gzip
import io
import json
import pickle
import re
import tarfile
import warnings

import numpy as np
import pytest
from pictures import encoded, pixels, prepared, read

from gan_distributed.data import storage
from gan_distributed.data.sources import webdataset_tars
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.files import Files, Options
from gan_distributed.data.sources.formats import list_format
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import webdataset


def write_shards(folder, samples, per_shard=4):
    """Shards of the samples by webdataset's own writer; returns the pattern that stands for all of them."""
    folder.mkdir(exist_ok=True)
    writer = webdataset.ShardWriter(f"file:{folder}/shard-%03d.tar", maxcount=per_shard, verbose=0)
    with writer:
        for index, sample in enumerate(samples):
            writer.write({"__key__": f"{index:04d}", **sample})
    return f"{folder}/shard-{{000..{len(list(folder.iterdir())) - 1:03d}}}.tar"


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


LABELLED = [{"png": encoded(index), "cls": index % 3 + 8} for index in range(10)]


@pytest.mark.parametrize("kind", ["braces", "glob", "folder", "memory"])
def test_prepare(kind, tmp_path):
    pattern = write_shards(tmp_path / "s", LABELLED)
    source = {"braces": pattern, "glob": f"{tmp_path}/s/shard-*.tar", "folder": tmp_path / "s", "memory": None}[kind]
    if kind == "memory":
        for path in (tmp_path / "s").iterdir():
            storage.write(f"memory://{tmp_path}/{path.name}", path.read_bytes())
        source = f"memory://{tmp_path}/shard-{{000..002}}.tar"
    rows, classes, manifest = prepared(source, tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(10)])).all()
    assert classes == [str(index % 3 + 8) for index in range(10)]
    assert manifest.class_names == ("8", "9", "10")


def test_one_tar_with_labels_of_its_own(tmp_path):
    write_shards(tmp_path / "s", LABELLED, per_shard=100)
    found = read(tmp_path / "s" / "shard-000.tar")
    assert [(name, label) for name, label, _ in found[:2]] == [
        ("shard-000.tar//0000.png", "8"), ("shard-000.tar//0001.png", "9"),
    ]  # fmt: skip


def test_a_tar_of_folders_is_none(tmp_path):
    files = [("cat/a.png", encoded(0)), ("cat/a.txt", b"a cat"), ("dog/b.png", encoded(1)), ("dog/b.json", b"{}")]
    found = read(write_tar(tmp_path / "x.tar", files))
    assert [(name, label) for name, label, _ in found] == [("cat/a.png", "cat"), ("dog/b.png", "dog")]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "npy", "image.png"])
def test_suffixes(suffix, tmp_path):
    kind = {"jpg": "JPEG", "webp": "WEBP"}.get(suffix, "PNG")
    samples = [{suffix: pixels(i) if suffix == "npy" else encoded(i, kind), "cls": i % 2} for i in range(4)]
    found = read(write_shards(tmp_path / "s", samples))
    assert len(found) == 4
    for index, (name, _, image) in enumerate(found):
        assert name.endswith(f"{index:04d}.{suffix}")
        if suffix != "jpg":
            assert (image == pixels(index)).all()


def test_of_several_images_one_is_taken(tmp_path):
    samples = [{"mask.png": encoded(50), "png": encoded(i), "npy": pixels(60)} for i in range(3)]
    pattern = write_shards(tmp_path / "s", samples)
    assert [(image == pixels(i)).all() for i, (_, _, image) in enumerate(read(pattern))] == [True] * 3
    assert (read(f"{pattern}?image=mask.png")[0][2] == pixels(50)).all()
    assert (read(f"{pattern}?image=npy")[0][2] == pixels(60)).all()
    with pytest.raises(DataError, match="holds no images"):
        open_source(f"{pattern}?image=jpg")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ["0", "1", "0", "1"]),
        ("?label=json", ["0", "1", "0", "1"]),
        ("?label=cls", None),
        ("?label=json.kind", ["odd", "odd", "even", "even"]),
        ("?label=txt", ["a b", "a b", "c", "c"]),
        ("?label=none", [None] * 4),
    ],
)
def test_labels_by_choice(query, wanted, tmp_path):
    samples = [
        {"png": encoded(i), "json": {"kind": ("odd", "even")[i // 2], "label": i % 2}, "txt": ("a b\n", "c")[i // 2]}
        for i in range(4)
    ]
    pattern = write_shards(tmp_path / "s", samples)
    if wanted is None:
        with pytest.raises(DataError, match="no image has a label in 'cls'"):
            open_source(pattern + query)
    else:
        assert [label for _, label, _ in read(pattern + query)] == wanted


def test_captions_are_no_classes(tmp_path, caplog, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger("gan_distributed"), "propagate", True)
    pattern = write_shards(tmp_path / "s", [{"png": encoded(i), "txt": f"a picture, the {i}th"} for i in range(6)])
    assert [label for _, label, _ in read(pattern)] == [None] * 6
    assert "labels differ from image to image" in caplog.text
    assert len({label for _, label, _ in read(f"{pattern}?label=txt")}) == 6


def test_a_sample_without_label_is_named(tmp_path):
    pattern = write_shards(tmp_path / "s", [*LABELLED[:5], {"png": encoded(9)}])
    with pytest.raises(DataError, match=r"no label for shard-001.tar//0005.png; add it, or give \?label=none"):
        open_source(pattern)


def npy(array, **changes):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True, **changes)
    return file.getvalue()


def test_broken_members(tmp_path):
    evil = b"\x80\x04cos\nsystem\n(S'touch /tmp/never'\ntR."
    broken = [
        ("0.npy", npy(pixels(0)), None),
        ("1.npy", npy(pixels(0))[:-1], "767 bytes are no array of shape"),
        ("2.npy", npy(pixels(0).astype(np.float64)), "float64, not uint8"),
        ("3.npy", npy(np.array([{}], dtype=object)), "object, not uint8"),
        ("4.npy", evil, "not a .npy file"),
        ("5.npy", b"", "not a .npy file"),
        ("6.npy", npy(np.zeros((16, 16, 7), np.uint8)), r"shape \[16, 16, 7\]"),
        ("7.npy", npy(pixels(0)).replace(b"(16, 16, 3)", b"(-16,16,-3)"), "no array of shape"),
        ("8.npy", npy(pixels(0)).replace(b"(16, 16, 3)", b"[[[[[[[[[[["), "not a .npy file"),
        ("9.png", encoded(0)[:100], "damaged|truncated"),
        ("a.npy", npy(np.asfortranarray(pixels(1))), None),
        ("b.npy", npy(pixels(2).transpose(2, 0, 1)), None),
        ("c.npy", npy(pixels(3), version=(2, 0)), None),
    ]
    found = read(write_tar(tmp_path / "x.tar", [(name, data) for name, data, _ in broken]))
    for (name, _, said), (found_name, _, image) in zip(broken, found, strict=True):
        assert found_name == f"x.tar//{name}"
        if said is None:
            assert not isinstance(image, str), (name, image)
        else:
            assert isinstance(image, str), f"{name} was read"
            assert re.search(said, image), (name, image)
    assert (found[10][2] == pixels(1)).all()
    assert (found[11][2] == pixels(2)).all()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_cut_shards(share, tmp_path):
    pattern = write_shards(tmp_path / "s", LABELLED)
    path = tmp_path / "s" / "shard-001.tar"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="shard-001.tar: damaged or incomplete|no label for shard-001"):
        open_source(pattern)


def test_a_shard_that_became_shorter(tmp_path):
    pattern = write_shards(tmp_path / "s", LABELLED)
    with open_source(pattern) as source:
        (tmp_path / "s" / "shard-001.tar").write_bytes(b"")
        source.open_image(0)
        with pytest.raises(BadImageError, match="shorter"):
            source.open_image(5)


def test_missing_shards_and_wrong_words(tmp_path):
    pattern = write_shards(tmp_path / "s", LABELLED)
    for source, said in [
        (pattern.replace("002", "003"), "shard-003.tar"),
        (pattern.replace("000..002", "00000..99999"), "shard-00000.tar: there is nothing here"),
        (f"{tmp_path}/s/none-*.tar", "no file has such a name"),
        (f"{tmp_path}/s/{{0..99999999}}.tar", "more than 1000000 files"),
        (f"{pattern}?prefix=a", "takes no prefix="),
        (f"{pattern}?split=val", "there is no split 'val'"),
    ]:
        with pytest.raises(InputError, match=said) as caught:
            open_source(source)
        assert "\n" not in str(caught.value)


def test_compressed_tars_are_refused(tmp_path):
    write_shards(tmp_path / "s", LABELLED, per_shard=100)
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "s" / "shard-000.tar").read_bytes()))
    with pytest.raises(DataError, match=r"x.tar.gz: a compressed tar cannot be read at random; unpack it to a .tar"):
        open_source(str(packed))


def test_what_is_listed_is_a_stream(tmp_path):
    pattern = write_shards(tmp_path / "s", LABELLED)
    listed = list_format(pattern, tmp_path)
    assert not isinstance(listed.entries, list)
    entries = list(listed.entries)
    assert entries == list(listed.entries)
    again = pickle.loads(pickle.dumps(listed.reader))
    assert again.read(entries[7]) == encoded(7)
    assert len(pickle.dumps(listed.reader)) < 500
    assert json.dumps(entries)


def test_a_huge_member_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset_tars, "MAX_IMAGE_BYTES", 10_000)
    url = write_tar(tmp_path / "x.tar", [("a.png", bytes(20_000)), ("a.cls", b"1")])
    assert read(url)[0][2].startswith("20000 bytes, more than")


def test_direct_call(tmp_path):
    write_shards(tmp_path / "s", LABELLED)
    files = Files(str(tmp_path / "s"), ("shard-002.tar",))
    entries, names, reader = webdataset_tars.list_webdataset(files, Options(), tmp_path)
    assert names == ("8", "10")
    assert [reader.read(entry) for entry in entries] == [encoded(8), encoded(9)]
