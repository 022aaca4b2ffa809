"""Spoiled archives and images: `prepare` reads them, or tells them one by one, and writes nothing elsewhere."""

import contextlib
import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections import Counter

import pytest
from fuzzing import changed_bytes, examples, told, tried, within_bounds
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, GanError


@pytest.fixture(scope="module", autouse=True)
def count():
    """Tell how many inputs were tried (pytest -s)."""
    before = Counter(tried)
    yield
    print(f"\n{told(before)}")


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
