"""What the layers of a voice see: histograms of their inputs and outputs, and the ranges that 8 bits should span.

A range is chosen tensor by tensor. Three rules:

* `minmax`: all that was seen. Nothing is clipped, and one outlier widens every step.
* `percentile`: all but the outermost 0.01 % on either side.
* `squared_error`: the ends that make rounding and clipping together cost the least, found on the histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto

from ttsopt_lib.optimize.calibration import Feed, tensor_values

Range = tuple[float, float]
RangeRule = Literal["minmax", "percentile", "squared_error"]
BINS = 2048
STEPS = 255  # of an unsigned byte
OUTSIDE = 1e-4  # fraction that `percentile` leaves out on either side
SHRINKING = np.linspace(1.0, 0.2, 33)  # ends that `squared_error` tries, as fractions of those seen
VALUES = 20_000  # of a tensor and an utterance that are counted, evenly spread; the span is that of all


@dataclass(frozen=True)
class Histogram:
    """Values of one tensor over all calibration utterances; its span includes 0, which must be exact in int8."""

    low: float
    high: float
    counts: np.ndarray  # [BINS], equal bins from low to high

    @property
    def centres(self) -> np.ndarray:
        width = (self.high - self.low) / BINS
        return self.low + width * (np.arange(BINS) + 0.5)

    def range(self, rule: RangeRule) -> Range:
        """The range that 8 bits should span."""
        if rule == "minmax":
            return self.low, self.high
        return self._percentile() if rule == "percentile" else self._least_squared_error()

    def _percentile(self) -> Range:
        share = np.cumsum(self.counts) / max(self.counts.sum(), 1)
        low = self.centres[int(np.searchsorted(share, OUTSIDE))]
        high = self.centres[min(int(np.searchsorted(share, 1 - OUTSIDE)), BINS - 1)]
        return min(float(low), 0.0), max(float(high), 0.0)

    def _least_squared_error(self) -> Range:
        low, high = self.low, self.high
        for _ in range(2):  # one end after the other, twice: the ends hardly depend on each other
            high = min((self._squared_error(low, self.high * s), self.high * s) for s in SHRINKING)[1]
            low = min((self._squared_error(self.low * s, high), self.low * s) for s in SHRINKING)[1]
        return low, high

    def _squared_error(self, low: float, high: float) -> float:
        values = self.centres
        clipped = np.clip(values, low, high) - values
        step = (high - low) / STEPS
        inside = (values >= low) & (values <= high)
        return float(np.sum(self.counts * (clipped**2 + inside * step**2 / 12)))


def histograms(model: ModelProto, tensors: Sequence[str], feeds: Sequence[Feed]) -> dict[str, Histogram]:
    """Histograms of float tensors over the utterances. The model's noise must be seeded for repeatable ones."""
    wanted = list(dict.fromkeys(tensors))
    spans = dict.fromkeys(wanted, (0.0, 0.0))
    kept: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for values in tensor_values(model, wanted, feeds):
        for name, value in values.items():
            low, high = spans[name]
            spans[name] = min(low, float(value.min())), max(high, float(value.max()))
            kept[name].append(value.reshape(-1)[:: -(-value.size // VALUES)].copy())
    found = {}
    for name, (low, high) in spans.items():
        span = (low, high) if high - low > 1e-8 else (0.0, 1e-8)  # some width even where a tensor is always 0
        counts, _ = np.histogram(np.concatenate(kept.pop(name)), BINS, span)
        found[name] = Histogram(*span, counts.astype(np.float64))
    return found
