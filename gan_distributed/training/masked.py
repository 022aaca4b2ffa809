"""Changes of state that a tensor decides: one that must not be made leaves every byte, and no host waits to know."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def lerp_where(ok: Tensor, olds: Sequence[Tensor], news: Sequence[Tensor], weight: float | Tensor) -> None:
    """Move olds towards news by a weight in [0, 1], a number or float64 [], in place, where ok (bool []) is true."""
    if not olds:
        return
    if ok.device.type == "cpu":
        # Nothing to wait for here, and the selection below would take three passes over the memory.
        if ok:
            torch._foreach_lerp_(list(olds), list(news), float(weight))
        return
    if isinstance(weight, Tensor):
        moved = [torch.lerp(old, new, weight.to(old.dtype)) for old, new in zip(olds, news, strict=True)]
    else:
        moved = list(torch._foreach_lerp(list(olds), list(news), weight))
    _copy_where(ok, olds, moved)


@torch.no_grad()
def assign_where(ok: Tensor, olds: Sequence[Tensor], news: Sequence[Tensor]) -> None:
    """Give olds the values of news, in place, where ok (bool []) is true."""
    if not olds:
        return
    if ok.device.type == "cpu":
        if ok:
            torch._foreach_copy_(list(olds), list(news))
        return
    _copy_where(ok, olds, news)


class Undo:
    """A copy of some tensors, to go back to where a step turns out to be a bad one."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._saved = [torch.empty_like(tensor) for tensor in self._tensors]

    @torch.no_grad()
    def save(self) -> None:
        """Take the copy anew."""
        torch._foreach_copy_(self._saved, self._tensors)

    @torch.no_grad()
    def restore_unless(self, ok: Tensor) -> None:
        """Bring every byte of the copy back where ok (bool []) is false."""
        assign_where(~ok, self._tensors, self._saved)


def _copy_where(ok: Tensor, olds: Sequence[Tensor], news: Sequence[Tensor]) -> None:
    for old, new in zip(olds, news, strict=True):
        # A product with 0 would let a NaN through, and turn -0.0 into 0.0.
        torch.where(ok, new, old, out=old)
