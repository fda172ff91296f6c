"""Does timing on this machine tell the truth? The same file twice (A/A), and a voice with a known amount of extra work.

`ttsopt selfcheck`. Each run is a small measurement of its own, as a study's is: fresh workers, interleaved blocks.
95 % intervals are to contain the truth in 19 runs of 20. For the copy the truth is 0; for the voice with extra work it
is what the work takes when it is timed alone, beside the voice, over all runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats as distributions

from ttsopt_lib.measure.blocks import time_rows
from ttsopt_lib.measure.calibrated_load import voice_with_work, work_alone
from ttsopt_lib.measure.machine.conditions import ConditionsWatch
from ttsopt_lib.measure.plan import PlannedRow, TimingPlan
from ttsopt_lib.measure.timing import planned_sentences
from ttsopt_lib.records.device import TimingRow
from ttsopt_lib.statistics.intervals import WithInterval, reduction
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, MeasureSettings, Study

if TYPE_CHECKING:
    from ttsopt_lib.voices.adapters.model import TtsModel

EXTRA, ALONE = "extra-work", "work-alone"
MULTIPLICATIONS = 10  # about a third of what a one-word sentence of a medium voice takes
UNLIKELY = 0.02  # a sound measurement has fewer right runs than are asked for with this probability at most


@dataclass(frozen=True)
class CheckedRun:
    """One run: the reduction that it found for the copy and for the voice with extra work."""

    copy: WithInterval
    extra: WithInterval
    alone: list[float]  # per block: seconds of the work alone / seconds of the voice
    blocks: int


@dataclass(frozen=True)
class Selfcheck:
    """What the runs found. `warnings` are of the machine, as in a device record."""

    runs: list[CheckedRun]
    warnings: list[str]

    @property
    def truth(self) -> float:
        """The reduction of the voice with extra work, from the work alone: negative, because it is slower."""
        return -float(np.median([share for run in self.runs for share in run.alone]))

    @property
    def copies_right(self) -> int:
        """In how many runs the interval of the copy contains 0."""
        return sum(run.copy.ci[0] <= 0 <= run.copy.ci[1] for run in self.runs)

    @property
    def extras_right(self) -> int:
        """In how many runs the interval of the voice with extra work contains the truth."""
        return sum(run.extra.ci[0] <= self.truth <= run.extra.ci[1] for run in self.runs)

    @property
    def right(self) -> bool:
        """Whether enough intervals contain their truth."""
        return min(self.copies_right, self.extras_right) >= self.needed

    @property
    def needed(self) -> int:
        """The fewest correct runs that chance still explains: 17 of 20."""
        return int(distributions.binom.ppf(UNLIKELY, len(self.runs), 0.95))

    def lines(self) -> list[str]:
        """The result in words."""
        runs, blocks = len(self.runs), self.runs[0].blocks
        copy, extra = (
            float(np.median([figure.ci[1] - figure.ci[0] for figure in figures]))
            for figures in ([run.copy for run in self.runs], [run.extra for run in self.runs])
        )
        return [
            f"{runs} runs of {blocks} blocks; of the 95 % intervals at least {self.needed} should contain the truth",
            f"the original against its copy, truth 0: {self.copies_right} of {runs} "
            f"(median width {100 * copy:.1f} points)",
            f"a voice with extra work, truth {100 * self.truth:+.1f} %: {self.extras_right} of {runs} "
            f"(median width {100 * extra:.1f} points)",
            *(f"warning: {text}" for text in self.warnings),
        ]


def selfcheck_study(
    study: Study, model: TtsModel, *, runs: int = 20, blocks: int = 12, done: Callable[[], object] = lambda: None
) -> Selfcheck:
    """Check a study's original voice on the two shortest of its timing sentences, with one thread.

    Measures `runs` times with `blocks` blocks each; `done` is called after each run.
    Raises `MeasureError` for a voice that cannot be timed.
    """
    import onnx

    voice, speaker = model.vits("the self-check").path, model.speaker(study.voice.speaker)
    sentences = sorted(planned_sentences(study, model), key=lambda one: len(one.ids))[:2]
    settings = MeasureSettings(budget_seconds=1, warmup_passes=1, min_blocks=blocks, max_blocks=blocks)
    with TemporaryDirectory(prefix="ttsopt-") as name, ConditionsWatch() as watch:
        extra, alone = Path(name) / f"{EXTRA}.onnx", Path(name) / f"{ALONE}.onnx"
        onnx.save(voice_with_work(voice, MULTIPLICATIONS), str(extra))
        onnx.save(work_alone(MULTIPLICATIONS, speaker is not None), str(alone))
        files = {ORIGINAL: voice, ORIGINAL_COPY: voice, EXTRA: extra, ALONE: alone}
        found = []
        for number in range(runs):
            plan = TimingPlan(
                rows=tuple(
                    PlannedRow(variant=variant, runtime="onnxruntime", threads=1, model=file, speaks=variant != ALONE)
                    for variant, file in files.items()
                ),
                sentences=tuple(sentences),
                scales=model.timing_scales,
                speaker=speaker,
                sample_rate=model.sample_rate,
                settings=settings.model_copy(update={"seed": number}),
            )
            found.append(_checked(time_rows(plan, started=watch.ignore).rows))
            done()
    return Selfcheck(found, watch.warnings)


def _checked(rows: list[TimingRow]) -> CheckedRun:
    by_name = {row.variant: row for row in rows}
    original = by_name[ORIGINAL]
    alone, voice = (np.sum(by_name[name].seconds, axis=1) for name in (ALONE, ORIGINAL))
    return CheckedRun(
        copy=reduction(by_name[ORIGINAL_COPY], original),
        extra=reduction(by_name[EXTRA], original),
        alone=(alone / voice).tolist(),
        blocks=len(original.seconds),
    )
