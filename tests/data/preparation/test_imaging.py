"""Every kind of image becomes the same kind of row, or is refused with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from gan_distributed.data.preparation.imaging import decode, is_grey, to_row
from gan_distributed.data.sources.entries import BadImageError


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def face(side=64, mode="RGB"):
    """A yellow disc with two eyes, on blue; the left eye is larger."""
    image = Image.new("RGB", (side, side), (20, 40, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side // 8, side // 8, 7 * side // 8, 7 * side // 8), fill=(250, 220, 30))
    draw.ellipse((side // 4, side // 4, side // 2, side // 2), fill=(0, 0, 0))
    draw.ellipse((5 * side // 8, side // 4, 6 * side // 8, 3 * side // 8), fill=(200, 0, 0))
    return image.convert(mode)


def reason_of(data, **options):
    with pytest.raises(BadImageError) as caught:
        to_row(data, 16, 3, options.get("crop", "center"))
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    row = to_row(encoded(face(), kind, **options), 64, 3, "center")
    assert row.shape == (64, 64, 3)
    assert row.dtype == np.uint8
    difference = np.abs(row.astype(int) - np.asarray(face()))
    assert difference.mean() < (3 if kind == "JPEG" else 1e-9)


def test_a_square_of_the_right_size_is_untouched():
    assert (to_row(encoded(face()), 64, 3, "center") == np.asarray(face())).all()
    grey = face(mode="L")
    assert (to_row(encoded(grey), 64, 1, "center")[..., 0] == np.asarray(grey)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA", "PA", "YCbCr", "HSV"])
def test_modes_agree_with_rgb(mode):
    # Few colours, so that a palette of its own holds them all.
    image = (
        face().quantize(16)
        if mode == "P"
        else face().quantize(16).convert("PA")
        if mode == "PA"
        else face().convert(mode)
    )
    row = to_row(image, 64, 3, "center")
    expected = np.asarray(face().convert("L").convert("RGB") if mode in ("L", "LA") else face())
    tolerance = {"1": 256, "HSV": 4, "YCbCr": 4}.get(mode, 2)
    assert np.abs(row.astype(int) - expected).max() <= tolerance


def test_one_bit_is_black_and_white():
    image = Image.fromarray(np.indices((32, 32)).sum(0) % 2 == 0)
    assert image.mode == "1"
    assert set(np.unique(to_row(encoded(image), 32, 1, "center"))) == {0, 255}


def test_cmyk_jpeg():
    row = to_row(encoded(face(mode="CMYK"), "JPEG", quality=95), 64, 3, "center")
    assert np.abs(row.astype(int) - np.asarray(face())).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_on_white(mode):
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 8))
    image.paste((0, 0, 0, 128), (0, 8, 8, 16))
    row = to_row(encoded(image.convert(mode)), 16, 3, "center")
    assert (row[:8] == 0).all()
    assert (row[8:, :8] == 127).all()
    assert (row[8:, 8:] == 255).all()


def test_transparent_palette_and_key_colour_lie_on_white():
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 16, 8))
    row = to_row(encoded(palette, transparency=0), 16, 3, "center")
    assert (row[:8] == 255).all()
    assert (row[8:] == [255, 0, 0]).all()
    as_gif = to_row(encoded(palette, "GIF", transparency=0), 16, 3, "center")
    assert (as_gif == row).all()
    grey = Image.new("L", (16, 16), 7)
    assert (to_row(encoded(grey, transparency=7), 16, 1, "center") == 255).all()


@pytest.mark.parametrize("make", ["png", "tiff", "tiff-big-endian", "pgm", "I;16B", "I"])
def test_16_bits_become_8(make):
    values = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    image = Image.fromarray(values)
    if make == "png":
        data = encoded(image)
    elif make == "tiff":
        data = encoded(image, "TIFF")
    elif make == "pgm":
        data = b"P5 32 32 65535\n" + values.astype(">u2").tobytes()
    elif make == "I":
        data = Image.fromarray(values.astype(np.int32))
    else:
        data = Image.frombytes("I;16B", (32, 32), values.astype(">u2").tobytes())
        data = encoded(data, "TIFF") if make.startswith("tiff") else data
    row = to_row(data, 32, 1, "center")[..., 0]
    assert row.min() == 0
    assert row.max() == 255
    assert np.abs(row - values / 65535 * 255).max() <= 0.51


def test_floats():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert to_row(encoded(Image.fromarray(values), "TIFF"), 8, 1, "center").max() == 255
    assert (to_row(Image.fromarray(values * 200), 8, 1, "center")[..., 0] == np.rint(values * 200)).all()
    values[3, 3] = np.nan
    assert reason_of(encoded(Image.fromarray(values), "TIFF")) == "values that are not finite"
    assert "neither within 0..1" in reason_of(Image.fromarray(np.full((8, 8), 300, np.float32)))
    assert "not 16 bits" in reason_of(Image.fromarray(np.full((8, 8), 70000, np.int32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    upright = face().resize((64, 48))
    # What the camera stores is the inverse of what the viewer must do.
    stored = upright.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        found = decode(encoded(stored, kind, exif=exif))
        assert found.size == (64, 48)
        assert (np.asarray(found) == np.asarray(upright)).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_decoded_as_pillow_does(mode, subsampling, progressive):
    """Bit by bit, so that which library decodes can never be told from a data set."""
    texture = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    image = Image.blend(face(96).crop((0, 0, 83, 61)), Image.fromarray(texture), 0.3).convert(mode)
    data = encoded(image, "JPEG", quality=85, subsampling=subsampling, progressive=progressive)
    assert (np.asarray(decode(data)) == np.asarray(Image.open(io.BytesIO(data)))).all()
    assert (to_row(data, 32, 3, "center") == to_row(Image.open(io.BytesIO(data)), 32, 3, "center")).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((127, 300), (127, 300)), ((256, 300), (128, 150)), ((700, 513), (175, 129))]
)
def test_large_jpeg_is_decoded_smaller_but_never_below_the_side(size, expected):
    data = encoded(face(512).resize(size), "JPEG", quality=95)
    assert decode(data, 128).size == expected
    whole = decode(data)
    assert whole.size == size
    rows = [to_row(found, 64, 3, "center").astype(int) for found in (data, whole)]
    # The image is all hard edges; on photographs it is less.
    assert np.abs(rows[0] - rows[1]).mean() < 3
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(face(512).resize(size), "JPEG", quality=95, exif=exif), 128).size == expected[::-1]


def test_broken_exif_does_not_spoil_the_image():
    data = encoded(face(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert to_row(data, 32, 3, "center").shape == (32, 32, 3)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (to_row(data, 16, 3, "center") == [255, 0, 0]).all(), kind


def test_multi_picture_jpeg():
    data = encoded(face(), "MPO", save_all=True, append_images=[face()])
    assert to_row(data, 32, 3, "center").shape == (32, 32, 3)


def test_crop():
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("lime", (32, 0, 64, 32))
    assert (to_row(encoded(wide), 32, 3, "center") == [0, 255, 0]).all()
    squeezed = to_row(encoded(wide), 32, 3, "none")
    assert (squeezed[:, 0] == [255, 0, 0]).all()
    assert (squeezed[:, 16] == [0, 255, 0]).all()


def test_making_smaller_is_antialiased():
    checks = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8))
    row = to_row(encoded(checks), 16, 1, "center").astype(int)
    assert np.abs(row - 127.5).max() <= 2


def test_grey():
    assert is_grey(encoded(face(mode="L")))
    assert is_grey(encoded(face(mode="L").convert("RGB")))
    assert is_grey(encoded(face(mode="L").convert("RGB"), "JPEG"))
    assert not is_grey(encoded(face()))
    assert not is_grey(encoded(face().convert("P")))


def png_header(width, height):
    """A PNG that declares its size and holds next to nothing."""

    def piece(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = piece(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + piece(b"IDAT", zlib.compress(b"\0")) + piece(b"IEND", b"")


def test_refused_by_the_header():
    assert reason_of(png_header(10_000, 10_000)) == "10000x10000 pixels, more than 64 megapixels"
    assert reason_of(png_header(60_000, 60_000)) == "more than 64 megapixels"
    assert reason_of(encoded(Image.new("L", (1, 1)))) == "1x1 pixels, smaller than 8 on a side"
    assert "smaller than 8" in reason_of(encoded(Image.new("L", (500, 7))))
    bomb = encoded(Image.new("1", (10_000, 10_000)))
    assert len(bomb) < 50_000
    assert "megapixels" in reason_of(bomb)


def test_refused_by_the_bytes():
    data = encoded(face())
    assert "damaged" in reason_of(data[: len(data) // 2])
    assert "truncated" in reason_of(encoded(face(256), "JPEG")[:-2000])
    assert reason_of(b"this is a text, named .jpg") == "not an image of a known format"
    assert reason_of(b"") == "not an image of a known format"
    # PostScript would start another program; it is not asked.
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image of a known format"


def test_reasons_are_the_same_each_time():
    data = encoded(face())
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
    broken = bytearray(encoded(face(32), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(broken))


@given(
    st.integers(8, 70), st.integers(8, 70), st.sampled_from([8, 12, 64]), st.sampled_from([1, 3]),
    st.sampled_from(["center", "none"]), st.integers(0, 255),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_an_even_colour_stays_even(width, height, resolution, channels, crop, value):
    row = to_row(Image.new("L", (width, height), value), resolution, channels, crop)
    assert row.shape == (resolution, resolution, channels)
    assert (row == value).all()
