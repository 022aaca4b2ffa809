"""How long a run is, what it keeps and tells, and who computes it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan_distributed.config.section import Port, Positive, PositiveInt, Section


class TrainingConfig(Section):
    """How long, how much at a time, in which precision."""

    total_kimg: Positive = Field(1000.0, description="real images to show, in thousands")
    batch_size: PositiveInt = Field(64, description="images of one step over all workers")
    micro_batch_size: PositiveInt | None = Field(
        None, description="images that a worker takes through the networks at once; null: its whole part of the batch"
    )
    discriminator_steps: PositiveInt = Field(1, description="discriminator steps a generator step")
    precision: Literal["float32", "bf16", "float64"] = Field("float32", description="bf16: autocast, float32 weights")
    channels_last: bool = Field(True, description="memory layout of images and weights")
    tick_kimg: Positive = Field(4.0, description="interval of log lines and metric records")
    max_nonfinite_steps: PositiveInt = Field(20, description="skipped steps in a row before going back")
    rollback_lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="learning rates after going back")


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
    """Prometheus endpoints."""

    host: str = Field("0.0.0.0", description="address that /metrics binds")  # noqa: S104 - scraped from outside the pod
    port: Port | None = Field(9400, description="port of local rank 0, the next ranks follow; null: no endpoint")
    controller_port: Port | None = Field(9390, description="port of the driver's endpoint; null: none")


class ClusterConfig(Section):
    """Workers and what each of them gets."""

    workers: Annotated[int, Field(ge=0)] | None = Field(
        None, description="processes; 0: train in the calling process without Ray; null: one a GPU, else up to 2"
    )
    cpus_per_worker: PositiveInt | None = Field(None, description="threads of a worker; null: the cores, shared out")
    use_gpu: bool | None = Field(None, description="one GPU a worker; null: where there are any")
    address: str | None = Field(None, description="a running Ray cluster; null: RAY_ADDRESS, else a local one")
    max_failures: Annotated[int, Field(ge=0)] = Field(3, description="worker deaths that are survived")
    collective_timeout_s: Positive = Field(300.0, description="how long a rank waits for the others in a reduction")
