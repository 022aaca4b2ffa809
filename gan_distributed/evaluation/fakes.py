"""Images of a generator by their number: latents and classes are a function of (seed, number) alone."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gan_distributed.models.networks import rows_from_images
from gan_distributed.randomness import Draws, key_of


def maker(
    generator: nn.Module, latent_dim: int, histogram: NDArray[np.int64] | None, seed: int
) -> Callable[[Tensor], Tensor]:
    """A function of numbers, int64 [n], to images quantised as files are, uint8 [n, H, W, C] on the generator's device.

    histogram: images a class of the data, int64 [K], by which classes are drawn; None for an unconditional generator.
    """
    parameter = next(generator.parameters())

    @torch.inference_mode()
    def make(numbers: Tensor) -> Tensor:
        latents = Draws(key_of(seed, "score latents"), numbers).normal(latent_dim)
        labels = labels_of(numbers, histogram, seed).to(parameter.device)
        images = generator(latents.to(parameter.device, parameter.dtype), labels)
        return rows_from_images(images).contiguous()

    return make


def labels_of(numbers: Tensor, histogram: NDArray[np.int64] | None, seed: int) -> Tensor:
    """The class of each image, int64 [n], drawn in the data's shares; zeros without classes."""
    if histogram is None:
        return torch.zeros(len(numbers), dtype=torch.int64)
    shares = torch.from_numpy(np.cumsum(histogram) / histogram.sum())
    drawn = Draws(key_of(seed, "score labels"), numbers).uniform(1)[:, 0]
    return torch.searchsorted(shares, drawn, right=True).clamp_max(len(histogram) - 1)
