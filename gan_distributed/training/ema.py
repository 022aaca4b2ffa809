"""The exponential moving average of the generator's weights, by half-life in images."""

from torch import Tensor, nn

from gan_distributed.config import Schedule
from gan_distributed.training.masked import lerp_where
from gan_distributed.training.power_iteration import PowerIteration
from gan_distributed.training.schedule import value_at

# The half-life is at most this share of the images seen (StyleGAN2-ADA; Karras et al. 2020), so that the average
# forgets its start: first weights, and running variances of 1 where the networks' are near 0.01.
_RAMP_UP = 0.05


def ema_weight(batch_images: int, halflife_kimg: float | Schedule | None, seen_images: int) -> float:
    """How much of the average is kept over one step: 0.5 ^ (images / half-life); 0 where averaging is off.

    A number is held to its share of the images seen; a schedule has its own start, and is taken as it says.
    """
    if halflife_kimg is None:
        return 0.0
    halflife_images = 1000 * value_at(halflife_kimg, seen_images)
    if not isinstance(halflife_kimg, Schedule):
        halflife_images = min(halflife_images, _RAMP_UP * seen_images)
    return 0.5 ** (batch_images / halflife_images) if halflife_images > 0 else 0.0


class Average:
    """The average of one network, weights and running statistics, in another of the same shape.

    A mean of singular vectors is too short, and is of other weights: power iterations at the average's own mend both.
    """

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        self._average = [*average.parameters(), *average.buffers()]
        self._network = [*network.parameters(), *network.buffers()]
        self._power_iteration = PowerIteration(average)

    def update(self, keep: float | Tensor, ok: Tensor) -> None:
        """Average = keep x average + (1 - keep) x network, where ok (bool []) is true."""
        lerp_where(ok, self._average, self._network, 1.0 - keep)
        self._power_iteration.advance(ok)
