"""What the networks are trained for: the adversarial loss, its gradient penalties, and what the discriminator sees."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gan_distributed.config.own import PATTERN, check_choice
from gan_distributed.config.section import NotNegative, Positive, PositiveInt, Probability, Schedule, Section, largest

_LOSSES = ("bce", "hinge", "lsgan", "wgan", "rpgan")
# Above it turned images leak into what the generator makes (Karras et al. 2020, sec. 2.2 and appendix C).
MAX_LEAK_FREE_P = 0.8
# With these the generator could learn every image turned or mirrored as well as upright.
_TURNING = ("xflip", "rotate90")


class LossConfig(Section):
    """The adversarial loss and its gradient penalties. A lazy penalty acts in every n-th step, n times as strong."""

    name: str = Field(
        "bce",
        description="bce (the non-saturating form), hinge, lsgan, wgan or rpgan; or a "
        "gan_distributed.training.losses.AdversarialLoss of your own, as module:object",
        json_schema_extra={"anyOf": [{"enum": list(_LOSSES)}, {"pattern": PATTERN}]},
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="real target is 1 - this; bce only")
    r1_gamma: NotNegative | Schedule = Field(0.0, description="weight of the squared gradient norm at real images")
    r1_every: PositiveInt = Field(1, description="discriminator steps from one R1 to the next")
    r2_gamma: NotNegative | Schedule = Field(0.0, description="weight of the squared gradient norm at fake images")
    r2_every: PositiveInt = Field(1, description="discriminator steps from one R2 to the next")
    gp_weight: NotNegative | Schedule = Field(0.0, description="weight of (gradient norm - 1)^2 between real and fake")
    gp_every: PositiveInt = Field(1, description="discriminator steps from one gradient penalty to the next")

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_known_or_own(cls, value: Any) -> str:
        return check_choice(value, _LOSSES, "loss")

    @property
    def has_zero(self) -> bool:
        """Whether a logit means something by itself, or may do so; in wgan and rpgan only differences of logits do."""
        return self.name not in ("wgan", "rpgan")

    @model_validator(mode="after")
    def _smoothing_needs_bce(self) -> "LossConfig":
        if self.label_smoothing and self.name != "bce":
            raise ValueError(f"label_smoothing {self.label_smoothing} needs name bce, not {self.name}; set it to 0")
        return self

    @property
    def has_penalty(self) -> bool:
        """Whether the discriminator's gradient is held down by anything here."""
        return any(map(largest, (self.r1_gamma, self.r2_gamma, self.gp_weight)))


class AugmentConfig(Section):
    """What is done to images: `flip` to the data set itself, the rest to all that the discriminator sees."""

    flip: bool = Field(False, description="mirror every second real image; it belongs to the data, and generated too")
    policy: tuple[Literal["xflip", "rotate90", "translation", "color", "cutout"], ...] = Field(
        (), description="changes to real and generated images before the discriminator; color: its three operations"
    )
    p: Probability | Schedule | Literal["adaptive"] = Field(
        1.0, description="probability of each change; adaptive: controlled by how sure the discriminator is"
    )
    target: float = Field(0.6, gt=-1, lt=1, description="mean sign of the logits of real images that adaptive aims at")
    ada_kimg: Positive = Field(500.0, description="thousands of images in which an adaptive p can move by 1")

    @property
    def adaptive(self) -> bool:
        """Whether p is controlled during the run."""
        return self.p == "adaptive"

    @model_validator(mode="after")
    def _policy_fits_p(self) -> "AugmentConfig":
        if len(set(self.policy)) < len(self.policy):
            raise ValueError(f"policy names a change twice: {', '.join(self.policy)}")
        if isinstance(self.p, str):
            if not self.policy:
                raise ValueError("p adaptive has nothing to act on; name changes in policy, or remove p")
            return self
        if largest(self.p) > 1:
            raise ValueError(f"p ends at {largest(self.p)}, a probability is at most 1")
        turning = [name for name in self.policy if name in _TURNING]
        if turning and largest(self.p) > MAX_LEAK_FREE_P:
            raise ValueError(
                f"policy {', '.join(turning)} with p {largest(self.p)}: the generator would make such images, too; "
                f"set p to {MAX_LEAK_FREE_P} or less, or use flip where mirrored images are right"
            )
        return self
