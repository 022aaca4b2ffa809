"""Spectral norm: layers whose weight is divided by its largest singular value (Miyato et al. 2018).

The singular vectors are buffers that no forward pass moves. Whoever trains the network brings them on by one power
iteration after each change of the weights (the paper's algorithm 1), so any number of passes sees the same weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.models.convolution import conv2d, lowered
from gan_distributed.randomness import Draws

_FIRST_ITERATIONS = 15


class SpectralLayer(nn.Module):
    """A layer with a weight [rows, …] and its singular vectors: left [rows] and right [columns]."""

    weight: Tensor
    left: Tensor
    right: Tensor

    def _add_vectors(self) -> None:
        self.register_buffer("left", torch.zeros(self.weight.shape[0]))
        self.register_buffer("right", torch.zeros(self.weight[0].numel()))

    def normalized_weight(self) -> Tensor:
        """The weight over its largest singular value, in the weight's own precision."""
        with torch.autocast(self.weight.device.type, enabled=False):
            right = _in_memory_order(self.right.view(1, *self.weight.shape[1:]), self.weight)[0]
            return self.weight / self.left.dot(_in_memory_order(self.weight, self.weight).mv(right))

    @torch.no_grad()
    def iterated(self) -> tuple[Tensor, Tensor]:
        """Left and right after one more power iteration; the buffers stay."""
        matrix = _in_memory_order(self.weight, self.weight)
        right = functional.normalize(matrix.T.mv(self.left), dim=0)
        left = functional.normalize(matrix.mv(right), dim=0)
        if _has_channels_last(self.weight):
            right = right.view(*self.weight.shape[2:], -1).movedim(-1, 0).flatten()
        return left, right

    @torch.no_grad()
    def start_vectors(self, draws: Draws) -> None:
        """Draw the vectors anew and bring them near the weight's own. draws: of one position."""
        self.left.copy_(functional.normalize(draws.normal(len(self.left))[0], dim=0))
        for _ in range(_FIRST_ITERATIONS):
            left, right = self.iterated()
            self.left.copy_(left)
            self.right.copy_(right)


def _in_memory_order(weight: Tensor, like: Tensor) -> Tensor:
    """[rows, …] as a matrix whose columns lie as those of `like`, which lays nothing as large as a weight out anew."""
    return (weight.movedim(1, -1) if _has_channels_last(like) else weight).flatten(1)


def _has_channels_last(weight: Tensor) -> bool:
    return weight.dim() == 4 and weight.stride(1) == 1


class SpectralConv2d(nn.Conv2d, SpectralLayer):
    """Convolution of stride 1 that keeps the size; its weight as a matrix is [out, in x kernel x kernel]."""

    def __init__(self, above: int, below: int, kernel_size: int, *, bias: bool = True) -> None:
        super().__init__(above, below, kernel_size, padding=kernel_size // 2, bias=bias)
        self._add_vectors()

    def forward(self, x: Tensor, pooled: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """x: float [N, in, H, W].   Returns [N, out, H, W], or its means by `pooled`, before which no bias is added."""
        if pooled is None:
            return conv2d(x, self.normalized_weight(), self.bias, like=self)
        y = pooled(conv2d(x, self.normalized_weight(), like=self))
        return y if self.bias is None else y + lowered(self.bias)[:, None, None]


class SpectralLinear(nn.Linear, SpectralLayer):
    """Linear layer."""

    def __init__(self, above: int, below: int, *, bias: bool = True) -> None:
        super().__init__(above, below, bias)
        self._add_vectors()

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, in].   Returns [N, out]."""
        return functional.linear(x, self.normalized_weight(), self.bias)


class SpectralEmbedding(nn.Embedding, SpectralLayer):
    """A vector a class; the table of all of them is the matrix."""

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__(num_classes, features)
        self._add_vectors()

    def forward(self, labels: Tensor) -> Tensor:
        """labels: int64 [N].   Returns float [N, features]."""
        return functional.embedding(labels, self.normalized_weight())


class ProjectionHead(nn.Module):
    """Features to a logit; with classes, plus their product with the class's vector (Miyato & Koyama 2018, eq. 3).

    Computed in the weights' own precision.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = SpectralLinear(features, 1)
        self.embed = SpectralEmbedding(num_classes, features) if num_classes else None

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x: float [N, features, H, W], summed over pixels.   labels: int64 [N].   Returns logits, float [N]."""
        with torch.autocast(x.device.type, enabled=False):
            features = x.to(self.linear.weight.dtype).sum((2, 3))
            logits: Tensor = self.linear(features).squeeze(1)
            if self.embed is not None:
                logits = logits + (self.embed(labels) * features).sum(1)
            return logits
