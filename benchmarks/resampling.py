"""Doubling and halving of feature maps: the ways of a CPU and of a GPU and torch's convolution, on either device.

    python benchmarks/resampling.py [--device cuda]

Milliseconds a call without gradients, medians of interleaved rounds, channels last; on a CPU of one thread. cpu: sums
of slices; of 2 x 2 pixels torch's means and its repetition. gpu: products with a matrix, and copies of 16 bytes at a
time. other: a convolution with a group a channel; of 2 x 2 pixels torch's sum, and copies of a number at a time.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from gan_distributed.models import resampling_cpu, resampling_gpu

_ROUNDS, _CALLS = 7, 10
# Samples, channels and side of the smaller image.
_SHAPES = {
    "cpu": ((16, 64, 16), (16, 64, 8), (16, 384, 4)),
    "cuda": ((64, 96, 64), (64, 192, 32), (256, 768, 16), (256, 768, 8), (256, 768, 4)),
}


def main() -> None:
    device = device_asked(__doc__)
    print(f"{'':<46}{'cpu':>10}{'gpu':>10}{'other':>10}")
    for dtype in (torch.float32, torch.bfloat16):
        for num, channels, side in _SHAPES[device]:
            small = torch.randn(num, channels, side, side, device=device, dtype=dtype)
            large = torch.randn(num, channels, 2 * side, 2 * side, device=device, dtype=dtype)
            taps = 2 - torch.arange(-1, 2, dtype=dtype, device=device).abs()
            filters = (taps[:, None] * taps).expand(channels, 1, 3, 3) / 4
            up = {"stride": 2, "padding": 1, "output_padding": 1, "groups": channels}
            down = {"stride": 2, "padding": 1, "groups": channels}
            name = f"{str(dtype)[6:]} [{num}, {channels}, {side}, {side}]"
            by_convolution = _by(functional.conv_transpose2d, filters, up)
            rivals(f"{name} doubled", small, resampling_cpu.interpolated, resampling_gpu.interpolated, by_convolution)
            by_convolution = _by(functional.conv2d, filters, down)
            rivals(f"{name} from twice", large, resampling_cpu.gathered, resampling_gpu.gathered, by_convolution)
            rivals(f"{name} sums of 2 x 2", large, resampling_cpu.summed, resampling_gpu.summed, _sums)
            rivals(f"{name} repeated", small, resampling_cpu.repeated, resampling_gpu.repeated, _repeats)


def device_asked(description: str | None) -> str:
    """What `--device` says; from then on nothing has gradients, and a CPU one thread."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=list(_SHAPES))
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    device: str = parser.parse_args().device
    return device


def _by(convolution: Callable[..., Tensor], filters: Tensor, geometry: dict[str, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: convolution(x, filters, **geometry)


def _sums(x: Tensor) -> Tensor:
    num, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).view(num, height // 2, 2, width // 2, 2, channels)
    return pixels.sum((2, 4)).permute(0, 3, 1, 2)


def _repeats(x: Tensor) -> Tensor:
    num, channels, height, width = x.shape
    four = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(num, height, 2, width, 2, channels)
    return four.reshape(num, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


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
    print(f"{name:<46}" + "".join(f"{1e3 * statistics.median(times[1:]):>10.3f}" for times in took), flush=True)


if __name__ == "__main__":
    main()
