"""Augmentation that the discriminator alone sees: the same operations on real and generated images, at random.

Every operation is linear in the pixels, but for contrast's mean, which is linear, too: it can be differentiated any
number of times, as gradient penalties need. What happens to a sample depends on its draws alone. The operations and
their ranges are those of DiffAugment (Zhao et al. 2020, sec. 3.3) and, by probability, of ADA (Karras et al. 2020,
appendix B) where it keeps to whole pixels. Holds neither the probability nor its control.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_distributed.randomness import Draws

# One column of the draws each, whatever the policy is, so that adding an operation changes no other.
_OPERATIONS = ("xflip", "rotate90", "translation", "brightness", "saturation", "contrast", "cutout")
_VALUES = (
    "mirrored",
    "turns",
    "rows",
    "columns",
    "brightness",
    "saturation",
    "contrast",
    "cutout row",
    "cutout column",
)
_COLOR = ("brightness", "saturation", "contrast")
# The longest shift, and the side of the square that is cut out, as shares of the image's side.
_LONGEST_SHIFT = 1 / 8
_CUTOUT = 1 / 2


class Augment:
    """The operations of a policy, as `augment.policy` names them."""

    def __init__(self, policy: Sequence[str]) -> None:
        self._names = {operation for name in policy for operation in (_COLOR if name == "color" else (name,))}
        self._recolors = "color" in policy
        self._moves = not self._names.isdisjoint(("xflip", "rotate90", "translation"))

    def __call__(self, images: Tensor, draws: Draws, p: float | Tensor) -> Tensor:
        """Change float [N, C, H, W] in [-1, 1], square; each operation acts on a sample with probability p.

        p: a number or float64 [].   What is moved in from outside or cut out is 0; colours may leave [-1, 1].
        """
        drawn = draws.uniform(len(_OPERATIONS) + len(_VALUES))
        acts = dict(zip(_OPERATIONS, (drawn[:, : len(_OPERATIONS)] < p).unbind(1), strict=True))
        values = dict(zip(_VALUES, drawn[:, len(_OPERATIONS) :].unbind(1), strict=True))
        acts = {name: acts[name] for name in _OPERATIONS if name in self._names}
        if self._recolors:
            images = _recolor(images, acts, values)
        if self._moves:
            images = _move(images, acts, values)
        if "cutout" in acts:
            images = _cut_out(images, acts["cutout"], values)
        return images


def _recolor(images: Tensor, acts: dict[str, Tensor], values: dict[str, Tensor]) -> Tensor:
    """Brightness, saturation, then contrast, in one pass: three times x -> mean + factor (x - mean), or an addition."""

    def factor(name: str, value: Tensor, none: float) -> Tensor:
        return torch.where(acts[name], value, none).to(images.dtype)[:, None, None, None]

    brightness = factor("brightness", values["brightness"] - 0.5, 0.0)
    contrast = factor("contrast", values["contrast"] + 0.5, 1.0)
    # [N, 1, 1, 1]; saturation leaves it as it is.
    mean = images.mean((1, 2, 3), keepdim=True)
    offset = (1 - contrast) * mean + brightness
    if images.shape[1] == 1:
        return contrast * images + offset
    saturation = factor("saturation", 2 * values["saturation"], 1.0)
    # [N, 1, H, W]
    grey = images.mean(1, keepdim=True)
    return contrast * saturation * images + (contrast * (1 - saturation) * grey + offset)


def _move(images: Tensor, acts: dict[str, Tensor], values: dict[str, Tensor]) -> Tensor:
    """Mirror, turn by quarters and shift by whole pixels: for every pixel the one that it comes from, in one gather."""
    num, channels, side, _ = images.shape
    # Where pixel (row, column) of the result comes from; [N, side, 1] and [N, 1, side], [N, side, side] once turned.
    row = torch.arange(side, device=images.device)[None, :, None]
    column = row.mT
    inside = None
    if "translation" in acts:
        longest = round(side * _LONGEST_SHIFT)
        steps = torch.stack([values["rows"], values["columns"]]).mul(2 * longest + 1).long() - longest
        down, right = torch.where(acts["translation"], steps, 0)[:, :, None, None]
        row, column = row - down, column - right
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        row, column = row.clamp(0, side - 1), column.clamp(0, side - 1)
    turned, upside_down, mirrored = None, None, None
    if "rotate90" in acts:
        quarters = torch.where(acts["rotate90"], (4 * values["turns"]).long(), 0)[:, None, None]
        turned, upside_down, mirrored = quarters % 2 == 1, quarters >= 2, (quarters == 1) | (quarters == 2)
        row, column = torch.where(turned, column, row), torch.where(turned, row, column)
        row = torch.where(upside_down, side - 1 - row, row)
    if "xflip" in acts:
        flipped = (acts["xflip"] & (values["mirrored"] < 0.5))[:, None, None]
        mirrored = flipped if mirrored is None else mirrored ^ flipped
    if mirrored is not None:
        column = torch.where(mirrored, side - 1 - column, column)
    sample = torch.arange(num, device=images.device)[:, None, None]
    index = (sample * side + row) * side + column
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    moved = pixels.index_select(0, index.flatten()).reshape(num, side, side, channels)
    if inside is not None:
        moved = moved * inside[..., None].to(images.dtype)
    return moved.permute(0, 3, 1, 2)


def _cut_out(images: Tensor, acts: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Set a square to 0 whose middle may lie anywhere in the image."""
    side = images.shape[2]
    places = torch.arange(side, device=images.device)
    middles = torch.stack([values["cutout row"], values["cutout column"]]).mul(side + 1).long()
    half = round(side * _CUTOUT / 2)
    # [2, N, side]
    near = (places >= middles[..., None] - half) & (places < middles[..., None] + half)
    cut = near[0][:, :, None] & near[1][:, None, :] & acts[:, None, None]
    return images * (~cut)[:, None].to(images.dtype)
