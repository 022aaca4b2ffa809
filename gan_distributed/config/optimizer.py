"""How the weights move: Adam of each network, and the average of the generator's."""

from pydantic import Field, model_validator

from gan_distributed.config.section import Positive, Schedule, Section, Share, largest


class AdamConfig(Section):
    """Adam of one network (Kingma & Ba 2015)."""

    lr: Positive | Schedule = Field(2e-4, description="learning rate, or a schedule of it")
    beta1: Share = Field(0.5, description="decay of the mean of gradients")
    beta2: Share | Schedule = Field(0.999, description="decay of the mean of squared gradients, or a schedule of it")
    eps: Positive = Field(1e-8, description="added to the denominator")

    @model_validator(mode="after")
    def _beta2_is_a_share(self) -> "AdamConfig":
        if largest(self.beta2) >= 1:
            raise ValueError(f"beta2 reaches {largest(self.beta2)}, it must stay below 1")
        return self


class OptimizerConfig(Section):
    """One optimizer a network."""

    generator: AdamConfig = AdamConfig()
    discriminator: AdamConfig = AdamConfig()


class EmaConfig(Section):
    """The averaged generator that samples and generate use."""

    halflife_kimg: Positive | Schedule | None = Field(
        10.0,
        description="half-life of the weight average; a number: at most 5% of the run so far; a schedule: as it says, "
        "0 keeps nothing; null: none",
    )
