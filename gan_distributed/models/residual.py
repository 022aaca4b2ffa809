"""The residual blocks of SNGAN and BigGAN, for the way up and the way down (Miyato et al. 2018, fig. 8)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import relu

from gan_distributed.models.layers import BatchContext
from gan_distributed.models.resampling import downsample_mean, upsample_nearest
from gan_distributed.models.spectral import SpectralConv2d

# From (above, below, kernel_size) to a convolution without bias that keeps the size.
ConvolutionMaker = Callable[[int, int, int], nn.Module]


def plain_convolution(above: int, below: int, kernel_size: int) -> nn.Module:
    """A convolution without bias that keeps the size."""
    return nn.Conv2d(above, below, kernel_size, padding=kernel_size // 2, bias=False)


def spectral_convolution(above: int, below: int, kernel_size: int) -> nn.Module:
    """The same under spectral norm."""
    return SpectralConv2d(above, below, kernel_size, bias=False)


class UpBlock(nn.Module):
    """Norm, ReLU, convolution, twice; beside it a 1 x 1 convolution; doubles the size.

    No convolution has a bias: a batch norm follows each, here or in what comes after.
    norm: from channels to a norm layer.   The shortcut's convolution stands before the repetition of pixels, which
    gives the same numbers at a quarter of the work.
    """

    def __init__(self, above: int, below: int, norm: Callable[[int], nn.Module], convolution: ConvolutionMaker) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(above), norm(below)
        self.conv1, self.conv2 = convolution(above, below, 3), convolution(below, below, 3)
        self.shortcut = convolution(above, below, 1)

    def forward(self, x: Tensor, context: BatchContext | None, *condition: Tensor) -> Tensor:
        """x: float [N, above, H, W].   condition: what conditional norms take.   Returns [N, below, 2 H, 2 W]."""
        y = self.conv1(upsample_nearest(relu(self.norm1(x, context, *condition))))
        y = self.conv2(relu(self.norm2(y, context, *condition)))
        out: Tensor = y + upsample_nearest(self.shortcut(x))
        return out


class DownBlock(nn.Module):
    """ReLU, convolution, twice, under spectral norm and without batch norm; halves the size where told.

    inner: channels between the two.   first: the block that sees the image has no ReLU in front.
    The shortcut is the identity where neither size nor channels change; its means of pixels stand before its 1 x 1
    convolution, which gives the same numbers at a quarter of the work.
    """

    def __init__(self, above: int, inner: int, below: int, *, down: bool, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1, self.conv2 = SpectralConv2d(above, inner, 3), SpectralConv2d(inner, below, 3)
        self.shortcut = SpectralConv2d(above, below, 1) if down or above != below else None

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, above, H, W].   Returns [N, below, H / 2, W / 2], or of the same size."""
        y = relu(self.conv1(x if self.first else relu(x)))
        if self.down:
            x, y = downsample_mean(x), self.conv2(y, downsample_mean)
        else:
            y = self.conv2(y)
        out: Tensor = y + (x if self.shortcut is None else self.shortcut(x))
        return out
