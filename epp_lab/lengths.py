"""Lengths and times drawn from a distribution, named as the field's load generators name them."""

from __future__ import annotations

import math
import random
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Spread(BaseModel):
    """`{type, mean, std_dev, skew, min, max}`; a plain number in a file means `fixed`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["fixed", "normal", "lognormal", "skew_normal", "uniform"] = "fixed"
    mean: float = Field(0.0, allow_inf_nan=False)
    std_dev: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    skew: float = Field(0.0, allow_inf_nan=False)
    min: float = Field(0.0, allow_inf_nan=False)
    max: float = math.inf

    @model_validator(mode="after")
    def _can_be_drawn_from(self) -> Self:
        if self.type == "lognormal" and self.mean <= 0:
            raise ValueError(f"mean of a lognormal is {self.mean:g}; give one above 0")
        if self.type == "uniform" and math.isinf(self.max):
            raise ValueError("max of a uniform is missing; give min and max")
        if not self.min <= self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; give the smaller first")
        return self

    def draw(self, rng: random.Random) -> float:
        """One value within `min`..`max`."""
        return min(max(self._raw(rng), self.min), self.max)

    def tokens(self, rng: random.Random) -> int:
        """One length, at least 1."""
        return max(round(self.draw(rng)), 1)

    def _raw(self, rng: random.Random) -> float:
        match self.type:
            case "fixed":
                return self.mean
            case "uniform":
                return rng.uniform(self.min, self.max)
            case "normal":
                return rng.gauss(self.mean, self.std_dev)
            case "skew_normal":
                return self._skewed(rng)
            case "lognormal":
                # mean and std_dev are those of the values, not of their logarithms.
                variance = math.log1p((self.std_dev / self.mean) ** 2)
                return rng.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))

    def _skewed(self, rng: random.Random) -> float:
        """Azzalini's skew normal with this location and scale."""
        delta = self.skew / math.sqrt(1 + self.skew * self.skew)
        one, other = abs(rng.gauss(0, 1)), rng.gauss(0, 1)
        return self.mean + self.std_dev * (delta * one + math.sqrt(1 - delta * delta) * other)


def spread(value: object) -> object:
    """A number becomes a fixed spread; anything else stays for pydantic to judge."""
    return {"mean": value} if isinstance(value, int | float) else value
