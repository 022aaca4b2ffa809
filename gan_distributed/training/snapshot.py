"""A copy of the state as it was at one step, taken on the device; it reaches the host while training goes on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """Nested dictionaries and lists of tensors and plain values, copied.

    On the CPU the copy is made at once. On a GPU it is queued between this step and the next, and fetched from there on
    a stream of its own: the host waits for nothing, and the copy takes the state's size of the GPU's memory meanwhile.
    """

    def __init__(self, values: dict[str, Any], device: torch.device) -> None:
        self._fetched: torch.cuda.Event | None = None
        if device.type != "cuda":
            self._values: dict[str, Any] = _mapped(values, lambda tensor: tensor.detach().to("cpu", copy=True))
            return
        with torch.cuda.device(device):
            copied = _mapped(values, lambda tensor: tensor.detach().clone())
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._values = _mapped(copied, lambda tensor: _fetch(tensor, stream))
                self._fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
                self._fetched.record()

    def on_host(self) -> dict[str, Any]:
        """The values, once they are all on the host; any thread may wait."""
        if self._fetched is not None:
            self._fetched.synchronize()
        return self._values


def _fetch(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor
    # Its memory may be used again when the stream has read it.
    tensor.record_stream(stream)
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value
