"""The pictures that every contestant is given: crops of real photographs and upsampled garments, the same each time.

    python -m stream_peers.pictures BUILTIN_FOLDER DEST PIXELS NUM

Photographs come with scikit-learn and scikit-image, in whose Python this runs; garments are the package's built-in
Fashion-MNIST. Writes DEST/images.npy (uint8 [N, H, W, 3]) and DEST/labels.npy (int64 [N], the photograph or 100 + the
garment's class).
"""

import gzip
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

_SEED = 17
# Every fourth picture is a garment.
_GARMENT_EVERY = 4
_NOT_PHOTOGRAPHS = ("color.png", "logo.png", "phantom.png")


def main() -> None:
    builtin, dest, pixels, num = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    photos = _photos()
    if not photos:
        raise SystemExit("no photographs: pip install scikit-learn scikit-image into this Python")
    garments, classes = _garments(builtin)
    draw = np.random.default_rng(_SEED)
    images = np.lib.format.open_memmap(dest / "images.npy", "w+", np.uint8, (num, pixels, pixels, 3))
    labels = np.empty(num, np.int64)
    for index in range(num):
        if index % _GARMENT_EVERY == 0:
            which = int(draw.integers(len(garments)))
            images[index], labels[index] = _tinted(garments[which], pixels, draw), 100 + classes[which]
        else:
            which = int(draw.integers(len(photos)))
            images[index], labels[index] = _crop(photos[which], pixels, draw), which
    images.flush()
    np.save(dest / "labels.npy", labels)


def _photos() -> list[Image.Image]:
    """Colour photographs of at least 256 pixels a side that installed packages ship."""
    found = []
    for package, folder in (("sklearn", "datasets/images"), ("skimage", "data")):
        spec = find_spec(package)
        for place in spec.submodule_search_locations or () if spec else ():
            for path in sorted((Path(place) / folder).glob("*")):
                if path.suffix in (".jpg", ".png") and path.name not in _NOT_PHOTOGRAPHS:
                    image = Image.open(path)
                    if image.mode == "RGB" and min(image.size) >= 256:
                        found.append(image.copy())
    return found


def _garments(builtin: Path) -> tuple[np.ndarray, np.ndarray]:
    pixels = gzip.decompress((builtin / "t10k-images-idx3-ubyte.gz").read_bytes())
    classes = gzip.decompress((builtin / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(classes, np.uint8, offset=8)


def _crop(photo: Image.Image, pixels: int, draw: np.random.Generator) -> np.ndarray:
    side = max(pixels, int(draw.uniform(0.15, 0.6) * min(photo.size)))
    left, top = (int(draw.integers(0, length - side + 1)) for length in photo.size)
    box = (left, top, left + side, top + side)
    return np.asarray(photo.resize((pixels, pixels), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0))


def _tinted(garment: np.ndarray, pixels: int, draw: np.random.Generator) -> np.ndarray:
    grey = np.asarray(Image.fromarray(garment).resize((pixels, pixels), Image.Resampling.BICUBIC), np.float32)
    tint, ground = draw.uniform(0.5, 1.0, 3), draw.uniform(0, 40, 3)
    return np.clip(grey[..., None] * tint + ground * (1 - grey[..., None] / 255), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
