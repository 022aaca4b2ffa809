"""Every kind of image becomes the same kind of row, or is refused with a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import face, file_of, reason_of
from PIL import Image

from gan_distributed.data.preparation.imaging import decode, is_grey, to_row


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG", "WEBP"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    row = to_row(file_of(face(), kind, **options), 64, 3, "center")
    assert row.shape == (64, 64, 3)
    assert row.dtype == np.uint8
    difference = np.abs(row.astype(int) - np.asarray(face()))
    assert difference.mean() < (3 if kind == "JPEG" else 1e-9)


def test_a_square_of_the_right_size_is_untouched():
    assert (to_row(file_of(face()), 64, 3, "center") == np.asarray(face())).all()
    grey = face(mode="L")
    assert (to_row(file_of(grey), 64, 1, "center")[..., 0] == np.asarray(grey)).all()


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
    assert set(np.unique(to_row(file_of(image), 32, 1, "center"))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_on_white(mode):
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 8))
    image.paste((0, 0, 0, 128), (0, 8, 8, 16))
    row = to_row(file_of(image.convert(mode)), 16, 3, "center")
    assert (row[:8] == 0).all()
    assert (row[8:, :8] == 127).all()
    assert (row[8:, 8:] == 255).all()


def test_transparent_palette_and_key_colour_lie_on_white():
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 16, 8))
    row = to_row(file_of(palette, transparency=0), 16, 3, "center")
    assert (row[:8] == 255).all()
    assert (row[8:] == [255, 0, 0]).all()
    as_gif = to_row(file_of(palette, "GIF", transparency=0), 16, 3, "center")
    assert (as_gif == row).all()
    grey = Image.new("L", (16, 16), 7)
    assert (to_row(file_of(grey, transparency=7), 16, 1, "center") == 255).all()


@pytest.mark.parametrize("make", ["png", "tiff", "tiff-big-endian", "pgm", "I;16B", "I"])
def test_16_bits_become_8(make):
    values = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    image = Image.fromarray(values)
    if make == "png":
        data = file_of(image)
    elif make == "tiff":
        data = file_of(image, "TIFF")
    elif make == "pgm":
        data = b"P5 32 32 65535\n" + values.astype(">u2").tobytes()
    elif make == "I":
        data = Image.fromarray(values.astype(np.int32))
    else:
        data = Image.frombytes("I;16B", (32, 32), values.astype(">u2").tobytes())
        data = file_of(data, "TIFF") if make.startswith("tiff") else data
    row = to_row(data, 32, 1, "center")[..., 0]
    assert row.min() == 0
    assert row.max() == 255
    assert np.abs(row - values / 65535 * 255).max() <= 0.51


def test_floats():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert to_row(file_of(Image.fromarray(values), "TIFF"), 8, 1, "center").max() == 255
    assert (to_row(Image.fromarray(values * 200), 8, 1, "center")[..., 0] == np.rint(values * 200)).all()
    values[3, 3] = np.nan
    assert reason_of(file_of(Image.fromarray(values), "TIFF")) == "values that are not finite"
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
        found = decode(file_of(stored, kind, exif=exif))
        assert found.size == (64, 48)
        assert (np.asarray(found) == np.asarray(upright)).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (to_row(data, 16, 3, "center") == [255, 0, 0]).all(), kind


def test_crop():
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("lime", (32, 0, 64, 32))
    assert (to_row(file_of(wide), 32, 3, "center") == [0, 255, 0]).all()
    squeezed = to_row(file_of(wide), 32, 3, "none")
    assert (squeezed[:, 0] == [255, 0, 0]).all()
    assert (squeezed[:, 16] == [0, 255, 0]).all()


def test_making_smaller_is_antialiased():
    checks = Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8))
    row = to_row(file_of(checks), 16, 1, "center").astype(int)
    assert np.abs(row - 127.5).max() <= 2


def test_grey():
    assert is_grey(file_of(face(mode="L")))
    assert is_grey(file_of(face(mode="L").convert("RGB")))
    assert is_grey(file_of(face(mode="L").convert("RGB"), "JPEG"))
    assert not is_grey(file_of(face()))
    assert not is_grey(file_of(face().convert("P")))


@given(
    st.integers(8, 70), st.integers(8, 70), st.sampled_from([8, 12, 64]), st.sampled_from([1, 3]),
    st.sampled_from(["center", "none"]), st.integers(0, 255),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_an_even_colour_stays_even(width, height, resolution, channels, crop, value):
    row = to_row(Image.new("L", (width, height), value), resolution, channels, crop)
    assert row.shape == (resolution, resolution, channels)
    assert (row == value).all()
