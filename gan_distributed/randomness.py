"""Random numbers as a function of (seed, purpose, positions): the only place that draws.

Nothing here has a state. A number is a hash of what it is for, so it does not depend on the rank, the number of
workers, the device, or on how a batch is cut. The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014,
"Fast splittable pseudorandom number generators"; constants of Stafford's variant 13). Normal numbers use additions,
multiplications, divisions and square roots only: IEEE 754 fixes their every bit, on a CPU and on a GPU, which it does
not for log and cos. Positions on the CPU are computed with NumPy: torch's square root there is off by a bit in 1% of
cases (MKL's vector mathematics), and its operations take longer to start. Elsewhere the same lines run on tensors.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1
# What a processor's cache holds beside its temporaries.
_SORTED_AT_ONCE = 1 << 15


@lru_cache(maxsize=4096, typed=True)
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
    """A permutation of range(length): the order of its elements' hashes, of as many high bits as leave room for them.

    NumPy's own generators may change their streams between releases; this one cannot, and the order of training
    images must not. The elements ride in the low bits, since sorting numbers is five times as fast as sorting places.
    """
    low_bits = np.array((1 << length.bit_length()) - 1, np.uint64)
    high_bits = ~low_bits
    elements, steps = _elements()
    hashes = np.empty(length, np.uint64)
    for start in range(0, length, _SORTED_AT_ONCE):
        mixed = hashes[start : start + _SORTED_AT_ONCE]
        count = len(mixed)
        np.add(steps[:count], np.array((key + start * _GOLDEN) & _MASK, np.uint64), mixed)
        _mix_in_place(mixed)
        mixed &= high_bits
        mixed |= elements[:count] if start == 0 else elements[:count] + start
    hashes.sort()
    hashes &= low_bits
    return hashes.view(np.int64)


@lru_cache(maxsize=1)
def _elements() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The numbers i from 0 on, and (i + 1) times the step of SplitMix64."""
    elements = np.arange(_SORTED_AT_ONCE, dtype=np.uint64)
    return elements, (elements + 1) * _GOLDEN


# Arrays without axes: next to an array of a few numbers, converting a Python integer takes longest.
_U30, _U27, _U31, _U_MULTIPLY_1, _U_MULTIPLY_2 = (
    np.array(number, np.uint64) for number in (30, 27, 31, _MULTIPLY_1, _MULTIPLY_2)
)


def _mix_in_place(values: NDArray[np.uint64]) -> None:
    values ^= values >> _U30
    values *= _U_MULTIPLY_1
    values ^= values >> _U27
    values *= _U_MULTIPLY_2
    values ^= values >> _U31


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
        return _to_tensor(self._bits(math.prod(shape))).reshape(-1, *shape)

    def uniform(self, *shape: int) -> "torch.Tensor":
        """Uniform in the open interval (0, 1), float64 [N, *shape], 52 bits each."""
        return _to_tensor(self._uniform(math.prod(shape))).reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> "torch.Tensor":
        """Uniform in range(high), int64 [N, *shape]."""
        import torch

        return (self.uniform(*shape) * high).to(torch.int64)

    def keep(self, probability: float, *shape: int) -> "torch.Tensor":
        """True with a probability, bool [N, *shape]."""
        return self.uniform(*shape) < probability

    def normal(self, *shape: int) -> "torch.Tensor":
        """Standard normal, float64 [N, *shape], |x| < 8.6 (Box & Muller 1958, two numbers from two uniform ones)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        radius_turns = self._uniform(2 * half)
        xp = _namespace(radius_turns)
        radius = _log(radius_turns[:, :half])
        radius *= -2.0
        turns = radius_turns[:, half:]
        # sin(2 pi t) = cos(2 pi (t - 1/4))
        waves = _cos_turns(xp.stack([turns, turns - 0.25], 1))
        waves *= xp.sqrt(radius)[:, None]
        return _to_tensor(waves.reshape(-1, 2 * half)[:, :count]).reshape(-1, *shape)

    def truncated_normal(self, limit: float, *shape: int) -> "torch.Tensor":
        """Standard normal given |x| <= limit, float64 [N, *shape], by the inverse of its distribution function.

        IEEE 754 does not fix the last bits of erfinv: for pictures, not for training.
        """
        import torch

        inside = math.erf(limit / math.sqrt(2.0))
        numbers = math.sqrt(2.0) * torch.special.erfinv((2.0 * self.uniform(*shape) - 1.0) * inside)
        clamped: torch.Tensor = numbers.clamp_(-limit, limit)
        return clamped

    def _bits(self, count: int) -> Any:
        positions = _from_tensor(self.positions)
        if _namespace(positions) is np:
            elements = np.arange(1, count + 1)
        else:
            elements = _namespace(positions).arange(1, count + 1, device=positions.device)
        row_keys = _mix(positions * _signed(_GOLDEN) + _signed(self.key))
        return _mix(row_keys[:, None] + elements * _signed(_GOLDEN))

    def _uniform(self, count: int) -> Any:
        bits = (self._bits(count) >> 12) & ((1 << 52) - 1)
        xp = _namespace(bits)
        numbers = xp.asarray(bits, dtype=xp.float64)
        numbers += 0.5
        numbers *= 2.0**-52
        return numbers


def mix_tensor(values: "torch.Tensor") -> "torch.Tensor":
    """SplitMix64's finaliser of an int64 tensor, element by element; the bits are those of uint64 arithmetic."""
    return _to_tensor(_mix(_from_tensor(values)))


def _from_tensor(values: "torch.Tensor") -> Any:
    import torch

    # Tensors without values, in which work is counted, are of a class of their own.
    return values.numpy() if values.device.type == "cpu" and type(values) is torch.Tensor else values


def _to_tensor(values: Any) -> "torch.Tensor":
    import torch

    return torch.from_numpy(values) if isinstance(values, np.ndarray) else values


def _namespace(values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np
    import torch

    return torch


def _mix(values: Any) -> Any:
    values = (values ^ _shift(values, 30)) * _signed(_MULTIPLY_1)
    values = (values ^ _shift(values, 27)) * _signed(_MULTIPLY_2)
    return values ^ _shift(values, 31)


def _shift(values: Any, by: int) -> Any:
    # A logical shift: that of signed integers copies the sign bit.
    return (values >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _log(x: Any) -> Any:
    """Natural logarithm of float64 in (0, 1), by exactly rounded operations; error below 1e-10.

    x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
    """
    xp = _namespace(x)
    mantissa, exponent = xp.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = xp.where(small, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = xp.full_like(s, 1.0 / 11.0)
    for odd in range(9, 0, -2):
        series *= square
        series += 1.0 / odd
    series *= s
    series *= 2.0
    scale = xp.asarray(exponent - xp.asarray(small, dtype=exponent.dtype), dtype=xp.float64)
    scale *= math.log(2.0)
    return scale + series


def _cos_turns(turns: Any) -> Any:
    """cos(2 pi turns) of float64 in (-1/4, 1), by exactly rounded operations; error below 1e-8.

    Taylor's series at an eighth of the angle, then cos 2x = 2 cos^2 x - 1 three times.
    """
    # A shift by half a turn, undone by the sign, keeps the angle small.
    angle = turns - 0.5
    angle *= 2.0 * math.pi / 8.0
    angle *= angle
    series = _namespace(turns).full_like(angle, 1.0 / math.factorial(12))
    for even in range(10, -2, -2):
        sign = 1.0 if (even // 2) % 2 == 0 else -1.0
        series *= angle
        series += sign / math.factorial(even)
    for _ in range(3):
        series *= series
        series *= 2.0
        series -= 1.0
    return -series
