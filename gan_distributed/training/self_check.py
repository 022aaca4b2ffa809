"""What is tried on two images before the first step, with the run's own networks and on its own device.

Penalties must reach the discriminator's gradient, in finite numbers, and our convolutions' derivatives must be those of
autograd; and what is compiled must be what it was made of. It moves nothing, and asks no other rank.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_distributed.config import Config, largest
from gan_distributed.errors import TrainingError
from gan_distributed.models.convolution import torchs_own
from gan_distributed.randomness import Draws, key_of
from gan_distributed.training.parts import DeviceBatch, Part
from gan_distributed.training.phases import Phases
from gan_distributed.training.state import TrainState
from gan_distributed.training.statistics import RunningStatistics
from gan_distributed.training.world import World

# Batch norm needs two.
_IMAGES = 2
# How far two ways to one gradient may be apart, as a share of its norm: far above rounding, far below a mistake.
_TOLERANCES = {"float64": 1e-6, "float32": 1e-2, "bf16": 1e-2, "tf32": 1e-1}
# Compiled, intermediate numbers are not rounded to bf16 between operations.
_COMPILED_TOLERANCES = _TOLERANCES | {"bf16": 2e-1}
_PENALTIES = {"r1_gamma": "r1_every", "r2_gamma": "r2_every", "gp_weight": "gp_every"}


def check_gradients(config: Config, state: TrainState, device: torch.device) -> None:
    """Raise TrainingError where the discriminator would not be trained as configured."""
    precision = config.training.precision or "float32"
    part = _tiny_part(config, state, device)
    plain = _gradients(_with_penalties(config, switched_on=False), state, part)
    if not _is_finite(plain):
        # Weights that are spoiled are no mistake of the program; such steps are skipped, and the run goes back.
        return
    ours = _gradients(_with_penalties(config, switched_on=True), state, part)
    if not _is_finite(ours):
        raise TrainingError(
            f"self-check: the gradients of the penalties are not finite on {device.type} in {precision}; try "
            "training.precision float32, under another --run-id"
        )
    if config.loss.has_penalty and _distance(ours, plain) == 0:
        raise TrainingError(
            "self-check: the penalties of the section loss leave no trace in the discriminator's gradient on "
            f"{device.type} in {precision}; this is a mistake of the program or of its libraries"
        )
    if precision == "bf16":
        # Two ways round differently, by how much no bound tells; the derivatives are the same program in float32.
        config = config.model_copy(update={"training": config.training.model_copy(update={"precision": "float32"})})
        ours = _gradients(_with_penalties(config, switched_on=True), state, part)
    with torchs_own():
        reference = _gradients(_with_penalties(config, switched_on=True), state, part)
    share = _distance(ours, reference) / max(_norm(reference), 1e-30)
    if not share <= _TOLERANCES[precision]:
        raise TrainingError(
            f"self-check: the discriminator's gradient is {share:.1e} of its norm away from autograd's own on "
            f"{device.type} in {precision}; this is a mistake of the program or of its libraries"
        )


def check_compiled(compiled: Sequence[Tensor | None], plain: Sequence[Tensor | None], precision: str) -> None:
    """Raise TrainingError where compiled gradients are not those taken as they are, on the same images."""
    found, wanted = ([one.double() for one in gradients if one is not None] for gradients in (compiled, plain))
    if not _is_finite(wanted):
        # As above.
        return
    share = _distance(found, wanted) / max(_norm(wanted), 1e-30)
    if not share <= _COMPILED_TOLERANCES[precision]:
        raise TrainingError(
            f"self-check: compiled gradients are {share:.1e} of their norm away from those taken as they are, in "
            f"{precision}; this is a mistake of the program or of its libraries, set training.compile to false"
        )


def _tiny_part(config: Config, state: TrainState, device: torch.device) -> Part:
    positions = torch.arange(_IMAGES, device=device)
    draws = Draws(key_of("self-check"), positions)
    side = state.images.resolution
    rows = draws.integers(256, side, side, state.images.channels).to(torch.uint8)
    labels = positions % max(1, state.images.num_classes)
    return Part(DeviceBatch(rows, labels, positions), draws.normal(config.model.latent_dim).to(state.dtype), None)


def _with_penalties(config: Config, *, switched_on: bool) -> Config:
    """The configuration with every penalty in every step and at its full weight, or with none."""
    update: dict[str, float] = {}
    for weight, every in _PENALTIES.items():
        update |= {weight: largest(getattr(config.loss, weight)) if switched_on else 0.0, every: 1}
    return config.model_copy(update={"loss": config.loss.model_copy(update=update)})


def _gradients(config: Config, state: TrainState, part: Part) -> list[Tensor]:
    """Those of the discriminator's weights, a zero where there is none."""
    device = part.latents.device
    phases = Phases(config, state, World(device=device), shared_groups=False)
    loss, _ = phases.discriminator(part)
    parameters = list(state.discriminator.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    # What batch norm observed of these images is for nobody.
    RunningStatistics(state.discriminator).commit(torch.zeros((), dtype=torch.bool, device=device))
    return [gradient.double() for gradient in gradients]


def _is_finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _distance(ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return _norm([one - other for one, other in zip(ones, others, strict=True)])


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt())
