"""Sample grids: the averaged generator at fixed latents, as PNG bytes. Draws nothing that training draws."""

import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from gan_distributed.models.networks import rows_from_images
from gan_distributed.randomness import Draws, key_of

_BATCH = 64
Rows = NDArray[np.uint8]


@torch.inference_mode()
def generate_rows(generator: nn.Module, latents: Tensor, labels: Tensor, batch_size: int = _BATCH) -> Rows:
    """Images of a generator in inference mode, in batches; uint8 [N, H, W, C]. Device sync.

    latents: [N, latent_dim].   labels: int64 [N].
    """
    parameter = next(generator.parameters())
    parts = []
    for start in range(0, len(latents), batch_size):
        z = latents[start : start + batch_size].to(parameter.device, parameter.dtype)
        images = generator(z, labels[start : start + batch_size].to(parameter.device))
        parts.append(rows_from_images(images).cpu().numpy())
    return np.concatenate(parts)


def fixed_latents(seed: int, num: int, latent_dim: int, truncation: float | None = None) -> Tensor:
    """Latents for pictures, float64 [num, latent_dim]; number i is the same for any num.

    truncation: the largest |z| (Brock et al. 2019, sec. 3.1); None: no limit.
    """
    return latents_at(seed, torch.arange(num), latent_dim, truncation)


def latents_at(seed: int, numbers: Tensor, latent_dim: int, truncation: float | None = None) -> Tensor:
    """The same of some numbers, int64 [N]."""
    draws = Draws(key_of(seed, "samples"), numbers)
    return draws.normal(latent_dim) if truncation is None else draws.truncated_normal(truncation, latent_dim)


def grid_labels(num: int, num_classes: int) -> Tensor:
    """Labels for a grid, int64 [num]: a class a column as far as they go; zeros without classes."""
    if not num_classes:
        return torch.zeros(num, dtype=torch.int64)
    return (torch.arange(num) % grid_columns(num, num_classes)) % num_classes


def grid_columns(num: int, num_classes: int) -> int:
    """Columns of a grid: one a class where these are few, else as square as can be."""
    square = math.ceil(math.sqrt(num))
    return num_classes if square / 2 <= num_classes <= 2 * square else square


def encode_grid(rows: Rows, num_classes: int) -> bytes:
    """PNG of images side by side with a gap of 2 px on white; rows: uint8 [N, H, W, C]."""
    num, height, width, channels = rows.shape
    columns, gap = grid_columns(num, num_classes), 2
    lines = math.ceil(num / columns)
    canvas = np.full((lines * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for index, row in enumerate(rows):
        top = gap + (index // columns) * (height + gap)
        left = gap + (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = row
    return encode_png(canvas)


def encode_png(image: Rows, note: str | None = None) -> bytes:
    """PNG of one image, uint8 [H, W, C]. note: what programs show as the file's description."""
    file = io.BytesIO()
    text = PngInfo()
    if note is not None:
        text.add_text("Description", note)
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format="PNG", pnginfo=text)
    return file.getvalue()
