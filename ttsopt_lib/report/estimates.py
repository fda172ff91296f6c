"""What every part of the summary is made of: a strict model, and a figure with its interval."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]


class Part(BaseModel):
    """Base of every part of the summary. Unknown keys are refused, so that a summary of another schema is noticed."""

    model_config = ConfigDict(extra="forbid")


class Estimate(Part):
    """A figure that came from samples, with its 95 % interval (null where too few samples were there)."""

    value: float
    ci: Interval | None

    @property
    def ends(self) -> Interval:
        """Its interval; the value twice where there is none."""
        return self.ci or (self.value, self.value)


ZERO = Estimate(value=0.0, ci=(0.0, 0.0))  # the baseline against itself, by definition


def estimate(value: float | None, ci: Interval | None = None) -> Estimate | None:
    """A figure with its interval; None where there is no figure."""
    return None if value is None else Estimate(value=value, ci=ci)
