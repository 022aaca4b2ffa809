"""Doubling and halving by the binomial filter, ours against convolutions with a group a channel.

    python benchmarks/resampling.py [--device cuda]

Milliseconds a call without gradients, medians of interleaved rounds, channels last; on a CPU of one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from gan_distributed.models.resampling import downsample_binomial, upsample_binomial

_ROUNDS, _CALLS = 7, 10
# Samples, channels and side of the smaller image.
_SHAPES = {"cpu": ((16, 64, 16), (16, 64, 8), (16, 384, 4)), "cuda": ((256, 768, 16), (256, 768, 8), (256, 768, 4))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=list(_SHAPES))
    device = parser.parse_args().device
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"{'':<40}{'ours':>10}{'convolution':>13}{'ratio':>9}")
    for dtype in (torch.float32, torch.bfloat16):
        for num, channels, side in _SHAPES[device]:
            small = torch.randn(num, channels, side, side, device=device, dtype=dtype)
            large = torch.randn(num, channels, 2 * side, 2 * side, device=device, dtype=dtype)
            taps = 2 - torch.arange(-1, 2, dtype=dtype, device=device).abs()
            filters = (taps[:, None] * taps).expand(channels, 1, 3, 3)
            up = {"stride": 2, "padding": 1, "output_padding": 1, "groups": channels}
            down = {"stride": 2, "padding": 1, "groups": channels}
            name = f"{str(dtype)[6:]} [{num}, {channels}, {side}, {side}]"
            rivals(f"{name} doubled", small, upsample_binomial, _by(functional.conv_transpose2d, filters / 4, up))
            rivals(f"{name} from twice", large, downsample_binomial, _by(functional.conv2d, filters / 16, down))


def _by(convolution: Callable[..., Tensor], filters: Tensor, geometry: dict[str, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: convolution(x, filters, **geometry)


def rivals(name: str, x: Tensor, *ways: Callable[[Tensor], Tensor]) -> None:
    x = x.contiguous(memory_format=torch.channels_last)
    took: list[list[float]] = [[] for _ in ways]
    for _ in range(_ROUNDS):
        for each, times in zip(ways, took, strict=True):
            started = time.perf_counter()
            for _ in range(_CALLS):
                each(x)
            if x.device.type == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - started) / _CALLS)
    ours, theirs = (1e3 * statistics.median(times[1:]) for times in took)
    print(f"{name:<40}{ours:>10.3f}{theirs:>13.3f}{theirs / ours:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
