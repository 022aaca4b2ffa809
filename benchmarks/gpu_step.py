"""Steps of the families on one GPU, ours in each precision against plain eager PyTorch; run it by `gpu.sh`.

    python benchmarks/gpu_step.py [--seconds 2] [--device cuda] [--tiny]

A row a case: images a second, milliseconds a step, operations of convolutions and products a second (as `plan` counts
them), the share of the step in which the GPU computes (kernels' time over elapsed time, by torch's profiler),
peak memory. plain is the same networks, loss and penalties with torch's own convolutions and derivatives, channels
first, launched singly, in float32 and tf32; compiled is ours with `training.compile`. The last rows are the stream:
rows into page-locked memory, and from there onto the device. `--device cpu --tiny` only shows that it runs.
"""

import argparse
import contextlib
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from step_peers.ours import our_step

from gan_distributed.config import Config, load_config
from gan_distributed.deployment.step_work import step_work
from gan_distributed.models import initialization
from gan_distributed.models.convolution import torchs_own
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.precision import set_precision

_PROFILED = 3
# Of kernels' names, which say nothing about which one it is.
_COMMON_WORDS = re.compile(r"void |at::native::|\(anonymous namespace\)::|gpu_kernel_impl_nocast|elementwise_kernel")
_HINGE = {"loss.name": "hinge"}
_R3GAN = {"loss.name": "rpgan", "loss.r1_gamma": 1.0, "loss.r2_gamma": 1.0, "model.latent_dim": 64}
_SINGLY = {"training.cuda_graphs": False}
_PLAIN = {"training.channels_last": False, **_SINGLY}


@dataclass(frozen=True)
class Case:
    """A family at one size. compiled: whether it is compiled, too, which takes a minute or so each time."""

    name: str
    resolution: int
    batch_size: int
    values: dict[str, object]
    compiled: bool = False


CASES = (
    Case("dcgan-64", 64, 256, {"model.family": "dcgan"}, compiled=True),
    Case("sngan-32", 32, 256, {"model.family": "sngan", "model.latent_dim": 128, **_HINGE}),
    Case("biggan-128", 128, 64, {"model.family": "biggan", "model.latent_dim": 120, **_HINGE}),
    Case("r3gan-64", 64, 128, {"model.family": "r3gan", **_R3GAN}),
    # Last, as the compiler may take what is left of the time.
    Case("r3gan-32", 32, 256, {"model.family": "r3gan", **_R3GAN}, compiled=True),
)


@dataclass(frozen=True)
class Way:
    """How a step is taken. plain: with torch's own derivatives."""

    name: str
    precision: str
    values: dict[str, object] = field(default_factory=dict)
    plain: bool = False


WAYS = (
    Way("plain float32", "float32", _PLAIN, plain=True),
    Way("plain tf32", "tf32", _PLAIN, plain=True),
    Way("ours tf32", "tf32"),
    Way("ours bf16", "bf16"),
    Way("ours bf16, launched singly", "bf16", _SINGLY),
    Way("ours bf16, channels first", "bf16", {"training.channels_last": False}),
    Way("compiled bf16", "bf16", {"training.compile": True}),
    Way("compiled bf16, singly", "bf16", {"training.compile": True, **_SINGLY}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--kernels", type=int, default=0, help="how many of the kernels that take longest to tell")
    parser.add_argument("--tuned", action="store_true", help="cuDNN tries its kernels first, which training does not")
    parser.add_argument("--cases", default="", help="part of a case's name")
    parser.add_argument("--ways", default="", help="part of a way's name")
    parser.add_argument("--without", default="not one", help="part of a way's name that is left out")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = options.tuned
    # biggan's take 20 s to draw, which is nothing to a step.
    initialization.orthogonal = lambda parameter, draws: initialization.fan_in_normal(parameter, 1.0, draws)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    print(f"{'case':<12}{'way':<28}{'images/s':>10}{'ms a step':>11}{'TFLOP/s':>10}{'busy':>7}{'peak GiB':>10}")
    for case in (case for case in CASES if options.cases in case.name):
        for way in (way for way in WAYS if options.ways in way.name and options.without not in way.name):
            compiles = "training.compile" in way.values
            only_gpu = way.precision == "tf32" or compiles
            if (device.type != "cuda" and only_gpu) or (compiles and not case.compiled):
                continue
            try:
                row = measured(case, way, device, options)
            except torch.cuda.OutOfMemoryError:
                row = "does not fit"
            print(f"{case.name:<12}{way.name:<28}{row}", flush=True)
    copy_rates(device, options.seconds)


def measured(case: Case, way: Way, device: torch.device, options: argparse.Namespace) -> str:
    config = config_of(case, way, options.tiny)
    set_precision(config, device)
    if device.type == "cuda":
        # What the case before took.
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with torchs_own() if way.plain else contextlib.nullcontext():
        step = step_of(config, case, device)
        # Recorded at its second call.
        for _ in range(1 if options.tiny or way.plain else 4):
            step()
        synchronize(device)
        started, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - started < options.seconds / 2:
            step()
            steps += 1
            if steps % 8 == 0:
                synchronize(device)
        synchronize(device)
        seconds = (time.perf_counter() - started) / steps
        # What is recorded works in memory of its own, which counts as reserved alone.
        peak = torch.cuda.max_memory_reserved() / 2**30 if device.type == "cuda" else 0.0
        busy, kernels = busy_share(step, device, options.kernels, steps=1 if seconds > 1 else _PROFILED)
    size = config.training.batch_size
    work = step_work(config, image_spec(case), size, way.precision)
    rate = work.flops / seconds / 1e12
    return f"{size / seconds:>10.0f}{1000 * seconds:>11.2f}{rate:>10.1f}{busy:>7.0%}{peak:>10.2f}" + "".join(kernels)


def config_of(case: Case, way: Way, tiny: bool) -> Config:
    narrow = {"model.generator_channels": 16, "model.discriminator_channels": 16} if tiny else {}
    size = {"training.batch_size": 4 if tiny else case.batch_size, "data.num_lanes": 4 if tiny else 64}
    return load_config(None, {"training.precision": way.precision, **case.values, **size, **narrow, **way.values})


def image_spec(case: Case) -> ImageSpec:
    return ImageSpec(case.resolution, 3, 0)


def step_of(config: Config, case: Case, device: torch.device) -> Callable[[], object]:
    size = config.training.batch_size
    rows = torch.randint(0, 256, (size, case.resolution, case.resolution, 3), dtype=torch.uint8, device=device)
    return our_step(config, image_spec(case), rows)


def busy_share(step: Callable[[], object], device: torch.device, most: int, *, steps: int) -> tuple[float, list[str]]:
    """Kernels' time over elapsed time; what is missing are gaps, in which launches come too late.

    Beside it lines of so many kernels: milliseconds and calls of a step, share of all kernels' time, name.
    """
    if device.type != "cuda":
        return float("nan"), []
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        elapsed = time.perf_counter() - started
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events)
    lines = [
        f"\n{event.self_device_time_total / 1e3 / steps:>12.3f} ms{event.count / steps:>8.1f} x"
        f"{event.self_device_time_total / total:>7.1%}  {_COMMON_WORDS.sub('', event.key)[:90]}"
        for event in events[:most]
    ]
    return total / 1e6 / elapsed, lines


def copy_rates(device: torch.device, seconds: float) -> None:
    """Images of 64 px into page-locked memory, and from there onto the device."""
    pinned = device.type == "cuda"
    source = torch.randint(0, 256, (4096, 64, 64, 3), dtype=torch.uint8)
    place = torch.empty((256, 64, 64, 3), dtype=torch.uint8, pin_memory=pinned)
    picked = torch.randperm(4096)[:256]
    actions: dict[str, Callable[[], object]] = {
        "rows into page-locked memory": lambda: torch.index_select(source, 0, picked, out=place),
        "from there onto the device": lambda: place.to(device, non_blocking=True),
    }
    for name, action in actions.items():
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < min(seconds, 2):
            action()
            synchronize(device)
            count += 1
        print(f"{name:<40}{256 * count / (time.perf_counter() - started):>10.0f}")


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
