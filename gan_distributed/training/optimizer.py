"""Adam for one network, which takes its decision to skip from a tensor instead of asking the device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from gan_distributed.config import AdamConfig
from gan_distributed.training.schedule import value_at


class Adam:
    """All parameters of a network with their moments in place; lr and beta2 are given at each step.

    Its state is saved as torch.optim.Adam saves it. That class itself brings torch's compiler along, whose import takes
    as long as that of all else of torch together: 3.2 of 7.9 s of CPU time from the start to the first step.
    """

    def __init__(self, parameters: Sequence[Tensor], beta1: float, beta2: float, eps: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.beta1, self.eps = beta1, eps
        self._first_beta2 = beta2
        self.state = {
            parameter: {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for parameter in self.parameters
        }

    def moments(self) -> list[dict[str, Tensor]]:
        """Step count and moments of each parameter, in place."""
        return [self.state[parameter] for parameter in self.parameters]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        group = {
            "lr": 0.0,
            "betas": (self.beta1, self._first_beta2),
            "eps": self.eps,
            "params": list(range(len(self.parameters))),
        }
        return {"state": dict(enumerate(self.moments())), "param_groups": [group]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over saved moments; the constants stay. Raises ValueError where they do not fit."""
        if saved["state"].keys() != set(range(len(self.parameters))):
            raise ValueError(f"moments of {len(saved['state'])} parameters, the network has {len(self.parameters)}")
        for index, mine in enumerate(self.moments()):
            for name, tensor in mine.items():
                other = saved["state"][index][name]
                if other.shape != tensor.shape:
                    raise ValueError(
                        f"{name} of parameter {index}: shape {list(other.shape)}, not {list(tensor.shape)}"
                    )
                tensor.copy_(other)


def build_optimizer(network: nn.Module, config: AdamConfig) -> Adam:
    """Adam over all parameters of a network."""
    return Adam(list(network.parameters()), config.beta1, value_at(config.beta2, 0), config.eps)


def optimizer_tensors(optimizer: Adam) -> list[Tensor]:
    """Moments and step counts, in place: what a step moves beside the parameters."""
    return [tensor for moments in optimizer.moments() for tensor in moments.values()]


@torch.no_grad()
def apply_gradients(optimizer: Adam, gradients: Sequence[Tensor], lr: float, beta2: float, ok: Tensor) -> None:
    """One step where ok (bool []) is true; else parameters, moments and step counts keep every byte.

    The fused kernels read `found_inf`, as torch's own gradient scaler sets it, so nothing waits for the device. This is
    torch's functional Adam on the optimizer's own tensors.
    """
    moments = optimizer.moments()
    adam(
        optimizer.parameters,
        list(gradients),
        [one["exp_avg"] for one in moments],
        [one["exp_avg_sq"] for one in moments],
        [],
        [one["step"] for one in moments],
        fused=True,
        found_inf=(~ok).to(torch.float32),
        amsgrad=False,
        beta1=optimizer.beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=0.0,
        eps=optimizer.eps,
        maximize=False,
    )


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients, float64 []; not finite where an element is not, or a square overflows."""
    norms = torch._foreach_norm(list(gradients))
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms).double())
    return norm
