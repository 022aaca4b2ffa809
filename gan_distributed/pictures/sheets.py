"""Pictures on one canvas: a table with a name for each row and column."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_distributed.training.samples import Rows, encode_png

GAP = 2
_FONT_SIZE = 12
_WHITE = 255


def encode_table(
    cells: Rows, row_names: list[str], column_names: list[str], scale: int = 1, note: str | None = None
) -> bytes:
    """PNG of a table on white.

    cells: uint8 [rows, columns, H, W, C].   names: one each, or none.   scale: pixels a side that a pixel becomes.
    note: the file's description.
    """
    cells = enlarged(cells, scale)
    num_rows, num_columns, height, width, channels = cells.shape
    font = ImageFont.load_default(_FONT_SIZE)
    left = max((round(font.getlength(name)) for name in row_names), default=-GAP) + 2 * GAP if row_names else GAP
    top = _FONT_SIZE + 3 * GAP if column_names else GAP
    canvas = np.full(
        (top + num_rows * (height + GAP), left + num_columns * (width + GAP), channels), _WHITE, dtype=np.uint8
    )
    for row in range(num_rows):
        for column in range(num_columns):
            y, x = top + row * (height + GAP), left + column * (width + GAP)
            canvas[y : y + height, x : x + width] = cells[row, column]
    image = Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas)
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(row_names):
        draw.text((GAP, top + row * (height + GAP) + height // 2), name, fill=0, font=font, anchor="lm")
    for column, name in enumerate(column_names):
        middle = left + column * (width + GAP) + width // 2
        draw.text((middle, top // 2), name, fill=0, font=font, anchor="mm")
    return encode_png(np.asarray(image).reshape(canvas.shape), note)


def enlarged(images: Rows, scale: int) -> Rows:
    """Each pixel as a square; images: uint8 [..., H, W, C]."""
    return images if scale == 1 else images.repeat(scale, axis=-3).repeat(scale, axis=-2)
