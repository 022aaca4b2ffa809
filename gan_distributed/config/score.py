"""The options of scores: which, how often, on how many images, with which features, and what a collapse leads to."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan_distributed.config.section import Section

MetricName = Literal[
    "fid",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "inception_score",
    "swd",
    "modes",
    "modes_kl",
]


class ScoreConfig(Section):
    """Scores during training, and what `evaluate` takes from a run where its own options are silent."""

    every_kimg: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="interval of scores, and one at the end; null: none"
    )
    metrics: tuple[MetricName, ...] = Field(
        (), description="scores to take; none named: fid where there are features or labels, else swd"
    )
    num_images: int = Field(10_000, ge=16, description="generated images; as many real ones where sets are compared")
    features: str | None = Field(
        None,
        description="dataset (a classifier fitted on the labels), inception, or the URL of a torch.export or "
        "TorchScript file; null: dataset where there are labels",
    )
    weights: str | None = Field(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        description="URL of the weights of `inception`",
    )
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")] | None = Field(
        None, description="sha256, or the start of it, of the features' file; null: that in the name of `weights`"
    )
    seed: int = Field(0, ge=0, description="seed of the generated images; not that of the run, so that runs compare")
    max_s: Annotated[float, Field(gt=0)] | None = Field(
        600.0, description="seconds that one round of scores may take; past them it is skipped, never made smaller"
    )
    best: MetricName | None = Field(None, description="the score whose best checkpoint is kept; null: the first one")
    on_collapse: Literal["warn", "rollback"] = Field(
        "warn", description="what an alarm leads to; rollback: back to the checkpoint of the best score"
    )
    max_rollbacks: int = Field(2, ge=0, description="returns to the best checkpoint, over the whole run")

    @model_validator(mode="after")
    def _best_is_taken(self) -> "ScoreConfig":
        if self.best is not None and self.metrics and self.best not in self.metrics:
            raise ValueError(f"best {self.best} is not one of metrics {', '.join(self.metrics)}; add it there")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics {', '.join(self.metrics)} names one twice")
        return self

    @model_validator(mode="after")
    def _rollback_needs_scores(self) -> "ScoreConfig":
        if self.on_collapse == "rollback" and self.every_kimg is None:
            raise ValueError("on_collapse rollback needs every_kimg, since it goes back to the best score's checkpoint")
        return self
