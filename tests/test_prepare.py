"""`prepare` as a user meets it: what it writes, what it refuses, and that every way of running gives the same bytes."""

import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation import conversion
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.shards import block_crcs
from gan_distributed.data.sources import folders
from gan_distributed.errors import DataError, InputError, StorageError
from gan_distributed.prepare import _ray_running, prepare

WORDS = {"text.jpg": b"this is a text, named .jpg", "empty.png": b""}


def picture(index, side=24):
    """A disc whose colour, size and place follow from the index."""
    image = Image.new("RGB", (side, side + index % 5), (index * 37 % 256, 90, 255 - index % 256))
    radius = 3 + index % 6
    ImageDraw.Draw(image).ellipse((4, 4, 4 + 2 * radius, 4 + 2 * radius), fill=(255, index * 11 % 256, 0))
    return image


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """60 images of 3 classes, 3 of them broken."""
    root = tmp_path_factory.mktemp("source")
    for index in range(60):
        path = root / ("ant", "bee", "cow")[index % 3] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(picture(index)))
    (root / "ant" / "000.png").write_bytes(b"a text")
    (root / "bee" / "031.png").write_bytes(encoded(picture(31))[:-40])
    (root / "cow" / "059.png").write_bytes(encoded(Image.new("L", (1, 1))))
    return str(root)


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch):
    """No waiting for the disk; shards of 8 images of 16x16x3, blocks of 4 or, with --block-mib 1, of 1."""
    monkeypatch.setattr(conversion, "SHARD_BYTES", 9 * 768)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("gan_distributed.prepare.block_rows_of", lambda prepared, block_mib: 4 if block_mib > 1 else 1)


def run(source, dest, **options):
    options = {"resolution": 16, "workers": 0, "max_bad": 0.1} | options
    return prepare(str(source), str(dest), **options)


def contents(dest):
    """{path: bytes} of all files of a data set."""
    return {name: storage.read_bytes(storage.join(str(dest), name)) for name, _ in folders.walk(str(dest))}


def rows_of(dest):
    """All rows, read as a stranger would."""
    manifest = load_manifest(str(dest))
    return np.concatenate([np.load(Path(dest) / shard.path) for shard in manifest.shards])


def test_what_is_written(folder, tmp_path, capsys):
    dest = tmp_path / "data"
    run(folder, dest)
    manifest = load_manifest(str(dest))
    good = [index for index in sorted(range(60), key=lambda index: (index % 3, index)) if index not in (0, 31, 59)]
    rows = rows_of(dest)
    assert rows.shape == (57, 16, 16, 3)
    for row, index in zip(rows, good, strict=True):
        assert (row == to_row(picture(index), 16, 3, "center")).all()
    labels = np.load(dest / "labels.npy")
    assert labels.tolist() == [index % 3 for index in good]
    assert manifest.class_names == ("ant", "bee", "cow")
    assert manifest.class_histogram == (19, 19, 19)
    assert (manifest.num_images, manifest.num_quarantined, manifest.channels) == (57, 3, 3)
    assert [json.loads(line) for line in (dest / "quarantine.jsonl").read_text().splitlines()] == [
        {"name": "ant/000.png", "reason": "not an image of a known format"},
        {"name": "bee/031.png", "reason": "damaged: image file is truncated"},
        {"name": "cow/059.png", "reason": "1x1 pixels, smaller than 8 on a side"},
    ]
    for record in (*manifest.shards, manifest.labels, manifest.blocks):
        data = (dest / record.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record.bytes, record.sha256)
    starts = [*manifest.shard_starts, 57]
    crcs = [
        crc
        for start, stop in itertools.pairwise(starts)
        for crc in block_crcs(rows[start:stop], labels[start:stop], manifest.block_rows)
    ]
    assert np.frombuffer((dest / "blocks.crc32c").read_bytes(), "<u4").tolist() == crcs
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.out.startswith(f"prepared: {dest} holds 57 images of 16x16x3 in 3 classes, 3 quarantined, ")
    assert "channels: 3" in captured.err
    assert not any(b"source" in data or str(tmp_path).encode() in data for data in contents(dest).values())


def test_blocks_and_shards_have_the_size_asked_for(tmp_path, monkeypatch):
    prepared = conversion.Preparation(resolution=64, channels=3, crop="center")
    assert conversion.block_rows_of(prepared, 4) == 4 * 2**20 // 12288
    assert conversion.block_rows_of(prepared.model_copy(update={"resolution": 1024}), 1) == 1
    monkeypatch.setattr(conversion, "SHARD_BYTES", 64 * 2**20)
    for resolution in (8, 32, 64, 256, 1024):
        for block_mib in (1, 4, 64):
            prepared = conversion.Preparation(resolution=resolution, channels=3, crop="center")
            rows = conversion.block_rows_of(prepared, block_mib)
            length = conversion.rows_of_a_shard(prepared, rows)
            assert 60 * 2**20 <= length * resolution**2 * 3 <= 64 * 2**20
            assert length % rows == 0


def test_any_kind_of_source_gives_the_same_rows(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, _ in folders.walk(folder):
            archive.write(Path(folder) / name, f"top/{name}")
    run(folder, tmp_path / "a")
    run(tmp_path / "x.zip", tmp_path / "b")
    for name, data in contents(folder).items():
        storage.write(f"memory://raw-images/{name}", data)
    # Read ahead by threads; the same bytes of every file, so nothing depends on where the source lies.
    run("memory://raw-images", tmp_path / "c")
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    assert (rows_of(tmp_path / "a") == rows_of(tmp_path / "b")).all()
    assert (tmp_path / "a" / "labels.npy").read_bytes() == (tmp_path / "b" / "labels.npy").read_bytes()


def test_same_bytes_in_memory_and_on_disk(folder, tmp_path):
    run(folder, tmp_path / "a")
    run(folder, "memory://prepared-here", workers=None)
    assert contents(tmp_path / "a") == contents("memory://prepared-here")
    with pytest.raises(InputError, match="memory:// lives in one process"):
        run(folder, "memory://prepared-there", workers=2)


def test_again_is_already_prepared(folder, tmp_path, capsys, monkeypatch):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    monkeypatch.setattr(storage, "write", None)
    run(folder, tmp_path / "a")
    assert capsys.readouterr().out.splitlines()[1].startswith("already prepared: ")
    run(folder, tmp_path / "a", repair=True, max_bad=0)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 32}, "was prepared with resolution 16, not 32"),
        ({"channels": 1}, "was prepared with channels 3, not 1"),
        ({"crop": "none"}, "was prepared with crop center, not none"),
        ({"block_mib": 1}, "block-mib"),
        ({"limit": 30}, "from 60 images, not these 30"),
    ],
)
def test_other_options_are_refused(options, said, folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    for repair in (False, True):
        with pytest.raises(DataError, match=said) as caught:
            run(folder, tmp_path / "a", repair=repair, **options)
        assert "another folder" in str(caught.value)
    assert contents(tmp_path / "a") == before


def test_other_images_are_refused(folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    other = tmp_path / "other"
    for name, data in contents(folder).items():
        storage.write(f"{other}/{name.replace('003', '903')}", data)
    for repair in (False, True):
        with pytest.raises(DataError, match="was prepared from other images"):
            run(other, tmp_path / "a", repair=repair)
    assert contents(tmp_path / "a") == before


class Killed(BaseException):
    """What SIGKILL is to a process."""


@pytest.mark.parametrize("survivors", [0, 1, 3, 7])
def test_killed_half_way_and_run_again(survivors, folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "whole")
    written = []

    def write(url, data):
        if "/shards/" in url and len(written) == survivors:
            raise Killed
        written.extend([url] if "/shards/" in url else [])
        storage_write(url, data)

    storage_write = storage.write
    monkeypatch.setattr(storage, "write", write)
    with pytest.raises(Killed):
        run(folder, tmp_path / "cut")
    assert not (tmp_path / "cut" / "manifest.json").exists()
    survivors = -1
    run(folder, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # What was whole was not written again.
    assert len(written) == len(set(written)) == 8


@pytest.mark.parametrize("lost", ["shards/00002", "parts/00002", "labels.npy", "blocks.crc32c", "quarantine.jsonl"])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("how", ["delete", "cut", "flip"])
def test_what_is_lost_is_made_again(lost, finished, how, folder, tmp_path, capsys):
    dest = tmp_path / "a"
    run(folder, dest)
    before = contents(dest)
    name = next(name for name in before if name.startswith(lost))
    if how == "delete":
        storage.delete(f"{dest}/{name}")
    elif how == "cut":
        storage.write(f"{dest}/{name}", before[name][:-1])
    else:
        storage.write(f"{dest}/{name}", before[name][:-3] + bytes([before[name][-3] ^ 1]) + before[name][-2:])
    if not finished:
        storage.delete(f"{dest}/manifest.json")
        # The size alone does not tell that a bit flipped; --repair reads it all.
        run(folder, dest, repair=how == "flip")
    else:
        if how != "flip" or lost.startswith("parts"):
            with pytest.raises(DataError, match="run the same command with --repair"):
                run(folder, dest)
        run(folder, dest, repair=True)
        assert "repaired: " in capsys.readouterr().out
    assert contents(dest) == before


def test_repair_of_a_manifest(folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="--repair"):
        run(folder, tmp_path / "a")
    run(folder, tmp_path / "a", repair=True)
    assert contents(tmp_path / "a") == before


def test_what_an_unfinished_run_with_other_options_left_is_removed(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "whole")
    run(folder, tmp_path / "a", crop="none")
    for name in ("manifest.json", "manifests"):
        storage.delete_folder(str(tmp_path / "a" / name))
    run(folder, tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")


def test_too_many_bad_images(folder, tmp_path):
    with pytest.raises(DataError) as caught:
        run(folder, tmp_path / "a", max_bad=0.01)
    said = str(caught.value)
    assert said.startswith("3 of 60 images are bad, more than --max-bad 0.01 (ant/000.png: not an image of a known")
    assert f"the list is {tmp_path}/a/quarantine.jsonl" in said
    assert caught.value.exit_code == 2
    assert len((tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "a" / "manifest.json").exists()
    run(folder, tmp_path / "a", max_bad=0.05)
    run(folder, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_no_good_image(tmp_path):
    for name, data in WORDS.items():
        storage.write(f"{tmp_path}/s/{name}", data)
    with pytest.raises(DataError, match="none of 2 images is good .empty.png: not an image"):
        run(tmp_path / "s", tmp_path / "a", max_bad=1.0)
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_a_range_without_a_good_image_has_no_shard(tmp_path):
    for index in range(24):
        good = not 8 <= index < 16
        storage.write(f"{tmp_path}/s/{index:02d}.png", encoded(picture(index)) if good else b"text")
    run(tmp_path / "s", tmp_path / "a", max_bad=0.5)
    manifest = load_manifest(str(tmp_path / "a"))
    assert [shard.path[:12] for shard in manifest.shards] == ["shards/00000", "shards/00002"]
    assert len(rows_of(tmp_path / "a")) == 16
    before = contents(tmp_path / "a")
    run(tmp_path / "s", tmp_path / "a", repair=True)
    assert contents(tmp_path / "a") == before


def test_three_images(tmp_path):
    for index in range(3):
        storage.write(f"{tmp_path}/s/{index}.png", encoded(picture(index)))
    run(tmp_path / "s", tmp_path / "a", workers=None)
    assert load_manifest(str(tmp_path / "a")).num_images == 3
    assert load_manifest(str(tmp_path / "a")).class_names is None
    assert (tmp_path / "a" / "quarantine.jsonl").read_bytes() == b""
    assert not (tmp_path / "a" / "labels.npy").exists()


def test_channels_by_a_sample(tmp_path):
    for index in range(5):
        storage.write(f"{tmp_path}/s/{index}.png", encoded(picture(index).convert("L")))
    storage.write(f"{tmp_path}/s/0.png", b"text")
    run(tmp_path / "s", tmp_path / "grey", max_bad=0.5)
    assert load_manifest(str(tmp_path / "grey")).channels == 1
    run(tmp_path / "s", tmp_path / "colour", max_bad=0.5, channels=3)
    assert (rows_of(tmp_path / "grey") == rows_of(tmp_path / "colour")).all()
    storage.write(f"{tmp_path}/s/5.png", encoded(picture(5)))
    run(tmp_path / "s", tmp_path / "mixed", max_bad=0.5)
    assert load_manifest(str(tmp_path / "mixed")).channels == 3


def test_limit_is_spread_over_the_classes(folder, tmp_path):
    run(folder, tmp_path / "a", limit=12, max_bad=0.5)
    manifest = load_manifest(str(tmp_path / "a"))
    assert manifest.num_images + manifest.num_quarantined == 12
    assert max(manifest.class_histogram) <= 4
    run(folder, tmp_path / "b", limit=10_000)
    run(folder, tmp_path / "c")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")


def test_a_bomb_among_the_images(tmp_path):
    for index in range(12):
        storage.write(f"{tmp_path}/s/{index}.png", encoded(picture(index)))
    storage.write(f"{tmp_path}/s/bomb.png", encoded(Image.new("1", (10_000, 10_000))))
    started = time.monotonic()
    run(tmp_path / "s", tmp_path / "a", max_bad=0.2)
    assert time.monotonic() - started < 5
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()]
    assert reasons == ["10000x10000 pixels, more than 64 megapixels"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 30}, "--resolution 30: give a multiple of 4 from 8 to 1024"),
        ({"resolution": 2048}, "--resolution"),
        ({"resolution": 4}, "--resolution"),
        ({"channels": 2}, "--channels 2"),
        ({"limit": 0}, "--limit 0"),
        ({"workers": -1}, "--workers -1"),
        ({"max_bad": 1.5}, "--max-bad 1.5"),
        ({"block_mib": 0}, "--block-mib 0"),
    ],
)
def test_options_are_checked(options, said, folder, tmp_path):
    with pytest.raises(InputError, match=said):
        run(folder, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_a_full_disk_leaves_nothing_half_written(folder, tmp_path, monkeypatch):
    dest = tmp_path / "a"
    real, left = os.fsync, [9]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match="the disk is full; free some space and run the same command again"):
            run(folder, dest)
    assert not (dest / "manifest.json").exists()
    assert not [path for path in dest.rglob("*") if path.name.startswith(".tmp")]
    for shard in (dest / "shards").iterdir():
        assert np.load(shard).shape[1:] == (16, 16, 3)
    run(folder, dest)
    run(folder, tmp_path / "b")
    assert contents(dest) == contents(tmp_path / "b")


def test_a_file_stands_at_dest(folder, tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(StorageError):
        run(folder, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"


def test_progress_is_told(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.preparation.progress._EVERY_S", 0.0)
    run(folder, tmp_path / "a")
    err = capsys.readouterr().err
    assert "of 60 images, " in err
    assert " a core, 0:00:0" in err
    assert "60 images in " in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("gan_distributed.data.preparation.progress._EVERY_TERMINAL_S", 0.0)
    run(folder, tmp_path / "b")
    assert "\r\033[K" in capsys.readouterr().err


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "gan_distributed.prepare", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def test_the_command(tmp_path):
    done = command("builtin:fashion-mnist", tmp_path / "a", "--resolution", "16", "--limit", "200")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"prepared: {tmp_path}/a holds 200 images of 16x16x1 in 10 classes, 0 quarantined")
    assert load_manifest(str(tmp_path / "a")).class_histogram == (20,) * 10
    wrong = command("builtin:emoji", tmp_path / "b", "--resolution", "16")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: builtin:emoji: there is no such data set; there is fashion-mnist\n"


def test_help_starts_no_heavy_library():
    """Ray, torch and torchvision take seconds to import."""
    check = (
        "import sys, gan_distributed.prepare\n"
        "sys.exit(', '.join({'ray', 'torch', 'torchvision', 'gcsfs'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = command("--help")
    assert done.returncode == 0
    assert "--max-bad" in done.stdout


def test_nobody_at_the_address(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="RAY_ADDRESS=127.0.0.1:1: no Ray answers there"):
        run(folder, tmp_path / "a", workers=2)


def test_any_number_of_workers_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    """On a real Ray, which prepare starts and ends; also an error that a task meets."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run(folder, tmp_path / "none")
    with _ray_running(2, is_local=True) as (ray, num_cpus, _):
        assert num_cpus == 2
        run(folder, tmp_path / "two", workers=2)
        # Found running, so left running.
        assert ray.is_initialized()
        assert contents(tmp_path / "two") == contents(tmp_path / "none")
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "shards").write_text("a file where the folder should be")
        with pytest.raises(StorageError, match="cut/shards") as caught:
            run(folder, tmp_path / "cut", workers=2)
        assert "\n" not in str(caught.value)
    assert not ray.is_initialized()
