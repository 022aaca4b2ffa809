"""What `prepare` does with images that cannot be used."""

import json
import time

import pytest
from pictures import file_of
from PIL import Image
from preparing import contents, picture, rows_of, run

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import DataError

pytestmark = pytest.mark.usefixtures("small_and_fast")


WORDS = {"text.jpg": b"this is a text, named .jpg", "empty.png": b""}


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
        storage.write(f"{tmp_path}/s/{index:02d}.png", file_of(picture(index)) if good else b"text")
    run(tmp_path / "s", tmp_path / "a", max_bad=0.5)
    manifest = load_manifest(str(tmp_path / "a"))
    assert [shard.path[:12] for shard in manifest.shards] == ["shards/00000", "shards/00002"]
    assert len(rows_of(tmp_path / "a")) == 16
    before = contents(tmp_path / "a")
    run(tmp_path / "s", tmp_path / "a", repair=True)
    assert contents(tmp_path / "a") == before


def test_a_bomb_among_the_images(tmp_path):
    for index in range(12):
        storage.write(f"{tmp_path}/s/{index}.png", file_of(picture(index)))
    storage.write(f"{tmp_path}/s/bomb.png", file_of(Image.new("1", (10_000, 10_000))))
    started = time.monotonic()
    run(tmp_path / "s", tmp_path / "a", max_bad=0.2)
    assert time.monotonic() - started < 15
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()]
    assert reasons == ["10000x10000 pixels, more than 64 megapixels"]
