"""The whole configuration: its sections, what they must be to one another, and which fields decide the result.

Durations and intervals are in kimg (1000 real images shown), so they keep their meaning when the batch changes. None
means off.
"""

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from gan_distributed.config.data import DataConfig
from gan_distributed.config.model import ModelConfig
from gan_distributed.config.objective import AugmentConfig, LossConfig
from gan_distributed.config.optimizer import EmaConfig, OptimizerConfig
from gan_distributed.config.run import (
    CheckpointConfig,
    ClusterConfig,
    MetricsConfig,
    SamplesConfig,
    TrainingConfig,
)
from gan_distributed.config.score import ScoreConfig
from gan_distributed.config.section import Section, largest


class Origin(Section):
    """The checkpoint of another run whose weights a run started from."""

    url: str = Field(description="folder of the checkpoint")
    seen_images: int = Field(description="images it had seen")
    state_sha256: str = Field(description="sha256 of its state")


class Change(Section):
    """A field that decides the result and was changed on purpose while the run stood still."""

    field: str = Field(description="its path")
    old: Any = Field(description="its value before")
    new: Any = Field(description="its value since")
    seen_images: int = Field(description="images seen when it changed")
    attempt: int = Field(description="the attempt that began with it")


class Recorded(Section):
    """What a run wrote beside its configuration; nothing that a user sets."""

    digest: str = Field(description="sha256 of the fields that decide the result")
    dataset: str = Field(description="fingerprint of the data set")
    origin: Origin | None = Field(None, description="what from_checkpoint meant when the run was started")
    changes: tuple[Change, ...] = Field((), description="what --set changed since, oldest first")


class Config(Section):
    """Everything that decides a run."""

    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the order, the weights and all draws")
    output: str | None = Field(None, description="folder or bucket that holds the runs; --output")
    run_id: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")] | None = Field(None, description="the run's name; --run-id")
    from_checkpoint: str | None = Field(
        None, description="run or checkpoint whose networks a new run starts with, for fine-tuning; --from"
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    samples: SamplesConfig = SamplesConfig()
    score: ScoreConfig = ScoreConfig()
    metrics: MetricsConfig = MetricsConfig()
    cluster: ClusterConfig = ClusterConfig()
    recorded: Recorded | None = Field(None, description="written by train into a run's config.yaml")

    @field_validator("run_id", mode="before")
    @classmethod
    def _run_id_may_look_like_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _urls_hold_no_credentials(self) -> "Config":
        for path, value in flattened(public_values(self)).items():
            if isinstance(value, str) and holds_credential(value):
                raise ValueError(
                    f"{path}: the URL holds a password or a signature, which would be written into the run and its "
                    "logs; put it into data.storage_options or the environment"
                )
        return self

    @model_validator(mode="after")
    def _groups_are_equal(self) -> "Config":
        lanes, groups, batch_size = self.data.num_lanes, self.model.batch_norm_groups, self.training.batch_size
        if lanes % groups or batch_size % groups:
            raise ValueError(
                f"model.batch_norm_groups {groups} must divide data.num_lanes {lanes} and training.batch_size "
                f"{batch_size}"
            )
        workers = self.cluster.worker_range
        if workers is not None and workers[1] > min(lanes, batch_size):
            raise ValueError(
                f"cluster.workers {self.cluster.workers} is more than data.num_lanes {lanes} or training.batch_size "
                f"{batch_size} can feed; at most {min(lanes, batch_size)}"
            )
        return self

    @model_validator(mode="after")
    def _objective_fits_the_networks(self) -> "Config":
        if self.loss.name == "wgan" and not (self.loss.has_penalty or self.model.has_spectral_norm):
            raise ValueError(
                "loss.name wgan needs a gradient penalty, without which the logits of model.family "
                f"{self.model.family} grow without bound; set loss.gp_weight (10 in the paper), loss.r1_gamma or "
                "loss.r2_gamma above 0"
            )
        if largest(self.loss.gp_weight) and self.model.discriminator_mixes_samples:
            raise ValueError(
                "loss.gp_weight is for each image's own gradient, which batch norm mixes with the others'; set "
                "model.discriminator_batch_norm to false, or use loss.r1_gamma instead"
            )
        if self.augment.adaptive and not self.loss.has_zero:
            raise ValueError(
                f"augment.p adaptive reads the sign of logits, which has no meaning in loss.name {self.loss.name}; set "
                "augment.p to a number or a schedule"
            )
        return self

    @model_validator(mode="after")
    def _micro_batches_are_whole_groups(self) -> "Config":
        size, micro = self.training.batch_size, self.training.micro_batch_size
        group = size // self.model.batch_norm_groups
        if micro is not None and self.model.has_batch_norm and micro % group:
            raise ValueError(
                f"training.micro_batch_size {micro} must be whole batch-norm groups of {group} images (training."
                f"batch_size {size} in model.batch_norm_groups {self.model.batch_norm_groups}) to change nothing; set "
                "more groups, or another size"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that decide the result, by path; a resume under other ones is refused."""
        fields = flattened(self.model_dump(mode="json"))
        return {path: value for path, value in fields.items() if not path.startswith(_FREE)}

    @property
    def digest(self) -> str:
        """sha256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def public_values(config: Config) -> dict[str, Any]:
    """The configuration as plain values, without storage_options, which may hold secrets: what is written anywhere."""
    return config.model_dump(mode="json", exclude={"data": {"storage_options"}})


def holds_credential(url: str) -> bool:
    """Whether a URL holds a password or a signature."""
    return _CREDENTIAL.search(url) is not None


# `scheme://user:password@host`, and the signatures of Amazon, Google and Azure in a query.
_CREDENTIAL = re.compile(r"://[^/@]*:[^/@]+@|[?&](x-amz-signature|x-goog-signature|sig|token|access_token)=", re.I)
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
    "training.micro_batch_size",
    "checkpoint.",
    "samples.",
    # on_collapse and max_rollbacks are not free: a return changes the weights.
    "score.every_kimg",
    "score.metrics",
    "score.num_images",
    "score.features",
    "score.weights",
    "score.seed",
    "score.max_s",
    "score.best",
    "metrics.",
    "cluster.",
    "recorded",
)


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted path."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
