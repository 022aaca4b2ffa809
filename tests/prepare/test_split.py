"""`prepare --split`: a share of the images by the hash of their names."""

import pytest
from preparing import contents, names_of, run, write_images

from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import InputError

pytestmark = pytest.mark.usefixtures("small_and_fast")


def test_split(tmp_path):
    images = {f"{'ab'[index % 2]}/{index:03d}.png": index for index in range(60)}
    source = write_images(tmp_path / "s", images)
    run(source, tmp_path / "d", split="test=0.3")
    train, test = names_of(tmp_path / "d" / "train"), names_of(tmp_path / "d" / "test")
    assert sorted(train + test) == sorted(images)
    assert 8 <= len(test) <= 28
    for part in ("train", "test"):
        assert load_manifest(str(tmp_path / "d" / part)).class_names == ("a", "b")
    # More images, and another share, leave each name where it was.
    more = write_images(tmp_path / "more", images | {f"a/{index}.png": index for index in range(100, 130)})
    run(more, tmp_path / "e", split="val=0.5")
    assert set(test) <= set(names_of(tmp_path / "e" / "val"))
    before = contents(tmp_path / "d")
    run(source, tmp_path / "d", split="test=0.3")
    assert contents(tmp_path / "d") == before


@pytest.mark.parametrize("split", ["test", "test=1.5", "train=0.1", "../x=0.1", "test=0", "test=.", "=0.1"])
def test_split_is_checked(split, tmp_path):
    with pytest.raises(InputError, match="--split"):
        run(write_images(tmp_path / "s", {"a.png": 1, "b.png": 2}), tmp_path / "d", split=split)
