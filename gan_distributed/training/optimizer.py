"""Adam for one network, which takes its decision to skip from a tensor instead of asking the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from gan_distributed.config import AdamConfig
from gan_distributed.training.schedule import value_at


def build_optimizer(network: nn.Module, config: AdamConfig) -> torch.optim.Adam:
    """Fused Adam over all parameters of a network, its moments in place; lr and beta2 are given at each step."""
    parameters = list(network.parameters())
    betas = config.beta1, value_at(config.beta2, 0)
    optimizer = torch.optim.Adam(parameters, lr=0.0, betas=betas, eps=config.eps, fused=True)
    for parameter in parameters:
        # Made here rather than by a first step, so that they are there to be copied before it.
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def optimizer_tensors(optimizer: torch.optim.Adam) -> list[Tensor]:
    """Moments and step counts, in place: what a step moves beside the parameters."""
    return [value for moments in optimizer.state.values() for value in moments.values() if isinstance(value, Tensor)]


@torch.no_grad()
def apply_gradients(
    optimizer: torch.optim.Adam, gradients: Sequence[Tensor], lr: float, beta2: float, ok: Tensor
) -> None:
    """One step where ok (bool []) is true; else parameters, moments and step counts keep every byte.

    The fused kernels read `found_inf`, as torch's own gradient scaler sets it, so nothing waits for the device. This is
    torch's functional Adam on the optimizer's own tensors: `optimizer.step()` adds about half a millisecond of Python.
    """
    (group,) = optimizer.param_groups
    moments = [optimizer.state[parameter] for parameter in group["params"]]
    adam(
        group["params"],
        list(gradients),
        [one["exp_avg"] for one in moments],
        [one["exp_avg_sq"] for one in moments],
        [],
        [one["step"] for one in moments],
        fused=True,
        found_inf=(~ok).to(torch.float32),
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=beta2,
        lr=lr,
        weight_decay=0.0,
        eps=group["eps"],
        maximize=False,
    )


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients, float64 []; not finite where an element is not, or a square overflows."""
    norms = torch._foreach_norm(list(gradients))
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms).double())
    return norm
