"""Sliced Wasserstein distance of patches from a Laplacian pyramid (Karras et al. 2018, section 5); needs no network.

Ours differs: patches keep their mean and contrast, so that wrong colours and brightness count, and the distance of two
sets of different sizes is exact.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.evaluation.protocol import SWD_DIRECTIONS, SWD_PATCH_SIZE, SWD_PATCHES, SWD_SMALLEST_LEVEL
from gan_distributed.randomness import Draws, key_of


class Slices(nn.Module):
    """Images to projections of some of their patches on fixed random directions, a set a pyramid level.

    The place of a patch is drawn by the image's number, so that it does not depend on the batch.
    """

    directions: Tensor

    def __init__(self, resolution: int, channels: int) -> None:
        super().__init__()
        self.num_levels = 1
        while resolution % 2 == 0 and resolution // 2 >= SWD_SMALLEST_LEVEL:
            resolution //= 2
            self.num_levels += 1
        place = torch.zeros(1, dtype=torch.int64)
        dimensions = channels * SWD_PATCH_SIZE**2
        draws = Draws(key_of("slices", "directions"), place).normal(dimensions * SWD_DIRECTIONS)
        directions = draws.reshape(dimensions, SWD_DIRECTIONS)
        self.register_buffer("directions", (directions / directions.norm(dim=0)).float())

    @property
    def width(self) -> int:
        """Numbers an image."""
        return self.num_levels * SWD_PATCHES * SWD_DIRECTIONS

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """images: uint8 [N, C, H, W].   numbers: int64 [N].   Returns float32 [N, levels x patches x directions]."""
        x = images.float() / 127.5 - 1
        levels = []
        for level in range(self.num_levels):
            if level == self.num_levels - 1:
                band = x
            else:
                below = functional.avg_pool2d(x, 2)
                band, x = x - functional.interpolate(below, scale_factor=2.0), below
            levels.append(self._patches(band, numbers, level) @ self.directions)
        return torch.stack(levels, 1).flatten(1)

    def _patches(self, band: Tensor, numbers: Tensor, level: int) -> Tensor:
        """Patches at drawn places, float [N, patches, C x size x size]."""
        room = band.shape[2] - SWD_PATCH_SIZE + 1
        corners = Draws(key_of("slices", "places", level), numbers).integers(room, SWD_PATCHES, 2)
        within = torch.arange(SWD_PATCH_SIZE, device=band.device)
        y = corners[:, :, 0, None, None] + within[:, None]
        x = corners[:, :, 1, None, None] + within
        image = torch.arange(len(band), device=band.device)[:, None, None, None]
        # [N, patches, size, size, C]
        found = band.permute(0, 2, 3, 1)[image, y, x]
        return found.permute(0, 1, 4, 2, 3).flatten(2)


def sliced_distance(real: Tensor, fake: Tensor, num_levels: int) -> list[float]:
    """The mean over directions of the distance of projections, for each pyramid level.

    real, fake: [N, levels x patches x directions] and [M, …].
    """
    return [
        float(wasserstein(*(rows.reshape(-1, SWD_DIRECTIONS) for rows in pair)).mean())
        for pair in zip(real.chunk(num_levels, 1), fake.chunk(num_levels, 1), strict=True)
    ]


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein-1 distance of two samples on a line, a column a line: the area between their quantile functions.

    real: float [N, Q].   fake: float [M, Q].   Returns float64 [Q].
    """
    real, fake = real.double().sort(0).values, fake.double().sort(0).values
    if len(real) == len(fake):
        return (real - fake).abs().mean(0)
    # Both are constant between the multiples of 1 / N and of 1 / M; whole numbers, so that equal ones are one.
    common = math.lcm(len(real), len(fake))
    ends = torch.unique(torch.cat([torch.arange(1, len(rows) + 1) * (common // len(rows)) for rows in (real, fake)]))
    starts = functional.pad(ends[:-1], (1, 0))
    lengths = ((ends - starts).double() / common).to(real.device)
    parts = [rows[(starts // (common // len(rows))).to(real.device)] for rows in (real, fake)]
    distance: Tensor = ((parts[0] - parts[1]).abs() * lengths[:, None]).sum(0)
    return distance
