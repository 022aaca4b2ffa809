"""JPEG files: the same pixels as Pillow gives, made smaller on the way where they are large."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import face, file_of
from PIL import Image

from gan_distributed.data.preparation import imaging
from gan_distributed.data.preparation.imaging import decode, to_row
from gan_distributed.data.preparation.jpeg import plain_pixels
from gan_distributed.data.sources.entries import BadImageError


def test_cmyk_jpeg():
    row = to_row(file_of(face(mode="CMYK"), "JPEG", quality=95), 64, 3, "center")
    assert np.abs(row.astype(int) - np.asarray(face())).mean() < 6


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_decoded_as_pillow_does(mode, subsampling, progressive):
    """Bit by bit, so that which library decodes can never be told from a data set."""
    texture = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    image = Image.blend(face(96).crop((0, 0, 83, 61)), Image.fromarray(texture), 0.3).convert(mode)
    data = file_of(image, "JPEG", quality=85, subsampling=subsampling, progressive=progressive)
    assert (np.asarray(decode(data)) == np.asarray(Image.open(io.BytesIO(data)))).all()
    assert (to_row(data, 32, 3, "center") == to_row(Image.open(io.BytesIO(data)), 32, 3, "center")).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((127, 300), (127, 300)), ((256, 300), (128, 150)), ((700, 513), (175, 129))]
)
def test_large_jpeg_is_decoded_smaller_but_never_below_the_side(size, expected):
    data = file_of(face(512).resize(size), "JPEG", quality=95)
    assert decode(data, 128).size == expected
    whole = decode(data)
    assert whole.size == size
    rows = [to_row(found, 64, 3, "center").astype(int) for found in (data, whole)]
    # The image is all hard edges; on photographs it is less.
    assert np.abs(rows[0] - rows[1]).mean() < 3
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(file_of(face(512).resize(size), "JPEG", quality=95, exif=exif), 128).size == expected[::-1]


def test_broken_exif_does_not_spoil_the_image():
    data = file_of(face(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert to_row(data, 32, 3, "center").shape == (32, 32, 3)


def test_multi_picture_jpeg():
    data = file_of(face(), "MPO", save_all=True, append_images=[face()])
    assert to_row(data, 32, 3, "center").shape == (32, 32, 3)


def test_orientation_in_xmp():
    words = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded_with_xmp(face(512).resize((256, 300)), words)
    assert decode(data, 128).size == (150, 128)
    assert decode(encoded_with_xmp(face(512).resize((256, 300)), b"<x/>"), 128).size == (128, 150)


def encoded_with_xmp(image, words):
    data, segment = file_of(image, "JPEG"), b"http://ns.adobe.com/xap/1.0/\0" + words
    return data[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]


KINDS_OF_JPEG = [
    {}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"icc_profile": bytes(3000)},
    {"comment": b"\xff\xda"},
]  # fmt: skip


def outcome(data):
    try:
        return to_row(data, 16, 3, "center").tobytes()
    except BadImageError as error:
        return str(error)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(KINDS_OF_JPEG), st.sampled_from(["L", "RGB", "CMYK"]), st.data())
def test_the_short_way_judges_as_pillow_does(options, mode, data):
    """Whether a few bytes are changed, mostly of the header, or the end is cut off: the same row or the same reason."""
    broken = bytearray(file_of(face(48, mode), "JPEG", **options))
    for _ in range(data.draw(st.integers(0, 3))):
        last = data.draw(st.sampled_from([200, 700, len(broken)]))
        broken[data.draw(st.integers(0, min(last, len(broken)) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(broken[: data.draw(st.sampled_from([len(broken), len(broken) - 5, 300, 30]))])
    short = outcome(broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imaging, "plain_pixels", lambda *_: None)
        assert outcome(broken) == short


def test_the_short_way_is_taken():
    for mode in ("L", "RGB"):
        for options in KINDS_OF_JPEG:
            assert plain_pixels(file_of(face(64, mode), "JPEG", **options), None) is not None
