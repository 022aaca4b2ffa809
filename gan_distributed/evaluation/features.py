"""Images to features, each rank some of the batches: sums and kept rows, put together in one reduction a kind.

A batch is the same images for any number of ranks, so that a feature is the same to the bit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gan_distributed.evaluation.networks import FeatureNetwork, exactly
from gan_distributed.evaluation.ranks import Ranks
from gan_distributed.evaluation.scores import Moments
from gan_distributed.evaluation.slices import Slices

BATCH = 128
# Of so many images duplicates are looked for, at this size.
THUMBNAILS, _THUMBNAIL_SIZE = 1000, 8


@dataclass(frozen=True)
class Collected:
    """What is known of a set of images, equal on all ranks, on their device.

    moments: of features.   features, logits, slices: float32 [num_kept, …] by the image's number, where wanted.
    thumbnails: float32 [at most 1000, D], of the first images, in [0, 255].
    """

    moments: Moments | None
    features: Tensor | None
    logits: Tensor | None
    slices: Tensor | None
    thumbnails: Tensor


class Collector:
    """Takes batches of one rank, then puts all ranks' together.

    parts: which of moments, features, logits, slices.   widths: numbers an image in each, from `widths_of`.
    num_kept: images that are numbered, and kept singly.
    """

    def __init__(
        self,
        parts: frozenset[str],
        network: FeatureNetwork | None,
        slices: Slices | None,
        widths: dict[str, int],
        num_kept: int,
        ranks: Ranks,
    ) -> None:
        self._network, self._slices, self._ranks = network, slices, ranks
        self._width = widths.get("features", 0)
        self._sums: Tensor | None = None
        if "moments" in parts:
            # count, total, outer
            self._sums = torch.zeros(1 + self._width + self._width**2, dtype=torch.float64, device=ranks.device)
        lengths = dict.fromkeys(parts & {"features", "logits", "slices"}, num_kept)
        lengths["thumbnails"] = min(THUMBNAILS, num_kept)
        self._kept = {name: torch.zeros(num, widths[name], device=ranks.device) for name, num in lengths.items()}

    @torch.no_grad()
    def add(self, rows: Tensor, numbers: Tensor) -> None:
        """rows: uint8 [n, H, W, C] on the device.   numbers: int64 [n] there, -1 for images that are not kept."""
        is_kept = numbers >= 0
        kept_rows, kept_numbers = rows[is_kept], numbers[is_kept]
        is_first = kept_numbers < THUMBNAILS
        self._kept["thumbnails"][kept_numbers[is_first]] = thumbnails(kept_rows[is_first])
        if self._slices is not None and "slices" in self._kept:
            self._kept["slices"][kept_numbers] = self._slices(kept_rows.permute(0, 3, 1, 2), kept_numbers)
        if self._network is None or (self._sums is None and not self._kept.keys() & {"features", "logits"}):
            return
        with exactly():
            features, logits = self._network(rows)
        if self._sums is not None:
            wide = features.double()
            self._sums += torch.cat([wide.new_tensor([len(wide)]), wide.sum(0), (wide.T @ wide).flatten()])
        if "features" in self._kept:
            self._kept["features"][kept_numbers] = features[is_kept]
        if "logits" in self._kept and logits is not None:
            self._kept["logits"][kept_numbers] = logits[is_kept]

    @torch.no_grad()
    def finish(self) -> Collected:
        """The sums and the kept rows of all ranks."""
        moments = None
        if self._sums is not None:
            sums, width = self._ranks.sum_over_ranks(self._sums), self._width
            moments = Moments(float(sums[0]), sums[1 : 1 + width], sums[1 + width :].view(width, width))
        # Every image was seen by one rank, and is zeros on the others: the sum is exact.
        kept = {name: self._ranks.sum_over_ranks(rows) for name, rows in sorted(self._kept.items())}
        return Collected(moments, kept.get("features"), kept.get("logits"), kept.get("slices"), kept["thumbnails"])


@torch.no_grad()
def widths_of(network: FeatureNetwork | None, slices: Slices | None, blank: Tensor) -> dict[str, int]:
    """How many numbers an image has in each part; blank: an image, uint8 [1, H, W, C] on the device."""
    widths = {"thumbnails": thumbnails(blank).shape[1]}
    if network is not None:
        features, logits = network(blank.expand(2, -1, -1, -1))
        widths |= {"features": features.shape[1]} | ({} if logits is None else {"logits": logits.shape[1]})
    return widths | ({} if slices is None else {"slices": slices.width})


def add_fakes(
    collector: Collector, make: Callable[[Tensor], Tensor], num: int, ranks: Ranks, is_late: Callable[[], bool]
) -> bool:
    """Make images 0 to num - 1, each rank its batches; false, on all ranks, where one of them ran out of time.

    make: numbers, int64 [n], to rows, uint8 [n, H, W, C] on the device.   Device sync a batch.
    """
    for start in range(0, num, BATCH * ranks.size):
        first = start + ranks.rank * BATCH
        # Past the end there are none.
        numbers = torch.arange(min(first, num), min(first + BATCH, num))
        if len(numbers):
            collector.add(make(numbers), numbers.to(ranks.device))
        if any_rank(ranks, is_late()):
            return False
    return True


def add_batches(collector: Collector, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> None:
    """Add this rank's batches of rows and numbers, in parts of BATCH."""
    for rows, numbers in batches:
        for part, places in zip(torch.split(rows, BATCH), torch.split(numbers, BATCH), strict=True):
            collector.add(part.to(device), places.to(device))


def any_rank(ranks: Ranks, flag: bool) -> bool:
    """Whether a flag is up on any rank. Device sync."""
    return int(ranks.sum_integers(torch.tensor([int(flag)], device=ranks.device))) > 0


def thumbnails(rows: Tensor) -> Tensor:
    """Rows, uint8 [N, H, W, C], as 8 x 8 pixels each, float32 [N, D] in [0, 255]."""
    images = rows.permute(0, 3, 1, 2).float()
    return functional.adaptive_avg_pool2d(images, _THUMBNAIL_SIZE).flatten(1)
