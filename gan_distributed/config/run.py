"""How long a run is, what it keeps and tells, and who computes it."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gan_distributed.config.section import NotNegative, Port, Positive, PositiveInt, Section


class TrainingConfig(Section):
    """How long, how much at a time, in which precision."""

    total_kimg: Positive = Field(1000.0, description="real images to show, in thousands")
    batch_size: PositiveInt = Field(64, description="images of one step over all workers")
    micro_batch_size: PositiveInt | None = Field(
        None, description="images that a worker takes through the networks at once; null: its whole part of the batch"
    )
    discriminator_steps: PositiveInt = Field(1, description="discriminator steps a generator step")
    precision: Literal["float32", "bf16", "tf32", "float64"] | None = Field(
        None,
        description="bf16: autocast over float32 weights; tf32: of GPUs; null: bf16 where the worker's device has "
        "instructions for it, else float32, as it was found when the run was first started",
    )
    reduction_precision: Literal["bf16"] | None = Field(
        None,
        description="numbers that workers send and add up gradients in; null: as they were computed; bf16: half the "
        "bytes, and then another number of workers gives the same weights only to within bf16's rounding (2^-8)",
    )
    reduction_bucket_mb: Positive | None = Field(
        None,
        description="megabytes of gradients that workers add up at a time, while a backward pass makes the others; for "
        "large networks on slow links; null: all at once, when they are there",
    )
    fresh_latents: bool = Field(
        True,
        description="whether the generator's phase draws latents of its own; false: it goes on with the images that "
        "the last discriminator step saw, which saves a pass through the generator",
    )
    compile: bool = Field(
        False,
        description="let torch.compile make each phase of a step one graph before the first step; needs a C++ compiler "
        "where workers run, on GPUs also Triton",
    )
    cuda_graphs: bool | None = Field(
        None,
        description="record the pieces of a step once and launch each as one, which small networks gain by; takes "
        "memory for the pieces' inputs and results; null: on GPUs, where no batch-norm group lies on several workers",
    )
    channels_last: bool = Field(True, description="memory layout of images and weights")
    tick_kimg: Positive = Field(4.0, description="interval of log lines and metric records")
    max_nonfinite_steps: PositiveInt = Field(20, description="skipped steps in a row before going back")
    rollback_lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="learning rates after going back")

    @model_validator(mode="after")
    def _overlapped_gradients_come_one_by_one(self) -> "TrainingConfig":
        for name in ("compile", "cuda_graphs"):
            if self.reduction_bucket_mb is not None and getattr(self, name):
                raise ValueError(
                    f"reduction_bucket_mb {self.reduction_bucket_mb:g} sums gradients while others are made; with "
                    f"{name} true they come at once; set reduction_bucket_mb to null, or {name} to false"
                )
        return self

    @model_validator(mode="after")
    def _sums_are_as_precise_as_addends(self) -> "TrainingConfig":
        if self.precision == "float64" and self.reduction_precision is not None:
            raise ValueError(
                f"reduction_precision {self.reduction_precision} would round away what precision float64 is for; set "
                "reduction_precision to null, or another precision"
            )
        return self


class CheckpointConfig(Section):
    """When the state is saved, and what is kept."""

    every_kimg: Positive = Field(50.0, description="interval of checkpoints")
    keep_last: PositiveInt = Field(2, description="newest checkpoints to keep")
    keep_every_kimg: Positive | None = Field(None, description="checkpoints at multiples of this are kept for ever")
    write_timeout_s: Positive = Field(300.0, description="seconds that a store has for one checkpoint, with retries")
    max_unsaved_kimg: Positive | None = Field(
        1000.0, description="how far training goes on while the store takes no checkpoint; null: to the end"
    )

    @model_validator(mode="after")
    def _one_interval_is_not_too_long(self) -> "CheckpointConfig":
        if self.max_unsaved_kimg is not None and self.max_unsaved_kimg <= self.every_kimg:
            raise ValueError(
                f"max_unsaved_kimg {self.max_unsaved_kimg:g} must be above every_kimg {self.every_kimg:g}, else a "
                "healthy run would stop; raise it, or save more often"
            )
        return self


class SamplesConfig(Section):
    """Grids of generated images, from the same latents through the whole run."""

    every_kimg: Positive | Literal["epoch"] | None = Field(50.0, description="interval, `epoch`, or null for none")
    num: PositiveInt = Field(64, description="images in the grid")


class MetricsConfig(Section):
    """Prometheus endpoints, and other programs that are told of a run."""

    host: str = Field("0.0.0.0", description="address that /metrics binds")  # noqa: S104 - scraped from outside the pod
    port: Port | None = Field(9400, description="port of local rank 0, the next ranks follow; null: no endpoint")
    controller_port: Port | None = Field(9390, description="port of the driver's endpoint; null: none")
    linger_s: NotNegative = Field(0.0, description="how long a finished run's endpoints stay, for a last scrape")
    pushgateway: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="http://HOST:PORT of a Pushgateway that is told how the run ended; null: none"
    )
    phase_times: bool = Field(False, description="measure where the time of steps goes; --profile")
    trace: bool = Field(False, description="write a Chrome trace of some steps into the run's folder; --trace")
    tensorboard: bool = Field(False, description="TensorBoard event files beside the run's own records")
    wandb: Annotated[str, Field(pattern=r"^[^/\\#?%:\s]+(/[^/\\#?%:\s]+)?$")] | None = Field(
        None, description="project, or entity/project, at Weights & Biases that is told of the run; null: none"
    )


class ClusterConfig(Section):
    """Workers and what each of them gets."""

    workers: int | str | None = Field(
        None,
        description="processes; 0: train in the calling process without Ray; null: one a GPU, else up to 2; 2..8: as "
        "many as the cluster has room for, and others when nodes come and go",
    )
    cpus_per_worker: PositiveInt | None = Field(None, description="threads of a worker; null: the cores, shared out")
    use_gpu: bool | None = Field(None, description="one GPU a worker; null: where there are any")
    address: str | None = Field(None, description="a running Ray cluster; null: RAY_ADDRESS, else a local one")
    max_failures: Annotated[int, Field(ge=0)] = Field(
        3, description="failures that are survived without a new checkpoint between them; lost nodes are not counted"
    )
    stall_timeout_s: Positive = Field(
        300.0, description="without a step for so long, every rank tells its stacks and the workers are started again"
    )
    collective_timeout_s: Positive = Field(420.0, description="how long a rank waits for the others in a reduction")
    stop_grace_s: Positive = Field(25.0, description="after SIGTERM: how long to wait for the last checkpoint")
    resize_check_s: Positive = Field(60.0, description="with workers a..b: how often nodes that came are looked for")

    @field_validator("workers", mode="before")
    @classmethod
    def _workers_are_a_number_or_two(cls, value: Any) -> Any:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"write a number from 0 on, or fewest..most as in 2..8; found {value!r}")
        fewest, most = int(found[1]), int(found[2] or found[1])
        if found[2] is not None and not 1 <= fewest <= most:
            raise ValueError(f"{value}: fewest..most, both at least 1")
        return value if most > fewest else fewest

    @model_validator(mode="after")
    def _stacks_are_told_before_reductions_fail(self) -> "ClusterConfig":
        if self.collective_timeout_s <= self.stall_timeout_s:
            raise ValueError(
                f"collective_timeout_s {self.collective_timeout_s:g} must be more than stall_timeout_s "
                f"{self.stall_timeout_s:g}, after which the ranks tell where they wait"
            )
        return self

    @property
    def worker_range(self) -> tuple[int, int] | None:
        """Fewest and most workers; equal where the number is fixed, None where it is left open."""
        if self.workers is None:
            return None
        fewest, _, most = str(self.workers).partition("..")
        return int(fewest), int(most or fewest)
