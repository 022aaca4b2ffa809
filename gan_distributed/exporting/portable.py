"""The form in which a generator leaves the package: float32 in plain memory order, images within [-1, 1]."""

import copy

import torch
from torch import Tensor, nn

from gan_distributed.training.trained import Trained

# Any number above 1: the exporters take a batch of 0 or 1 for a constant.
_EXAMPLES = 2


class _Unconditional(nn.Module):
    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """z: float32 [N, latent_dim].   Returns float32 [N, C, H, W]."""
        # Not len(z), which is a constant for exporters.
        labels = torch.zeros(z.shape[0], dtype=torch.int64, device=z.device)
        images: Tensor = self.generator(z, labels)
        return images.clamp(-1.0, 1.0)


class _Conditional(_Unconditional):
    def forward(self, z: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """z: float32 [N, latent_dim].   labels: int64 [N].   Returns float32 [N, C, H, W]."""
        images: Tensor = self.generator(z, labels)
        return images.clamp(-1.0, 1.0)


def portable(trained: Trained) -> nn.Module:
    """A copy of the generator, on the CPU, whatever precision and memory layout it was trained in."""
    generator = copy.deepcopy(trained.generator).to("cpu", torch.float32)
    # The layout of training is for its kernels; other programs know one only.
    generator = generator.to(memory_format=torch.contiguous_format)
    network = _Conditional(generator) if trained.num_classes else _Unconditional(generator)
    return network.eval().requires_grad_(requires_grad=False)


def examples(trained: Trained, num: int = _EXAMPLES) -> tuple[Tensor, ...]:
    """Inputs of a portable generator: z, and labels where there are classes."""
    z = torch.linspace(-1.5, 1.5, num * trained.config.model.latent_dim).sin().reshape(num, -1)
    return (z, torch.arange(num) % trained.num_classes) if trained.num_classes else (z,)


def input_names(trained: Trained) -> list[str]:
    """Names of the inputs, in order."""
    return ["z", "labels"] if trained.num_classes else ["z"]
