"""Every option with unit, bound and meaning, and what they must be to one another.

Durations and intervals are in kimg (1000 real images shown), so they keep their meaning when the batch changes. None
means off.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(Section):
    """A value that changes with the images seen: from `start` to `end` over `kimg`, then constant."""

    start: NotNegative
    end: NotNegative
    kimg: Positive = Field(description="length of the change, in thousands of images")
    shape: Literal["linear", "cosine"] = Field("cosine", description="half a cosine, or a straight line")


class DataConfig(Section):
    """Where the prepared images are, and in what order they come."""

    url: str | None = Field(None, description="folder of a prepared data set; --data")
    num_lanes: PositiveInt = Field(64, description="parts that the data set is cut into; the most workers there can be")
    window_blocks: PositiveInt = Field(4, description="blocks of a lane that are shuffled together")
    memory_bytes: PositiveInt = Field(2 << 30, description="bytes of blocks that one worker may hold when it streams")
    fetch_threads: PositiveInt = Field(16, description="most concurrent reads from a bucket, a worker")
    gather_threads: int = Field(1, ge=0, le=64, description="threads that gather batches ahead; 0: the caller's own")
    map_local: bool = Field(True, description="map shards on a local disk into memory; off for slow network disks")
    cache_bytes: int = Field(0, ge=0, description="bytes of blocks kept on a node's disk for its ranks; 0: off")
    cache_folder: str = Field("~/.cache/gan_distributed", description="where they are kept")
    read_timeout_s: Positive = Field(10.0, description="seconds that a store may be silent before a new try")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options for data.url, passed on unchanged: endpoint, project, …"
    )


class ModelConfig(Section):
    """The two networks. Resolution, channels and classes come from the data set."""

    family: Literal["dcgan"] = Field("dcgan", description="network family")
    latent_dim: PositiveInt = Field(100, description="dimensions of z")
    conditional: bool = Field(False, description="feed the labels to both networks")
    generator_channels: PositiveInt = Field(64, description="channels of the generator's last hidden layer")
    discriminator_channels: PositiveInt = Field(64, description="channels of the discriminator's first layer")
    discriminator_batch_norm: bool = Field(True, description="batch norm in the discriminator, as in the DCGAN paper")
    discriminator_dropout: Share = Field(0.0, description="share of feature maps that the discriminator drops")
    batch_norm_groups: PositiveInt = Field(1, description="groups of lanes with statistics of their own; 1: global")


class LossConfig(Section):
    """The adversarial loss and its gradient penalties."""

    name: Literal["bce", "hinge", "lsgan"] = Field("bce", description="bce is the non-saturating form")
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(0.0, description="real target is 1 - this; bce only")
    r1_gamma: NotNegative | Schedule = Field(0.0, description="weight of the squared gradient norm at real images")
    r2_gamma: NotNegative | Schedule = Field(0.0, description="weight of the squared gradient norm at fake images")

    @model_validator(mode="after")
    def _smoothing_needs_bce(self) -> "LossConfig":
        if self.label_smoothing and self.name != "bce":
            raise ValueError(f"label_smoothing {self.label_smoothing} needs name bce, not {self.name}; set it to 0")
        return self


class AdamConfig(Section):
    """Adam of one network (Kingma & Ba 2015)."""

    lr: Positive | Schedule = Field(2e-4, description="learning rate, or a schedule of it")
    beta1: Share = Field(0.5, description="decay of the mean of gradients")
    beta2: Share = Field(0.999, description="decay of the mean of squared gradients")
    eps: Positive = Field(1e-8, description="added to the denominator")


class OptimizerConfig(Section):
    """One optimizer a network."""

    generator: AdamConfig = AdamConfig()
    discriminator: AdamConfig = AdamConfig()


class EmaConfig(Section):
    """The averaged generator that samples and generate use."""

    halflife_kimg: Positive | None = Field(
        10.0, description="half-life of the weight average, at most 5% of the run so far; null: none"
    )


class TrainingConfig(Section):
    """How long, how much at a time, in which precision."""

    total_kimg: Positive = Field(1000.0, description="real images to show, in thousands")
    batch_size: PositiveInt = Field(64, description="images of one step over all workers")
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


class Recorded(Section):
    """What a run wrote beside its configuration; nothing that a user sets."""

    digest: str = Field(description="sha256 of the fields that decide the result")
    dataset: str = Field(description="fingerprint of the data set")


class Config(Section):
    """Everything that decides a run."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the order, the weights and all draws")
    output: str | None = Field(None, description="folder or bucket that holds the runs; --output")
    run_id: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")] | None = Field(None, description="the run's name; --run-id")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    samples: SamplesConfig = SamplesConfig()
    metrics: MetricsConfig = MetricsConfig()
    cluster: ClusterConfig = ClusterConfig()
    recorded: Recorded | None = Field(None, description="written by train into a run's config.yaml")

    @field_validator("run_id", mode="before")
    @classmethod
    def _run_id_may_look_like_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _groups_are_equal(self) -> "Config":
        lanes, groups, batch_size = self.data.num_lanes, self.model.batch_norm_groups, self.training.batch_size
        if lanes % groups or batch_size % groups:
            raise ValueError(
                f"model.batch_norm_groups {groups} must divide data.num_lanes {lanes} and training.batch_size "
                f"{batch_size}"
            )
        workers = self.cluster.workers
        if workers is not None and workers > min(lanes, batch_size):
            raise ValueError(
                f"cluster.workers {workers} is more than data.num_lanes {lanes} or training.batch_size {batch_size} "
                f"can feed; at most {min(lanes, batch_size)}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that decide the result, by path; a resume under other ones is refused."""
        fields = _flatten(self.model_dump(mode="json"))
        return {path: value for path, value in fields.items() if not path.startswith(_FREE)}

    @property
    def digest(self) -> str:
        """sha256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


# Where the bytes lie, how often things are saved and who computes change nothing of the result.
_FREE = (
    "output",
    "run_id",
    "data.url",
    "data.memory_bytes",
    "data.fetch_threads",
    "data.gather_threads",
    "data.map_local",
    "data.cache_",
    "data.read_timeout_s",
    "data.storage_options",
    "training.tick_kimg",
    "checkpoint.",
    "samples.",
    "metrics.",
    "cluster.",
    "recorded",
)


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
