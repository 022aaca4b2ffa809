"""Small pictures for tests, as pixels and as files, and what `prepare` must make of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gan_distributed.data.manifest import Manifest, load_manifest
from gan_distributed.data.preparation.imaging import decode, to_row
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.opening import open_source
from gan_distributed.prepare import prepare

SIDE = 16


def pixels(index: int) -> np.ndarray:
    """uint8 [16, 16, 3]."""
    return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as a file of a format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encoded(index: int, kind: str = "PNG") -> bytes:
    """The picture of an index as a file."""
    return file_of(Image.fromarray(pixels(index)), kind, **({"lossless": True} if kind == "WEBP" else {}))


def face(side: int = 64, mode: str = "RGB") -> Image.Image:
    """A yellow disc with two eyes, on blue; the left eye is larger."""
    image = Image.new("RGB", (side, side), (20, 40, 160))
    draw = ImageDraw.Draw(image)
    draw.ellipse((side // 8, side // 8, 7 * side // 8, 7 * side // 8), fill=(250, 220, 30))
    draw.ellipse((side // 4, side // 4, side // 2, side // 2), fill=(0, 0, 0))
    draw.ellipse((5 * side // 8, side // 4, 6 * side // 8, 3 * side // 8), fill=(200, 0, 0))
    return image.convert(mode)


def reason_of(image: bytes | Image.Image) -> str:
    """Why an image is refused."""
    with pytest.raises(BadImageError) as caught:
        to_row(image, 16, 3, "center")
    return str(caught.value)


def prepared(source: object, dest: Path, **options: object) -> tuple[np.ndarray, list[str] | None, Manifest]:
    """Rows as uint8 [N, H, W, C] and the class name of each, as `prepare` writes them at the pictures' own size."""
    prepare(str(source), str(dest), **({"resolution": SIDE, "channels": 3, "workers": 0, "max_bad": 1.0} | options))
    manifest = load_manifest(str(dest))
    rows = np.concatenate([np.load(dest / shard.path) for shard in manifest.shards])
    if manifest.labels is None:
        return rows, None, manifest
    return rows, [manifest.class_names[label] for label in np.load(dest / manifest.labels.path)], manifest


def read(source: object) -> list[tuple[str, str | None, np.ndarray | str]]:
    """(name, class, pixels or the reason why there are none) of each image of a source."""
    found = []
    with open_source(str(source)) as opened:
        names = opened.class_names
        for index, entry in enumerate(opened.entries):
            try:
                image = np.asarray(decode(opened.open_image(index)).convert("RGB"))
            except BadImageError as error:
                image = str(error)
            found.append((entry.name, None if names is None else names[entry.label], image))
    return found
