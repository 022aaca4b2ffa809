"""Convolution with a second derivative as cheap as its first, which gradient penalties take at every step.

autograd's own second derivative lays activations out anew and convolves them with each other, in groups slowly. The
same numbers are the weight gradient of an ordinary convolution, for which libraries have a fast way. With penalties a
discriminator step takes 0.6 to 0.7 times as long for r3gan and 0.8 to 0.95 for dcgan (32 px, width 32, one CPU core;
bf16 and float32); not yet measured on a GPU.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.models import grouped

# Process-wide, since autograd runs the backward pass of a GPU in a thread of its own.
_is_torchs_own = False
_skips_weights = False
_weights_are_constant = False


@contextlib.contextmanager
def only_image_gradients() -> Iterator[None]:
    """Within, backward passes leave out the gradients of weights and biases, which the caller does not ask for.

    autograd does not tell a function which of its gradients are asked for.
    """
    global _skips_weights
    before, _skips_weights = _skips_weights, True
    try:
        yield
    finally:
        _skips_weights = before


@contextlib.contextmanager
def torchs_own() -> Iterator[None]:
    """Within, forward passes are those of torch itself with autograd's own derivatives: what ours are checked against.

    `only_image_gradients` and `constant_weights` have no effect on them.
    """
    global _is_torchs_own
    before, _is_torchs_own = _is_torchs_own, True
    try:
        yield
    finally:
        _is_torchs_own = before


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Within, forward passes take weights and biases for constants: of a network that this phase does not move.

    autograd leaves out what nobody asks for of its own functions only.
    """
    global _weights_are_constant
    before, _weights_are_constant = _weights_are_constant, True
    try:
        yield
    finally:
        _weights_are_constant = before


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, like: nn.Conv2d) -> Tensor:
    """`functional.conv2d` with the geometry of a layer; zeros outside, no dilation.

    x: float [N, in, H, W].   weight: float [out, in / groups, kernel, kernel].   Returns [N, out, H', W'].
    """
    if _is_torchs_own:
        return functional.conv2d(x, weight, bias, like.stride, like.padding, 1, like.groups)
    # Autocast knows nothing of our functions.
    x, weight, bias = lowered(x), lowered(weight), None if bias is None else lowered(bias)
    if not torch.is_grad_enabled():
        return _plain(x, weight, bias, like)
    if _weights_are_constant:
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    y: Tensor = _Convolution.apply(x, weight, bias, like)
    return y


def lowered(x: Tensor) -> Tensor:
    """A tensor in the precision of autocast, where it is on."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` by `conv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, in, H, W].   Returns [N, out, H', W']."""
        return conv2d(x, self.weight, self.bias, like=self)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
        return _plain(x, weight, bias, like)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        x, weight, _, ctx.like = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wants_x, *wants_weights = ctx.needs_input_grad[:3]
        wanted = (wants_x, *(wants and not _skips_weights for wants in wants_weights))
        return *_Backward.apply(gradient, x, weight, ctx.like, wanted), None


class _Backward(torch.autograd.Function):
    """The gradients of a convolution; linear in each of its three tensors, so that its own are convolutions again."""

    @staticmethod
    def forward(gradient: Tensor, x: Tensor, weight: Tensor, like: nn.Conv2d, wanted: tuple[bool, ...]) -> Any:
        return _gradients(gradient, x, weight, like, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        gradient, x, weight, ctx.like, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient, x, weight)

    @staticmethod
    def backward(ctx: Any, of_x: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None) -> Any:
        gradient, x, weight = ctx.saved_tensors
        like = ctx.like
        at_gradient, at_x, at_weight = [], None, None
        if of_x is not None:
            at_gradient.append(_plain(of_x, weight, None, like))
            at_weight = _gradients(gradient, of_x, weight, like, (False, True, False))[1]
        if of_weight is not None:
            at_gradient.append(_plain(x, of_weight, None, like))
            at_x = _gradients(gradient, x, of_weight, like, (True, False, False))[0]
        if of_bias is not None:
            at_gradient.append(of_bias[:, None, None].expand_as(gradient))
        return sum(at_gradient[1:], at_gradient[0]) if at_gradient else None, at_x, at_weight, None, None


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    if grouped.suits(x, like):
        y = grouped.convolve(x, weight, int(like.padding[0]), like.groups)
        return y if bias is None else y + bias[:, None, None]
    return functional.conv2d(x, weight, bias, like.stride, like.padding, 1, like.groups)


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, like: nn.Conv2d, wanted: tuple[bool, ...]) -> Any:
    """At x, the weight and the bias; None where not wanted."""
    if grouped.suits(x, like):
        return grouped.gradients(gradient, x, weight, int(like.padding[0]), like.groups, wanted)
    geometry = (list(like.stride), list(like.padding), [1, 1], False, [0, 0], like.groups)
    made = torch.ops.aten.convolution_backward(gradient, x, weight, [weight.shape[0]], *geometry, list(wanted))
    if made[0] is None or x.stride(1) != 1:
        return made
    # Kernels for groups of one channel lay it out channels first.
    return made[0].contiguous(memory_format=torch.channels_last), *made[1:]
