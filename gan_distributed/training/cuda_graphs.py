"""Functions of tensors whose work on a GPU is recorded once, as a CUDA graph, and from then on launched as one.

A kernel of a small network is over before the next one can be launched, so launching is what takes the time. Recorded
are the pieces of a step between its reductions over ranks and its optimizers, whose constants move with the clock.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError
from gan_distributed.training.world import World

_Function = Callable[..., Any]


def uses_cuda_graphs(config: Config, world: World) -> bool:
    """Whether the pieces of a step are recorded: on a GPU, where the configuration says nothing else, and reductions do
    not begin within a piece.

    Raises ConfigError where they cannot be.
    """
    wanted, on_gpu = config.training.cuda_graphs, world.device.type == "cuda"
    if wanted and not on_gpu:
        raise ConfigError("training.cuda_graphs true needs a GPU, this worker has none; set it to null or to false")
    if wanted is None:
        overlaps = config.training.reduction_bucket_mb is not None and world.size > 1
        return on_gpu and not overlaps
    return wanted


def as_tensor(value: Tensor | float, device: torch.device) -> Tensor:
    """A number of the clock as float64 [], so that no graph takes it for a constant."""
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=torch.float64, device=device)


class CudaGraphs:
    """Calls functions, and where they are recorded, each as it was at its second call with such shapes.

    records: false to call them as they are.   fleeting: whether no result is used after the next call of any name, so
    that all may work in the same memory.

    A function may be another object each time; its name tells it. It must read no number on the host; what it reads or
    moves beside its inputs must stay where it is, and is seen as it was when it was recorded, if it is no tensor.
    """

    def __init__(self, device: torch.device, *, records: bool, fleeting: bool = False) -> None:
        self.records, self._device = records, device
        self._known: set[Hashable] = set()
        self._graphs: dict[Hashable, _Function] = {}
        # In memory of its own nothing that is recorded earlier, and so may work there, writes over a result.
        self._pool = torch.cuda.graph_pool_handle() if records and fleeting else None

    def __call__(self, name: Hashable, function: _Function, *inputs: Tensor | float, copied: bool = False) -> Any:
        """What the function makes of the inputs; a number goes in as float64 [], where it is recorded.

        The next call of that name writes over its tensors, unless they are copied.
        """
        if not self.records:
            return function(*inputs)
        tensors = [as_tensor(one, self._device) for one in inputs]
        key = (name, *(one.shape for one in tensors))
        if key not in self._known:
            # Libraries choose their kernels, and allocate, at their first call.
            self._known.add(key)
            return function(*tensors)
        if key not in self._graphs:
            self._graphs[key] = self._recorded(function, tensors)
        made = self._graphs[key](tensors)
        return tree_map_only(Tensor, torch.clone, made) if copied else made

    def _recorded(self, function: _Function, inputs: Sequence[Tensor]) -> _Function:
        places = [one.clone() for one in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads copy batches and checkpoints meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                made = function(*places)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ConfigError(
                f"training.cuda_graphs: the step cannot be recorded ({str(error).splitlines()[0]}); the host must read "
                "no number of a tensor, as a network or loss of one's own may; set training.cuda_graphs to false to do "
                "without"
            ) from error

        def replayed(news: Sequence[Tensor]) -> Any:
            for place, new in zip(places, news, strict=True):
                place.copy_(new, non_blocking=True)
            graph.replay()
            return made

        return replayed
