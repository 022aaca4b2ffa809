"""Bad input of every kind is read, or one of errors.py's errors tells it in a line; no traceback, no hang, no flood.

How many inputs were tried is counted and printed (pytest -s). FUZZ_FACTOR=20 tries twenty times as many.
"""

import contextlib
import gzip
import io
import json
import os
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from collections import Counter

import pytest
import yaml
from datasets import write_dataset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pictures import encoded
from PIL import Image
from streaming import read

from gan_distributed.config import load_config, parse_config, parse_overrides, to_yaml
from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import CheckpointError, ConfigError, DataError, GanError, ResumeError
from gan_distributed.training.checkpoint import (
    checkpoints_newest_first,
    collect_orphans,
    commit_checkpoint,
    newest_checkpoint,
    open_checkpoint,
)
from gan_distributed.training.run_folder import RunFolder

FACTOR = float(os.environ.get("FUZZ_FACTOR", "1"))
LONGEST_S = 20.0
# The largest image that is read has 64 megapixels; decoding and turning it takes some copies of it.
MOST_BYTES = 1 << 30
tried: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def count():
    """Tell how many inputs were tried, by their kind."""
    yield
    print(f"\nbad inputs tried: {tried.total()}: {', '.join(f'{kind} {num}' for kind, num in sorted(tried.items()))}")


def examples(num):
    # A failing input is printed as it was drawn; to make it smaller would take minutes.
    return settings(max_examples=max(2, round(num * FACTOR)), deadline=None, phases=[Phase.explicit, Phase.generate])


@contextlib.contextmanager
def within_bounds(kind, *errors):
    """Nothing but these errors, each of one line, within bounds of time and memory."""
    tried[kind] += 1
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    except errors as error:
        assert isinstance(error, GanError)
        assert str(error)
        # Mistakes of a recipe come a line each.
        assert isinstance(error, ConfigError) or "\n" not in str(error)
    assert time.monotonic() - started < LONGEST_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../../etc/passwd", "/etc/passwd", "", ".", "..", "a\n/b", "\0", "1e400", "nan", "ü" * 300])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def changed_tree(data, tree):
    """The tree with one to three of its parts dropped, replaced, or under another key."""
    tree = json.loads(json.dumps(tree))
    for _ in range(data.draw(st.integers(1, 3))):
        place, keys = tree, []
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        if not keys or not isinstance(place, dict | list) or not place:
            continue
        how = data.draw(st.sampled_from(["drop", "replace", "replace", "number", "rename"]))
        value = place.pop(key)
        if how in ("replace", "number"):
            value = data.draw(anything if how == "replace" else st.integers(-3, 10**12))
            place[key] = value if isinstance(place, dict) else None
            if isinstance(place, list):
                place[key] = value
        elif how == "rename" and isinstance(place, dict):
            place[data.draw(st.text(max_size=6))] = value
    return tree


def changed_bytes(data, whole, most=6):
    """Some bytes changed, some cut off or doubled."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, most))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from([0, 255])
        )
    how = data.draw(st.sampled_from(["keep", "keep", "cut", "double", "insert"]))
    at = data.draw(st.integers(0, len(content)))
    if how == "cut":
        return bytes(content[:at])
    if how == "double":
        return bytes(content[:at] + content[at // 2 :])
    return bytes(content[:at] + (data.draw(st.binary(max_size=40)) if how == "insert" else b"") + content[at:])


# Recipes


@given(st.data())
@examples(250)
def test_recipes(data):
    tree = yaml.safe_load(to_yaml(load_config(None)))
    text = yaml.safe_dump(changed_tree(data, tree), allow_unicode=True)
    with within_bounds("recipe", ConfigError):
        parse_config(text, "recipe.yaml")


@given(st.data())
@examples(250)
def test_recipes_of_any_text(data):
    text = data.draw(
        st.text(max_size=60)
        | st.text("{}[]:,-&*!|>'\"#%@`? \n\tab01", max_size=60)
        | st.just(to_yaml(load_config(None))).map(lambda whole: whole[: len(whole) // 3])
    )
    if data.draw(st.booleans()):
        text = changed_bytes(data, text.encode("utf-8", "surrogatepass") or b"a").decode("utf-8", "replace")
    with within_bounds("recipe", ConfigError):
        parse_config(text, "recipe.yaml")


@given(st.text(max_size=20), scalars.map(str) | st.text("{}[]:,-&*!|>'\" ab01.", max_size=30))
@examples(150)
def test_overrides(key, value):
    with within_bounds("override", ConfigError):
        load_config(None, parse_overrides([f"{key}={value}"]))


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 50_000,
        "{a: " * 5_000,
        "seed: " + "9" * 5_000,
        "&a [*a]",
        "training: &t\n  batch_size: *t",
        "? [1, 2]\n: 3",
        "? {a: b}\n: 3",
        "<<: 3",
        "<<: [*a]",
        "seed: 2001-99-99",
        "!!binary x: 1",
        "seed: !!int 0b",
        "seed: 1:99:99",
        "{1: 2, null: 3}",
        "\ufeff- 1",
        "seed: !!timestamp 2000-01-01 99:00:00",
    ],
    ids=range(17),
)
def test_recipes_that_aim_at_the_parser(text):
    with within_bounds("recipe", ConfigError), pytest.raises(ConfigError):
        parse_config(text, "recipe.yaml")
    with within_bounds("override", ConfigError):
        load_config(None, parse_overrides([f"training.batch_size={text}"]))


# Manifest and shards


def manifest_of(tree):
    storage.write("memory://fuzzed/set/manifest.json", json.dumps(tree).encode())
    return load_manifest("memory://fuzzed/set")


@given(st.data())
@examples(200)
def test_manifests(data):
    whole = write_dataset("memory://fuzzed/set", num=40, shard_rows=16, block_rows=8)
    tree = changed_tree(data, json.loads(whole.to_json()))
    with within_bounds("manifest", DataError):
        found = manifest_of(tree)
        # What is accepted can be read, or is told.
        if found != whole:
            with contextlib.suppress(GanError):
                read("memory://fuzzed/set", num=1)


@given(st.data())
@examples(150)
def test_manifests_of_any_bytes(data):
    whole = write_dataset("memory://fuzzed/set", num=40, shard_rows=16, block_rows=8).to_json()
    storage.write("memory://fuzzed/set/manifest.json", changed_bytes(data, whole))
    with within_bounds("manifest", DataError):
        load_manifest("memory://fuzzed/set")


@pytest.mark.parametrize("name", ["shards/00001.npy", "labels.npy", "blocks.crc32c"])
@pytest.mark.parametrize("place", ["path", "memory"])
def test_shards_labels_and_checksums(tmp_path, name, place):
    url = str(tmp_path / "set") if place == "path" else "memory://fuzzed/shards"
    write_dataset(url)
    whole = storage.read_bytes(f"{url}/{name}")

    @given(st.data())
    @examples(15)
    def damaged(data):
        content = changed_bytes(data, whole)
        storage.write(f"{url}/{name}", content)
        with within_bounds("shard", GanError):
            read(url)
            # The header of a mapped or fetched shard is not what is read.
            assert content[128:] == whole[128:]

    damaged()


# Checkpoints


def committed(run):
    storage.delete_folder(run.url)
    for seen_images, state in ((1000, b"one"), (2000, b"two")):
        contents = {
            "state": ("state-{attempt}.pt", state),
            "generator": ("generator-{attempt}.safetensors", b"weights"),
        }
        commit_checkpoint(run, seen_images, 1, contents, lambda: None)
    return storage.read_bytes(f"{run.checkpoint_url(2000)}/COMMIT.json")


def resume(content):
    """What a resume does with a commit of these bytes."""
    run = RunFolder("memory://fuzzed/run")
    committed(run)
    storage.write("memory://fuzzed/secret", b"two")
    storage.write(f"{run.checkpoint_url(2000)}/COMMIT.json", content)
    with within_bounds("COMMIT.json", CheckpointError, ResumeError):
        open_checkpoint(run.checkpoint_url(2000)).read("state")
    with within_bounds("COMMIT.json", ResumeError):
        checkpoint, state = newest_checkpoint(run, "state")
        assert (checkpoint.seen_images, state) in ((2000, b"two"), (1000, b"one"))
        assert checkpoint.url == run.checkpoint_url(checkpoint.seen_images)
        collect_orphans(run, checkpoint.seen_images)
        # The one that was chosen is there, whole.
        assert newest_checkpoint(run, "state")[1] == state
        assert checkpoint.url in list(checkpoints_newest_first(run))
    assert storage.read_bytes("memory://fuzzed/secret") == b"two"


@given(st.data())
@examples(150)
def test_commits(data):
    resume(json.dumps(changed_tree(data, json.loads(committed(RunFolder("memory://fuzzed/whole"))))).encode())


@given(st.data())
@examples(100)
def test_commits_of_any_bytes(data):
    whole = committed(RunFolder("memory://fuzzed/whole"))
    resume(changed_bytes(data, whole))


# What `prepare` reads


def archive_of(kind):
    """The bytes of an archive of four small images of every format that is read, and a file of labels."""
    files = {f"{index}.{suffix}": encoded(index, name) for index, (suffix, name) in enumerate(
        {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "webp": "WEBP"}.items()
    )}  # fmt: skip
    files["labels.json"] = json.dumps({name: int(name[0]) % 2 for name in files}).encode()
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    else:
        with tarfile.open(fileobj=out, mode="w" if kind == "tar" else "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read_all(place):
    """Every image of a source, as `prepare` reads it; bad ones are told one by one."""
    with open_source(place) as source:
        assert len(source.entries) < 100
        for index in range(len(source.entries)):
            with contextlib.suppress(BadImageError):
                assert to_row(source.open_image(index), 16, 3, "center").shape == (16, 16, 3)


@pytest.mark.parametrize(("kind", "num"), [("zip", 250), ("tar", 150), ("tar.gz", 60)])
def test_archives(tmp_path, kind, num):
    whole, place = archive_of(kind), tmp_path / "deep" / f"images.{kind}"
    place.parent.mkdir()

    @given(st.data())
    @examples(num)
    def damaged(data):
        place.write_bytes(changed_bytes(data, whole))
        before = set(tmp_path.rglob("*"))
        with within_bounds(kind, GanError):
            read_all(str(place))
        assert set(tmp_path.rglob("*")) == before

    damaged()


@given(st.data())
@examples(200)
def test_headers_of_zips_that_lie(data):
    """Sizes, offsets, counts, methods and flags of the directory, each of any value."""
    content = bytearray(archive_of("zip"))
    start = content.find(b"PK\x01\x02") if data.draw(st.booleans()) else content.rfind(b"PK\x05\x06")
    for _ in range(data.draw(st.integers(1, 3))):
        at = start + data.draw(st.integers(4, 44 if content[start + 2] == 1 else 20))
        value = data.draw(st.sampled_from([0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 16]) | st.integers(0, 2**32 - 1))
        struct.pack_into("<I", content, min(at, len(content) - 4), value)
    storage.write("memory://fuzzed/lies.zip", bytes(content))
    with within_bounds("zip", GanError):
        read_all("memory://fuzzed/lies.zip")


# A profile or a text that unpacks to much more than it is, and pixels of any number.
BOMB_OF_A_CHUNK = b"a\0\0" + zlib.compress(bytes(30_000_000))
ROWS = [zlib.compress(bytes(num)) for num in (0, 10, 3_000, 2_000_000)]


def png_of(chunks):
    """A PNG of chunks (kind, content), each with its right checksum."""
    checked = ((kind + body, struct.pack(">I", len(body))) for kind, body in chunks)
    packed = b"".join(size + content + struct.pack(">I", zlib.crc32(content)) for content, size in checked)
    return b"\x89PNG\r\n\x1a\n" + packed


@given(st.data())
@examples(400)
def test_pngs_whose_checksums_are_right(data):
    """What a decoder reads behind the checksums: sizes, depths, palettes, text and animation of any value."""
    size = st.sampled_from([0, 1, 8, 9, 16, 8_000, 60_000, 2**31 - 1, 2**32 - 1])
    head = struct.pack(
        ">IIBBBBB", data.draw(size), data.draw(size), data.draw(st.sampled_from([0, 1, 2, 4, 8, 16, 99])),
        data.draw(st.sampled_from([0, 2, 3, 4, 6, 7])), data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1)),
        data.draw(st.integers(0, 2)),
    )  # fmt: skip
    rows = data.draw(st.sampled_from(ROWS))
    kinds = st.sampled_from([b"PLTE", b"tRNS", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"gAMA", b"acTL", b"fcTL"])
    more = data.draw(st.lists(st.tuples(kinds, st.binary(max_size=60) | st.just(BOMB_OF_A_CHUNK)), max_size=4))
    content = png_of([(b"IHDR", head), *more, (b"IDAT", rows), *more[:1], (b"IEND", b"")])
    with within_bounds("png", BadImageError):
        assert to_row(content, 16, 3, "center").shape == (16, 16, 3)


@given(st.data())
@examples(300)
def test_images_of_any_bytes(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]))
    content = data.draw(st.binary(max_size=200)) if data.draw(st.integers(0, 5)) == 0 else encoded(3, kind)
    with within_bounds("image", BadImageError):
        assert to_row(changed_bytes(data, content or b"x"), 16, 3, "center").shape == (16, 16, 3)


def test_a_folder_of_bombs_is_refused_one_by_one(tmp_path):
    """50 files that would take 9 GB of memory: each is refused by its header."""
    file = io.BytesIO()
    Image.new("1", (8_001, 8_000)).save(file, "PNG")
    for index in range(49):
        (tmp_path / f"{index:02d}.png").write_bytes(file.getvalue())
    (tmp_path / "good.png").write_bytes(encoded(1))
    with within_bounds("png", GanError), open_source(str(tmp_path)) as source:
        reasons = Counter()
        for index in range(len(source.entries)):
            try:
                to_row(source.open_image(index), 16, 3, "center")
            except BadImageError as error:
                reasons[str(error)] += 1
    assert reasons == {"8001x8000 pixels, more than 64 megapixels": 49}


def test_an_archive_of_very_many_members_is_listed_in_bounds(tmp_path):
    """The listing lies on the disk, whatever an archive says of its number."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for index in range(20_000):
            archive.writestr(zipfile.ZipInfo(f"{index}.png"), b"")
    (tmp_path / "many.zip").write_bytes(content.getvalue())
    with within_bounds("zip", GanError), open_source(str(tmp_path / "many.zip")) as source:
        assert len(source.entries) == 20_000
        with pytest.raises(BadImageError):
            to_row(source.open_image(0), 16, 3, "center")


def test_a_compressed_archive_that_unpacks_to_far_more_than_it_is(tmp_path):
    """What is passed over is unpacked all the same: 300 MB of zeros, and a member that says so and is not there."""
    for there in (300 << 20, 0):
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
            info = tarfile.TarInfo("bomb.bin")
            info.size = 300 << 20
            packed.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(there >> 20):
                packed.write(bytes(1 << 20))
        (tmp_path / "x.tar.gz").write_bytes(out.getvalue())
        said = "unpacks to more than 200 times" if there else "damaged or incomplete"
        with within_bounds("tar.gz", GanError), pytest.raises(DataError, match=said):
            read_all(str(tmp_path / "x.tar.gz"))
