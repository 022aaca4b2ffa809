"""A function of tensors with its derivatives, made one graph by torch.compile.

torch.compile has no second derivative of what it compiled, which penalties need. So the function and its backward
passes, as they are, are first written down as a list of tensor operations (torch.fx's make_fx), which it takes whole.
Weights and singular vectors stay where they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gan_distributed.errors import ConfigError

_Function = Callable[..., Any]


def compiled(function: _Function, inputs: Sequence[Tensor]) -> _Function:
    """The same function for tensors of these shapes, called once. Raises ConfigError where it cannot be compiled."""
    traced = _traced(function, inputs)
    graph: _Function = torch.compile(traced, fullgraph=True, dynamic=False)
    error = _failure(graph, inputs)
    if error is not None:
        # A process that was killed may have left half a library in the compiler's cache.
        from torch._inductor.utils import fresh_cache

        graph = torch.compile(traced, fullgraph=True, dynamic=False)
        with fresh_cache():
            error = _failure(graph, inputs)
    if error is not None:
        raise _not_compiled(error, "it needs a C++ compiler such as g++, on GPUs also Triton") from error
    # Nobody asks for derivatives of what holds them already.
    without_gradients: _Function = torch.no_grad()(graph)
    return without_gradients


def _traced(function: _Function, inputs: Sequence[Tensor]) -> _Function:
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        # Tensors without values pass through, so that none can become a constant of the graph.
        traced: _Function = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    except Exception as error:
        hint = "the host must read no number of a tensor, as a network or loss of one's own may"
        raise _not_compiled(error, hint) from error
    return traced


def _failure(graph: _Function, inputs: Sequence[Tensor]) -> Exception | None:
    """What went wrong at the graph's first call, at which it is compiled."""
    try:
        with torch.no_grad():
            graph(*inputs)
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and the caller tells which
        return error
    return None


def _not_compiled(error: Exception, hint: str) -> ConfigError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ConfigError(
        f"training.compile: torch.compile did not take the step ({type(error).__name__}: {lines[0] if lines else ''}); "
        f"{hint}; set training.compile to false to do without"
    )
