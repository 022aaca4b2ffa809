"""Images that cannot be used, each with its reason."""

import struct
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import face, file_of, reason_of
from PIL import Image

from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.sources.entries import BadImageError


def png_header(width, height):
    """A PNG that declares its size and holds next to nothing."""

    def piece(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = piece(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + piece(b"IDAT", zlib.compress(b"\0")) + piece(b"IEND", b"")


def test_refused_by_the_header():
    assert reason_of(png_header(10_000, 10_000)) == "10000x10000 pixels, more than 64 megapixels"
    assert reason_of(png_header(60_000, 60_000)) == "more than 64 megapixels"
    assert reason_of(file_of(Image.new("L", (1, 1)))) == "1x1 pixels, smaller than 8 on a side"
    assert "smaller than 8" in reason_of(file_of(Image.new("L", (500, 7))))
    bomb = file_of(Image.new("1", (10_000, 10_000)))
    assert len(bomb) < 50_000
    assert "megapixels" in reason_of(bomb)


def test_refused_by_the_bytes():
    data = file_of(face())
    assert "damaged" in reason_of(data[: len(data) // 2])
    assert "truncated" in reason_of(file_of(face(256), "JPEG")[:-2000])
    assert reason_of(b"this is a text, named .jpg") == "not an image of a known format"
    assert reason_of(b"") == "not an image of a known format"
    # PostScript would start another program; it is not asked.
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image of a known format"


def test_reasons_are_the_same_each_time():
    data = file_of(face())
    for cut in range(0, len(data), 37):
        found = {outcome(data[:cut]) for _ in range(3)}
        assert len(found) == 1
        assert "0x" not in found.pop()


def outcome(data):
    try:
        return to_row(data, 8, 3, "center").tobytes().hex()
    except BadImageError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_never_escapes(data):
    """Whatever a few bytes are changed to: a row of the right shape, or a reason."""
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"]))
    broken = bytearray(file_of(face(32), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(broken))
