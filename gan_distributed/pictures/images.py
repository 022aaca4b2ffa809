"""An array of images that a notebook draws."""

from typing import Any

import numpy as np

from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.samples import Rows, encode_grid, encode_png


class Images(np.ndarray[Any, np.dtype[np.uint8]]):
    """uint8 [N, H, W, C], or a part of such an array: a NumPy array in all, drawn as a picture at a notebook's prompt.

    What is no image any more, such as a mean, a channel or a float, shows as NumPy shows it.
    """

    # Of the generator: a grid has a class a column.
    num_classes = 0

    def __array_finalize__(self, source: Any) -> None:
        """Parts and copies keep it."""
        self.num_classes = getattr(source, "num_classes", 0)

    def _repr_png_(self) -> bytes | None:
        """A grid, or the one image; None for what is no image."""
        rows = np.asarray(self)
        if rows.dtype != np.uint8 or not rows.size or rows.shape[-1] not in (1, 3):
            return None
        if rows.ndim == 4:
            return encode_grid(rows, self.num_classes)
        return encode_png(rows) if rows.ndim == 3 else None


def stacked(rows: list[Rows], images: ImageSpec, num_classes: int) -> Images:
    """Images of a generator as one array; none at all is one of length 0."""
    shape = (0, images.resolution, images.resolution, images.channels)
    array = (np.stack(rows) if rows else np.zeros(shape, np.uint8)).view(Images)
    array.num_classes = num_classes
    return array
