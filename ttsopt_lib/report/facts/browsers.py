"""What WebAssembly does to int8 arithmetic: a browser's figures beside a processor's own."""

from __future__ import annotations

from typing import NamedTuple

from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.schema import Decided, DeviceSummary, Estimate, VariantSummary

NOTICED = 0.05  # of the original's time: what a variant has to lose in a browser to be named
REACHES = 0.2  # of the multiply-accumulates: a step that computes less in int8 cannot be blamed


class Lost(NamedTuple):
    """A variant that saves less in a browser than on a processor, surely."""

    variant: str
    there: Estimate  # less time in the browser, as a fraction
    here: Estimate  # less time on the processor


def computes_in_int8(variant: VariantSummary) -> bool:
    """Whether a good part of a variant's work is int8 arithmetic."""
    return any(step.kind == "int8 products" and step.coverage.macs >= REACHES for step in variant.steps)


def browsers(summary: Decided) -> list[DeviceSummary]:
    """The browsers that were timed and are judged."""
    return [device for device in summary.measured_devices if device.kind == "browser"]


def processor_beside(summary: Decided, browser: DeviceSummary) -> DeviceSummary | None:
    """The processor that a browser is compared with: its own machine's, else the first that was timed."""
    timed = [device for device in summary.measured_devices if device.kind in ("cpu", "raspberry_pi")]
    own = [device for device in timed if _machine(browser) and _machine(device) == _machine(browser)]
    return next(iter(own or timed), None)


def lost_in(summary: Decided, browser: DeviceSummary, processor: DeviceSummary) -> list[Lost]:
    """The variants with int8 arithmetic that lose speed in a browser: those that lose most come first."""
    found = []
    for variant in findings.of_variants(summary):
        there = findings.latency_of(summary, browser, variant.name)
        here = findings.latency_of(summary, processor, variant.name)
        if not computes_in_int8(variant) or there is None or here is None:
            continue
        apart = there.ci is not None and here.ci is not None and there.ci[1] < here.ci[0]
        if apart and here.value - there.value >= NOTICED:
            found.append(Lost(variant.name, there, here))
    return sorted(found, key=lambda one: one.there.value - one.here.value)


def _machine(device: DeviceSummary) -> str | None:
    return device.system.hostname_hash if device.system else None
