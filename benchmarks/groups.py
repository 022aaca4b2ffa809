"""Convolutions in groups on few pixels in float32: ours as products of matrices, against torch's own.

    python benchmarks/groups.py [--device cuda]

Milliseconds a call, medians of interleaved rounds, channels last, without tf32: r3gan's stage of 4 px and its last
layer, a channel a group. On a CPU of one thread and at a quarter of the width.
"""

import torch
from resampling import device_asked, rivals
from torch import Tensor
from torch.nn import functional

from gan_distributed.models import grouped

# Samples, and by device the part of the width.
_SAMPLES = 256
_PARTS = {"cpu": 4, "cuda": 1}


def main() -> None:
    device = device_asked(__doc__)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(f"{'':<46}{'products':>10}{'torch':>10}")
    for channels, groups, kernel, padding in ((1536, 96, 3, 1), (768, 768, 4, 0)):
        part = _PARTS[device]
        compare(device, channels // part, groups // part, kernel, padding)


def compare(device: str, channels: int, groups: int, kernel: int, padding: int) -> None:
    x = torch.randn(_SAMPLES, channels, 4, 4, device=device)
    weight = torch.randn(channels, channels // groups, kernel, kernel, device=device)
    y = torch.randn_like(functional.conv2d(x, weight, padding=padding, groups=groups))
    y = y.contiguous(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    name = f"{list(x.shape)} in {groups} groups"

    def by_torch(wanted: tuple[bool, bool, bool], gradient: Tensor) -> object:
        geometry = ([1, 1], [padding] * 2, [1, 1], False, [0, 0], groups)
        return torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, list(wanted))

    rivals(
        f"{name} forward",
        x,
        lambda x: grouped.convolve(x, weight, padding, groups),
        lambda x: functional.conv2d(x, weight, padding=padding, groups=groups),
    )
    for what, wanted in (("at x", (True, False, False)), ("at weight", (False, True, False))):
        rivals(
            f"{name} {what}",
            y,
            lambda y: grouped.gradients(y, x, weight, padding, groups, wanted),  # noqa: B023 - called here
            lambda y: by_torch(wanted, y),  # noqa: B023 - called here
        )


if __name__ == "__main__":
    main()
