"""Random numbers as a function of (seed, purpose, positions): the only place that draws.

Nothing here has a state. A number is a hash of what it is for, so it does not depend on the rank, the number of
workers, the device, or on how a batch is cut. The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014,
"Fast splittable pseudorandom number generators"; constants of Stafford's variant 13). Normal numbers use additions,
multiplications, divisions and square roots only: IEEE 754 fixes their every bit, on a CPU and on a GPU, which it does
not for log and cos.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def key_of(*parts: int | str) -> int:
    """A 64-bit key for a purpose: integers and words, hashed in order."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(value: int) -> int:
    """SplitMix64's finaliser of one 64-bit integer."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MULTIPLY_1) & _MASK
    value = ((value ^ (value >> 27)) * _MULTIPLY_2) & _MASK
    return value ^ (value >> 31)


def permutation(key: int, length: int) -> NDArray[np.int64]:
    """A permutation of range(length): the order of the hashes of its elements.

    NumPy's own generators may change their streams between releases; this one cannot, and the order of training
    images must not.
    """
    counters = np.arange(1, length + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    return np.argsort(_mix_array(counters), kind="stable").astype(np.int64, copy=False)


def _mix_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values ^= values >> np.uint64(30)
    values *= np.uint64(_MULTIPLY_1)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_MULTIPLY_2)
    values ^= values >> np.uint64(31)
    return values


@dataclass(frozen=True)
class Draws:
    """The random numbers that belong to some samples, for one purpose.

    key: a 64-bit key, from `key_of(seed, purpose, …)`.   positions: int64 [N], the samples' positions.
    Every method returns a tensor on the device of `positions` whose row i depends on (key, positions[i]) alone.
    """

    key: int
    positions: "torch.Tensor"

    def named(self, *purpose: int | str) -> "Draws":
        """Independent draws for a part of the purpose, such as one layer."""
        return replace(self, key=mix(self.key ^ key_of(*purpose)))

    def bits(self, *shape: int) -> "torch.Tensor":
        """64 random bits an element, as int64 [N, *shape]."""
        import torch

        elements = torch.arange(1, math.prod(shape) + 1, device=self.positions.device)
        row_keys = mix_tensor(self.positions * _signed(_GOLDEN) + _signed(self.key))
        counters = row_keys[:, None] + elements * _signed(_GOLDEN)
        return mix_tensor(counters).reshape(len(self.positions), *shape)

    def uniform(self, *shape: int) -> "torch.Tensor":
        """Uniform in the open interval (0, 1), float64 [N, *shape], 52 bits each."""
        import torch

        return (((self.bits(*shape) >> 12) & ((1 << 52) - 1)).to(torch.float64) + 0.5) * 2.0**-52

    def integers(self, high: int, *shape: int) -> "torch.Tensor":
        """Uniform in range(high), int64 [N, *shape]."""
        import torch

        return (self.uniform(*shape) * high).to(torch.int64)

    def keep(self, probability: float, *shape: int) -> "torch.Tensor":
        """True with a probability, bool [N, *shape]."""
        return self.uniform(*shape) < probability

    def normal(self, *shape: int) -> "torch.Tensor":
        """Standard normal, float64 [N, *shape], |x| < 8.6 (Box & Muller 1958, two numbers from two uniform ones)."""
        import torch

        count = math.prod(shape)
        half = (count + 1) // 2
        radius_turns = self.uniform(2 * half)
        radius = _log(radius_turns[:, :half]).mul_(-2.0).sqrt_()
        turns = radius_turns[:, half:]
        # sin(2 pi t) = cos(2 pi (t - 1/4))
        waves = _cos_turns(torch.stack([turns, turns - 0.25], dim=1)).mul_(radius[:, None])
        return waves.reshape(len(waves), 2 * half)[:, :count].reshape(-1, *shape)


def mix_tensor(values: "torch.Tensor") -> "torch.Tensor":
    """SplitMix64's finaliser of an int64 tensor, element by element; the bits are those of uint64 arithmetic."""
    values = (values ^ _shift(values, 30)) * _signed(_MULTIPLY_1)
    values = (values ^ _shift(values, 27)) * _signed(_MULTIPLY_2)
    return values ^ _shift(values, 31)


def _shift(values: "torch.Tensor", by: int) -> "torch.Tensor":
    # A logical shift: torch's >> copies the sign bit.
    return (values >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _log(x: "torch.Tensor") -> "torch.Tensor":
    """Natural logarithm of float64 in (0, 1), by exactly rounded operations; error below 1e-10.

    x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
    """
    import torch

    mantissa, exponent = torch.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = torch.where(small, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0).div_(mantissa.add_(1.0))
    square = s * s
    series = torch.full_like(s, 1.0 / 11.0)
    for odd in range(9, 0, -2):
        series.mul_(square).add_(1.0 / odd)
    logarithm = series.mul_(s).mul_(2.0)
    return logarithm.add_((exponent - small.to(exponent.dtype)).to(torch.float64).mul_(math.log(2.0)))


def _cos_turns(turns: "torch.Tensor") -> "torch.Tensor":
    """cos(2 pi turns) of float64 in (-1/4, 1), by exactly rounded operations; error below 1e-8.

    Taylor's series at an eighth of the angle, then cos 2x = 2 cos^2 x - 1 three times.
    """
    import torch

    # A shift by half a turn, undone by the sign, keeps the angle small.
    angle = (turns - 0.5).mul_(2.0 * math.pi / 8.0)
    square = angle.mul_(angle)
    series = torch.full_like(square, 1.0 / math.factorial(12))
    for even in range(10, -2, -2):
        sign = 1.0 if (even // 2) % 2 == 0 else -1.0
        series.mul_(square).add_(sign / math.factorial(even))
    for _ in range(3):
        series = series.square_().mul_(2.0).sub_(1.0)
    return series.neg_()
