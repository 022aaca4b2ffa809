"""What data sheets say of GPUs, and how fast a step may be on one: bounds, and a range that one GPU's figures lie in.

Peaks are those of dense arithmetic: where a data sheet counts structured sparsity, it is halved. Sources: NVIDIA's data
sheets of V100 (2018), T4 (2019), A100 (2021), L4 and L40S (2023), H100 and H200 (2024) and DGX B200 (2024, an eighth of
it); of A10G the one that Amazon gives with its G5 instances (2021). They were checked
against what others quote of them, not against the sheets themselves.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_distributed.errors import InputError

if TYPE_CHECKING:
    from gan_distributed.deployment.step_work import StepWork

# The share of its data sheet that a GPU reaches, at worst and at best. One H200 in bf16 reached 16% (dcgan, 64 px), 23%
# (sngan, 32 px), 26% (biggan, 128 px) and 30% (r3gan, 32 px); assumed for every other.
SHARES = (0.1, 0.4)
# How far apart kernels begin that are launched as one, at worst and at best: 1.5 to 2.1 us there.
LAUNCHES_S = (4e-6, 1.5e-6)


@dataclass(frozen=True)
class Gpu:
    """Its data sheet: FLOP/s of matrix units in each precision, None where it has none; of its memory, bytes/s.

    link_bytes_per_s: to its neighbours in a machine, one direction: NVLink, else PCIe.
    """

    name: str
    bf16: float | None
    tf32: float | None
    float32: float
    memory_bytes_per_s: float
    link_bytes_per_s: float

    def peak(self, precision: str | None) -> float:
        """FLOP/s in a precision; None is what `train` would choose. Raises InputError."""
        found = {"bf16": self.bf16, "tf32": self.tf32, "float32": self.float32}.get(self.precision(precision))
        if found is None:
            able = " or ".join(name for name in ("bf16", "tf32", "float32") if getattr(self, name) is not None)
            raise InputError(
                f"--gpu {self.name}: nothing is known of it in training.precision {precision}; --set "
                f"training.precision={able}, or give a measured --images-per-s"
            )
        return found

    def precision(self, asked: str | None) -> str:
        """The precision of a recipe on this GPU."""
        return asked or ("float32" if self.bf16 is None else "bf16")


def _gpu(name: str, bf16: float | None, tf32: float | None, float32: float, memory_gb: float, link_gb: float) -> Gpu:
    """In the units of data sheets: TFLOP/s and GB/s."""
    bf16, tf32 = (None if value is None else value * 1e12 for value in (bf16, tf32))
    return Gpu(name, bf16, tf32, float32 * 1e12, memory_gb * 1e9, link_gb * 1e9)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("T4", None, None, 8.1, 320, 16),
        _gpu("V100", None, None, 15.7, 900, 150),
        _gpu("A10G", 70, 35, 35, 600, 32),
        _gpu("L4", 121, 60, 30.3, 300, 32),
        _gpu("L40S", 362, 183, 91.6, 864, 32),
        _gpu("A100-40", 312, 156, 19.5, 1555, 300),
        _gpu("A100-80", 312, 156, 19.5, 2039, 300),
        _gpu("H100", 989, 494, 67, 3350, 450),
        _gpu("H100-PCIe", 756, 378, 51, 2000, 64),
        _gpu("H200", 989, 494, 67, 4800, 450),
        _gpu("B200", 2250, 1125, 75, 8000, 900),
    )
}


def find_gpu(name: str) -> Gpu:
    """The GPU of a name, in letters of any size. Raises InputError, with the choices."""
    for known, gpu in GPUS.items():
        if known.lower() == name.lower():
            return gpu
    raise InputError(
        f"--gpu {name}: no data sheet of it is here; known: {', '.join(GPUS)}. For another one leave --gpu out and "
        "give a measured --images-per-s"
    )


@dataclass(frozen=True)
class Bounds:
    """Seconds that one step takes at least, by what limits it."""

    arithmetic: float
    memory: float
    launches: float

    @property
    def limit(self) -> str:
        """The longest of them, by name."""
        return max(vars(self), key=lambda name: float(getattr(self, name)))

    @property
    def seconds(self) -> float:
        """The longest of them, as all three overlap at best."""
        return max(self.arithmetic, self.memory, self.launches)


def bounds(gpu: Gpu, precision: str | None, work: "StepWork", share: float, launch_s: float) -> Bounds:
    """The roofline of a step (Williams et al. 2009), at a share of the data sheet, and the launches of its kernels."""
    return Bounds(
        arithmetic=work.flops / gpu.peak(precision) / share,
        memory=work.moved_bytes / gpu.memory_bytes_per_s / share,
        launches=work.kernels * launch_s,
    )
