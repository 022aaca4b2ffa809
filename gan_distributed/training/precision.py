"""In which numbers a run computes: chosen at its first start by the device found there, recorded, and kept.

bf16 is autocast over float32 weights; logits, losses, penalties and statistics stay in float32, and so do reductions,
but for those of gradients where it is asked for.
"""

import torch

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError

_DTYPES = {"float32": torch.float32, "bf16": torch.float32, "tf32": torch.float32, "float64": torch.float64}
# Tensor cores that take float32 came with it.
_TF32_CAPABILITY = (8, 0)


def dtype_of(config: Config) -> torch.dtype:
    """What weights, logits and losses are held in. A configuration that was not resolved counts as float32."""
    return _DTYPES[config.training.precision or "float32"]


def reduction_dtype(config: Config) -> torch.dtype | None:
    """What gradients are summed over ranks in; None: what they were computed in."""
    return torch.bfloat16 if config.training.reduction_precision == "bf16" else None


def with_precision(config: Config, before: Config | None, device: torch.device) -> Config:
    """The configuration with a precision: the one it names, else that of the run's first start, else the device's.

    before: what the run recorded.   Raises ConfigError where the device cannot compute so.
    """
    config = as_recorded(config, before)
    if config.training.precision is None:
        config = _with(config, "bf16" if _is_quick_at_bf16(device) else "float32")
    if config.training.precision == "tf32" and not _has_tf32(device):
        raise ConfigError(
            f"training.precision tf32 needs a GPU of compute capability 8.0 or more, this worker has {_told(device)}; "
            "start a new run with float32 or bf16, or resume this one on such a GPU"
        )
    return config


def as_recorded(config: Config, before: Config | None) -> Config:
    """A configuration that leaves the precision open takes that of the run's first start."""
    if before is None or config.training.precision is not None:
        return config
    return _with(config, before.training.precision)


def set_precision(config: Config, device: torch.device) -> None:
    """Tell torch's libraries, in this process; by its own defaults float32 convolutions on a GPU are tf32."""
    if device.type != "cuda":
        return
    mode = "tf32" if config.training.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]


def _with(config: Config, precision: str | None) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})


def _is_quick_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    # Without such instructions bf16 is rounded in software, many times slower than float32.
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TF32_CAPABILITY


def _told(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
