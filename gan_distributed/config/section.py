"""What sections are made of: kinds of numbers, the frozen section, and values that change with the images seen."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(Section):
    """A value that changes with the images seen: `start`, from `after_kimg` on to `end` over `kimg`, then constant."""

    start: NotNegative
    end: NotNegative
    kimg: Positive = Field(description="length of the change, in thousands of images")
    shape: Literal["linear", "cosine"] = Field("cosine", description="half a cosine, or a straight line")
    after_kimg: NotNegative = Field(0.0, description="thousands of images before the change begins")


def largest(value: float | Schedule) -> float:
    """The largest value that a number or a schedule takes."""
    return max(value.start, value.end) if isinstance(value, Schedule) else value
