"""What one training step asks of a device, counted on the step's own phases with tensors that have no values.

Counted are arithmetic, bytes and kernels of eager PyTorch; nothing is computed, and nothing is timed.
"""

import collections
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan_distributed.config import Config
from gan_distributed.models.networks import ImageSpec, empty_discriminator, empty_generator
from gan_distributed.training.parts import DeviceBatch, Part, Partition
from gan_distributed.training.phases import Phases
from gan_distributed.training.precision import dtype_of
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

_ATEN = torch.ops.aten
# They start no kernel.
_IDLE = {"alias", "detach", "_unsafe_view", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty"}
# Bytes that Adam and the average, or the copy for undoing a step, read and write for a weight.
_GENERATOR_BYTES, _DISCRIMINATOR_BYTES = 28 + 12, 28 + 24


@dataclass(frozen=True)
class StepWork:
    """One rank's part of one step, discriminator steps and penalties included; of lazy ones the mean.

    flops: of convolutions and matrix products, two a multiplication.   moved_bytes: what each kernel reads and writes.
    """

    flops: float
    moved_bytes: float
    kernels: float

    def __add__(self, other: "StepWork") -> "StepWork":
        return StepWork(self.flops + other.flops, self.moved_bytes + other.moved_bytes, self.kernels + other.kernels)

    def __mul__(self, times: float) -> "StepWork":
        return StepWork(self.flops * times, self.moved_bytes * times, self.kernels * times)


def step_work(config: Config, images: ImageSpec, local_batch: int, precision: str) -> StepWork:
    """The work of a rank that takes local_batch images of each batch, in the middle of the run."""
    groups = max(1, config.model.batch_norm_groups * local_batch // config.training.batch_size)
    training = config.training.model_copy(update={"batch_size": local_batch, "precision": precision})
    model = config.model.model_copy(update={"batch_norm_groups": groups})
    config = config.model_copy(update={"training": training, "model": model})
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return _counted(config, _Shapes(config, images), local_batch)


class _Shapes(TrainState):
    """What the phases read of a state: networks whose weights have shapes and no values."""

    def __init__(self, config: Config, images: ImageSpec) -> None:
        self.dtype, self.images = dtype_of(config), images
        self.generator = empty_generator(config.model, images)
        self.discriminator = empty_discriminator(config.model, images)
        self.augment_p = torch.full((), 0.5, dtype=torch.float64)
        self.seen_images = self.rollbacks = 0


def _counted(config: Config, state: TrainState, local_batch: int) -> StepWork:
    world, side = World(), state.images.resolution
    rows = torch.zeros((local_batch, side, side, state.images.channels), dtype=torch.uint8)
    labels, positions = torch.zeros(local_batch, dtype=torch.int64), torch.arange(local_batch)
    phases = Phases(config, state, world, shared_groups=False)
    steps, loss = config.training.discriminator_steps, config.loss
    penalties = ((loss.r1_gamma, loss.r1_every), (loss.r2_gamma, loss.r2_every), (loss.gp_weight, loss.gp_every))
    intervals = [every for weight, every in penalties if weight != 0]
    cycle = math.lcm(*intervals)
    # How often each set of penalties is due in a cycle, by the first time that it is.
    due: dict[tuple[bool, ...], list[int]] = collections.defaultdict(list)
    for number in range(cycle):
        due[tuple(number % every == 0 for every in intervals)].append(number)
    middle = round(500 * config.training.total_kimg / local_batch / cycle) * cycle
    drawing = _Counter()
    with drawing:
        parts = Partition(config, world, state.dtype)([DeviceBatch(rows, labels, positions)] * steps, 0)
    total = drawing.work
    for numbers in due.values():
        state.seen_images = (middle + numbers[0]) * local_batch
        total += _phase(phases.discriminator, parts[0], state.discriminator) * (steps * len(numbers) / cycle)
    total += _phase(phases.generator, parts[-1], state.generator)
    weights = [sum(each.numel() for each in net.parameters()) for net in (state.generator, state.discriminator)]
    return total + StepWork(0, _GENERATOR_BYTES * weights[0] + _DISCRIMINATOR_BYTES * weights[1] * steps, 0)


def _phase(phase: Callable[[Part], tuple[Tensor, Tensor]], parts: list[Part], network: nn.Module) -> StepWork:
    counter = _Counter()
    with counter:
        for part in parts:
            loss, _ = phase(part)
            torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return counter.work


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what is called within."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = StepWork(0, 0, 0)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        if function.namespace == "aten" and not function.is_view and packet.__name__ not in _IDLE:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.work += StepWork(2 * _multiplications(packet, args, out), moved, 1)
        return out


def _multiplications(packet: Any, args: Any, out: Any) -> int:
    """Of a convolution, in groups or not, or a matrix product; torch's own counter takes groups for none."""
    if packet is _ATEN.convolution:
        x, weight, is_transposed = args[0], args[1], args[6]
        return int((x if is_transposed else out).numel() * weight[0].numel())
    if packet is _ATEN.convolution_backward:
        gradient, x, weight, *_ = args
        is_transposed, wanted = args[7], args[10]
        # The gradients at x and at the weight cost as much as the convolution itself, each.
        return int((x if is_transposed else gradient).numel() * weight[0].numel() * sum(map(bool, wanted[:2])))
    if packet in (_ATEN.mm, _ATEN.bmm):
        return int(args[0].numel() * args[1].shape[-1])
    if packet in (_ATEN.addmm, _ATEN.baddbmm):
        return int(args[1].numel() * args[2].shape[-1])
    return 0
