"""Adam for one network, which takes its decision to skip from a tensor instead of asking the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_distributed.config import AdamConfig


def build_optimizer(network: nn.Module, config: AdamConfig) -> torch.optim.Adam:
    """Fused Adam over all parameters of a network; the learning rate is set at each step."""
    return torch.optim.Adam(
        network.parameters(), lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=True
    )


def apply_gradients(optimizer: torch.optim.Adam, gradients: Sequence[Tensor], lr: float, ok: Tensor) -> None:
    """One step where ok (bool []) is true; else parameters, moments and step counts keep every byte.

    The fused kernels read `found_inf`, as torch's own gradient scaler sets it, so nothing waits for the device.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            parameter.grad = gradient
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = (~ok).to(torch.float32)  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients, float64 []; not finite where an element is not, or a square overflows."""
    norms = torch._foreach_norm(list(gradients))
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms).double())
    return norm
