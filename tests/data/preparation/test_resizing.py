"""Matrix multiplication makes the bytes that Pillow makes, whatever the image and the order in which a library adds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_distributed.data.preparation import resizing
from gan_distributed.data.preparation.resizing import resize


def drawn(height, width, channels, look):
    """noise; black and white dots; chequers, whose sums lie on halves; stripes."""
    draw = np.random.default_rng(height * 1000 + width)
    shape = (height, width, channels) if channels > 1 else (height, width)
    if look == "noise":
        return draw.integers(0, 256, shape, np.uint8)
    if look == "dots":
        return draw.integers(0, 2, shape, np.uint8) * np.uint8(255)
    flat = np.indices((height, width)).sum(0) % 2 if look == "chequers" else np.indices((height, width))[1] // 3 % 2
    return (
        np.stack([flat * (255 - 100 * channel) for channel in range(channels)], axis=2).astype(np.uint8).reshape(shape)
    )


def by_pillow(pixels, side):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


@pytest.fixture
def always_multiplied(monkeypatch):
    monkeypatch.setattr(resizing, "_is_worth_it", lambda *_: True)


SIZES = st.tuples(st.floats(1, 6), st.floats(1, 6))


@pytest.mark.usefixtures("always_multiplied")
@given(
    st.sampled_from([8, 12, 28, 32, 64]), SIZES, st.sampled_from([1, 3]),
    st.sampled_from(["noise", "dots", "chequers", "stripes"]),
)  # fmt: skip
@example(64, (6.3, 6.25), 3, "noise")
@example(64, (2.0, 2.0), 3, "chequers")
@example(128, (2.5, 3.0), 3, "noise")
@settings(max_examples=120, deadline=None)
def test_the_same_as_pillow(side, ratios, channels, look):
    height, width = (int(side * ratio) for ratio in ratios)
    # Pillow filters along the height first where that shrinks more than twice as much.
    assume(height - side <= 2 * (width - side))
    pixels = drawn(height, width, channels, look)
    assert (resize(pixels, side) == by_pillow(pixels, side)).all()


@pytest.mark.parametrize("shape", [(178, 178, 3), (500, 130), (90, 90), (64, 64, 3), (40, 300, 3), (300, 700, 3)])
def test_whoever_does_it(shape):
    """Arrays or Pillow's images, multiplied or not."""
    pixels = drawn(*shape[:2], shape[2] if len(shape) == 3 else 1, "noise")
    for found in (resize(pixels, 64), resize(Image.fromarray(pixels), 64)):
        assert (found == by_pillow(pixels, 64)).all()


@pytest.mark.parametrize("look", ["noise", "chequers"])
@pytest.mark.parametrize(
    ("error", "certain", "is_same"),
    # Less than float32 may err; far more, with every sum made again, and with none.
    [(2.0**-22, None, True), (-(2.0**-22), None, True), (2.0**-9, 0.0, True), (2.0**-9, 0.5, False)],
)
def test_sums_that_are_off_are_made_again(look, error, certain, is_same, monkeypatch):
    pixels = drawn(128, 128, 3, look)
    exact = resizing._width(128, 64, 3)
    bands = [band._replace(weights=band.weights * np.float32(1 + error)) for band in exact.bands]
    filtering = exact._replace(bands=bands, certain=exact.certain if certain is None else np.float32(certain))
    monkeypatch.setattr(resizing, "_width", lambda *_: filtering)
    assert (resize(pixels, 64) == by_pillow(pixels, 64)).all() == is_same


def test_in_many_threads():
    images = [drawn(140 + index, 140 + index, 3, "noise") for index in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pixels: resize(pixels, 64), images))
    for pixels, small in zip(images, found, strict=True):
        assert (small == by_pillow(pixels, 64)).all()
