"""The convolutions of a step alone: which ones it calls is noted in one step, then each is timed at the same shapes."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


class _Noted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function in _CONVOLUTIONS:
            self.calls[function, tuple(_described(one) for one in arguments)] += 1
        return function(*arguments, **(options or {}))


def convolutions_of(action: Callable[[], object]) -> Counter[Any]:
    """The calls that an action makes, by kernel, shapes, layouts and numbers."""
    with _Noted() as noted:
        action()
    return noted.calls


def seconds_of(calls: Counter[Any]) -> float:
    """CPU time of all of them, each run by itself once to warm up and once by the clock."""
    total = 0.0
    for (function, described), count in calls.items():
        arguments = [_made(one) for one in described]
        function(*arguments)
        started = time.process_time()
        function(*arguments)
        total += count * (time.process_time() - started)
    return total


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return "tensor", tuple(value.shape), tuple(value.stride()), value.dtype, value.device
    return tuple(value) if isinstance(value, list) else value


def _made(described: Any) -> Any:
    if isinstance(described, tuple) and described[:1] == ("tensor",):
        _, shape, stride, dtype, device = described
        return torch.empty_strided(shape, stride, dtype=dtype, device=device).normal_()
    return list(described) if isinstance(described, tuple) else described
