"""A small classifier, fitted on the labels of a prepared data set, whose last hidden layer are the `dataset` features.

It works offline and knows the data's own classes. Holds no storage: `networks` keeps what is fitted here.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.randomness import Draws, key_of, permutation

FEATURES = 128
# (channels, kernel, stride) of each convolution.
_LAYERS = ((24, 5, 2), (48, 3, 2), (96, 3, 2), (FEATURES, 3, 1))
_LARGEST = 32


@dataclass(frozen=True)
class FitSettings:
    """How the classifier is fitted; part of its identity.

    epochs over at most max_images images, within bounds of images shown in all. The share held_out of the images only
    tells the accuracy.
    """

    epochs: int = 5
    max_images: int = 100_000
    min_shown: int = 20_000
    max_shown: int = 200_000
    held_out: float = 0.1
    batch_size: int = 128
    lr: float = 2e-3

    def num_shown(self, num: int) -> int:
        """Images shown to the classifier in all, of a set of so many."""
        return max(self.min_shown, min(self.epochs * num, self.max_shown))


@dataclass(frozen=True)
class Fitted:
    """The weights by name, and the share of held-out images whose class is told right."""

    weights: dict[str, NDArray[np.float32]]
    accuracy: float


class Classifier(nn.Module):
    """Images to features, float32 [N, 128], the mean over places of the last layer; and to logits of the classes."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = [channels, *(width for width, _, _ in _LAYERS)]
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[index], width, kernel, stride, kernel // 2)
            for index, (width, kernel, stride) in enumerate(_LAYERS)
        )
        self.to_logits = nn.Linear(FEATURES, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: uint8 [N, C, H, W]."""
        x = shrink(images.float() / 127.5 - 1)
        for conv in self.convs:
            x = functional.relu(conv(x))
        features = x.mean((2, 3))
        return features, self.to_logits(features)


def resizer(resolution: int) -> str:
    """How the classifier brings images to its size, for the protocol."""
    return f"area {resolution} to {_LARGEST}" if resolution > _LARGEST else "none"


def shrink(images: Tensor) -> Tensor:
    """Float [N, C, H, W] to at most 32 px by means of areas."""
    return images if images.shape[2] <= _LARGEST else functional.adaptive_avg_pool2d(images, _LARGEST)


def empty_classifier(channels: int, num_classes: int) -> Classifier:
    """A classifier without values, to load weights into; nothing is drawn."""
    with torch.device("meta"):
        network = Classifier(channels, num_classes)
    return network.to_empty(device="cpu")


def fit(
    rows: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int, settings: FitSettings, device: torch.device
) -> Fitted:
    """Fit with Adam (Kingma & Ba 2015) and a half-cosine of the learning rate; the same bytes for the same input.

    rows: uint8 [N, H, W, C].   labels: int64 [N].
    """
    network = empty_classifier(rows.shape[3], num_classes)
    _initialize(network)
    network.to(device).to(memory_format=torch.channels_last)
    order = permutation(key_of("classifier", "held out"), len(rows))
    num_held_out = max(1, round(settings.held_out * len(rows)))
    held_out, shown = order[:num_held_out], order[num_held_out:]
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    steps = settings.num_shown(len(shown)) // settings.batch_size
    turns = _turns(shown, settings.batch_size)
    for step in range(steps):
        chosen = next(turns)
        optimizer.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * step / steps)) / 2
        _, logits = network(_images(rows[chosen], device))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    accuracy = _accuracy(network.eval(), rows, labels, held_out, device)
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    return Fitted(weights, accuracy)


def _turns(rows: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Batches of at most so many rows without end, in another order each epoch."""
    for epoch in itertools.count():
        turn = rows[permutation(key_of("classifier", "order", epoch), len(rows))]
        yield from np.array_split(turn, -(-len(rows) // batch_size))


@torch.no_grad()
def _accuracy(
    network: Classifier,
    rows: NDArray[np.uint8],
    labels: NDArray[np.int64],
    chosen: NDArray[np.int64],
    device: torch.device,
) -> float:
    right = 0
    for part in np.array_split(chosen, -(-len(chosen) // 512)):
        _, logits = network(_images(rows[part], device))
        right += int((logits.argmax(1).cpu().numpy() == labels[part]).sum())
    return right / len(chosen)


def _images(rows: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(rows).to(device).permute(0, 3, 1, 2)


def _initialize(network: Classifier) -> None:
    """He et al. 2015: N(0, 2 / inputs); biases 0."""
    place = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
                continue
            draws = Draws(key_of("classifier", name), place).normal(parameter.numel())
            parameter.copy_(draws.reshape(parameter.shape) * math.sqrt(2 / parameter[0].numel()))
