"""Options of the two networks: the family, what all families share, and what only some have."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from gan_distributed.config.own import PATTERN, check_choice, is_own
from gan_distributed.config.section import PositiveInt, Section, Share

Family = Literal["dcgan", "convnet", "sngan", "biggan", "r3gan"]
_FAMILIES: tuple[str, ...] = get_args(Family)
# Which families have an option; with another one it stays null.
_FAMILIES_WITH: dict[str, tuple[Family, ...]] = {
    "discriminator_batch_norm": ("dcgan",),
    "discriminator_dropout": ("dcgan", "convnet"),
    "attention": ("biggan",),
    "embedding_dim": ("biggan", "r3gan"),
}
_WITH_BATCH_NORM: tuple[Family, ...] = ("dcgan", "convnet", "sngan", "biggan")


class ModelConfig(Section):
    """The two networks. Resolution, channels and classes come from the data set. null is the family's own choice."""

    family: str = Field(
        "dcgan",
        description="network family; or a gan_distributed.models.family.Family of your own, as module:object",
        json_schema_extra={"anyOf": [{"enum": list(_FAMILIES)}, {"pattern": PATTERN}]},
    )
    latent_dim: PositiveInt = Field(100, description="dimensions of z")
    conditional: bool = Field(False, description="feed the labels to both networks")
    generator_channels: PositiveInt | None = Field(
        None,
        description="width of the generator, in the family's own measure, which its file in models/ tells; null: "
        "dcgan 64, convnet 256, sngan 256 or, from 64 px on, 1024, biggan 64 or, from 128 px on, 96, r3gan 768",
    )
    discriminator_channels: PositiveInt | None = Field(
        None, description="width of the discriminator, likewise; null: as above, but convnet 32, and sngan 128 at 32 px"
    )
    batch_norm_groups: PositiveInt = Field(1, description="groups of lanes with statistics of their own; 1: global")
    discriminator_batch_norm: bool | None = Field(
        None, description="batch norm in the discriminator, as in the DCGAN paper; dcgan, null: true"
    )
    discriminator_dropout: Share | None = Field(
        None, description="share of feature maps that the discriminator drops; dcgan and convnet, null: 0"
    )
    attention: bool | None = Field(
        None, description="self-attention at 64 px, or at half the resolution below 128 px; biggan, null: true"
    )
    embedding_dim: PositiveInt | None = Field(
        None, description="dimensions of the generator's label embedding; biggan, null: 128, and r3gan, null: 64"
    )

    options: dict[str, Any] = Field({}, description="whatever a family of your own reads from it")

    @field_validator("family", mode="before")
    @classmethod
    def _family_is_known_or_own(cls, value: Any) -> str:
        return check_choice(value, _FAMILIES, "family")

    @model_validator(mode="after")
    def _options_are_the_familys(self) -> "ModelConfig":
        for option, families in _FAMILIES_WITH.items():
            value = getattr(self, option)
            if value is not None and self.family not in families and not self.is_own:
                raise ValueError(
                    f"{option} {value} is an option of {' and '.join(families)}, not of {self.family}; set it to null"
                )
        if self.options and not self.is_own:
            raise ValueError(f"options are for a family of your own, not for {self.family}; remove them")
        if self.batch_norm_groups > 1 and not self.has_batch_norm:
            raise ValueError(
                f"batch_norm_groups {self.batch_norm_groups} is for {', '.join(_WITH_BATCH_NORM)}; {self.family} has "
                "no batch norm; set it to 1"
            )
        if self.embedding_dim is not None and not self.conditional:
            raise ValueError(f"embedding_dim {self.embedding_dim} needs conditional true; set it to null")
        return self

    @property
    def is_own(self) -> bool:
        """Whether the family is a user's own, of which nothing is known here."""
        return is_own(self.family)

    @property
    def has_batch_norm(self) -> bool:
        """Whether a network of the family holds batch norm, or may do so."""
        return self.family in _WITH_BATCH_NORM or self.is_own

    @property
    def has_spectral_norm(self) -> bool:
        """Whether the family's discriminator is under spectral norm."""
        return self.family in ("sngan", "biggan")

    @property
    def discriminator_mixes_samples(self) -> bool:
        """Whether a logit depends on the other images of its batch."""
        return self.family == "dcgan" and self.discriminator_batch_norm is not False
