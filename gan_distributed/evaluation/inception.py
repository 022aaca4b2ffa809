"""Inception-v3 as FID needs it: the network of 2015-12-05 (Szegedy et al. 2016), by the names of its PyTorch weights.

It differs from torchvision's: 1008 classes, average pools that leave padding out of the mean, and a max pool in the
last block. Images are resized bilinearly the way TensorFlow 1 did, with corners at 0 instead of half a pixel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 2048
_CLASSES = 1008
_SIZE = 299


class _Conv(nn.Module):
    """Convolution, batch norm with fixed statistics, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padding: str = "valid"
    ):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (height // 2, width // 2) if padding == "same" else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu(self.bn(self.conv(x)))
        return y


def _same(inputs: int, outputs: int, kernel: int | tuple[int, int]) -> _Conv:
    return _Conv(inputs, outputs, kernel, padding="same")


def _mean_pool(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _BlockA(nn.Module):
    """35 x 35."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inputs, 48, 1), _same(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 64, 1), _same(64, 96, 3)
        self.branch3x3dbl_3 = _same(96, 96, 3)
        self.branch_pool = _Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_mean_pool(x))], 1)


class _BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 64, 1), _same(64, 96, 3)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, 2)], 1)


class _BlockC(nn.Module):
    """17 x 17, with kernels of one row and one column."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = _Conv(inputs, inner, 1), _same(inner, inner, (1, 7))
        self.branch7x7_3 = _same(inner, 192, (7, 1))
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _Conv(inputs, inner, 1), _same(inner, inner, (7, 1))
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _same(inner, inner, (1, 7)), _same(inner, inner, (7, 1))
        self.branch7x7dbl_5 = _same(inner, 192, (1, 7))
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_mean_pool(x))], 1)


class _BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(inputs, 192, 1), _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _Conv(inputs, 192, 1), _same(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = _same(192, 192, (7, 1)), _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, functional.max_pool2d(x, 3, 2)], 1)


class _BlockE(nn.Module):
    """8 x 8, with branches that split in two at their end."""

    def __init__(self, inputs: int, pool_is_max: bool) -> None:
        super().__init__()
        self.pool_is_max = pool_is_max
        self.branch1x1 = _Conv(inputs, 320, 1)
        self.branch3x3_1 = _Conv(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _same(384, 384, (1, 3)), _same(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 448, 1), _same(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _same(384, 384, (1, 3)), _same(384, 384, (3, 1))
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        # The pool of the last block is a maximum in the published network.
        pooled = functional.max_pool2d(x, 3, 1, 1) if self.pool_is_max else _mean_pool(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class Inception(nn.Module):
    """Images to features of the last pool and to logits without their bias, which the inception score is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = _Conv(3, 32, 3, stride=2), _Conv(32, 32, 3)
        self.Conv2d_2b_3x3, self.Conv2d_3b_1x1 = _same(32, 64, 3), _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _BlockA(192, 32), _BlockA(256, 64), _BlockA(288, 64)
        self.Mixed_6a, self.Mixed_6b = _BlockB(288), _BlockC(768, 128)
        self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _BlockC(768, 160), _BlockC(768, 160), _BlockC(768, 192)
        self.Mixed_7a, self.Mixed_7b = _BlockD(768), _BlockE(1280, pool_is_max=False)
        self.Mixed_7c = _BlockE(2048, pool_is_max=True)
        self.fc = nn.Linear(FEATURES, _CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: uint8 [N, 3, H, W].   Returns float32 [N, 2048] and [N, 1008]."""
        x = (resize(images.float()) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        # [N, 192, 35, 35]
        x = functional.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2))), 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        # [N, 768, 17, 17]
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        # [N, 2048, 8, 8]
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T


def resize(images: Tensor) -> Tensor:
    """Bilinear to 299 x 299 as TensorFlow 1 did: pixel i of the result lies at i x size / 299 of the image."""
    rows = _interpolation(images.shape[2]).to(images)
    columns = _interpolation(images.shape[3]).to(images)
    return rows @ images @ columns.T


def _interpolation(size: int) -> Tensor:
    """Weights of `size` pixels in each of the result, float32 [299, size]."""
    # In float32, as the original did; the nearest pixel below depends on it.
    places = torch.arange(_SIZE, dtype=torch.float32) * torch.tensor(size / _SIZE, dtype=torch.float32)
    below = places.long()
    share = (places - below)[:, None]
    low = functional.one_hot(below, size)
    high = functional.one_hot((below + 1).clamp_max(size - 1), size)
    return low * (1 - share) + high * share
