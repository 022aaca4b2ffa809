"""Wrote the folders beside this file, with mosaicml-streaming 0.13.0: `python write.py` in a place that has it."""

import numpy as np
from PIL import Image
from streaming import MDSWriter


def picture(index: int) -> np.ndarray:
    """uint8 [12, 10, 3] that follows from the index."""
    y, x, c = np.mgrid[:12, :10, :3]
    return ((y * 17 + x * (index + 3) + c * 60 + index * 29) % 256).astype(np.uint8)


def rows(kind):
    for index in range(7):
        pixels = picture(index)
        image = Image.fromarray(pixels)
        label = ("ant", "bee", "cow")[index % 3] if kind == "words" else index % 3 + 8
        yield {
            "image": image if kind in ("files", "pil", "zstd") else pixels,
            "label": label,
            "caption": f"number {index}",
        }


COLUMNS = {
    "files": {"image": "png", "label": "int", "caption": "str"},
    "zstd": {"image": "png", "label": "int32", "caption": "str"},
    "pil": {"image": "pil", "label": "uint8", "caption": "str"},
    "words": {"image": "ndarray", "label": "str", "caption": "str"},
    "array": {"image": "ndarray:uint8:12,10,3", "label": "int64", "caption": "str"},
    "shape": {"image": "ndarray:uint8", "label": "str_int", "caption": "str"},
}

if __name__ == "__main__":
    for kind, columns in COLUMNS.items():
        options = {"compression": "zstd:7"} if kind == "zstd" else {}
        with MDSWriter(out=kind, columns=columns, size_limit=2000, hashes=["sha1"], **options) as writer:
            for row in rows(kind):
                writer.write(row)
