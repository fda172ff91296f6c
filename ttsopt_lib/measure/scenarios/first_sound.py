"""The time until a listener hears something, where a voice is spoken piece by piece, and what that costs.

Each block times, in random order and the next one in the mirrored order: every text to ids; every voice on every text
whole, in growing pieces, and the longest sentence in pieces of fixed lengths. All voices are open in one process, whose
numbers of threads are those that targets refer to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ttsopt_lib.measure.plan import PlannedText, TimingPlan
from ttsopt_lib.measure.process import Worker
from ttsopt_lib.records.device import FirstSoundRecord, StreamedRow, StreamedText

SHARE = 0.15  # of the time that all timing on a device may take
FEWEST, MOST = 4, 30  # blocks
FIXED_SECONDS = (0.5, 0.25)  # of pieces: what shorter ones cost


class _Job(NamedTuple):
    """One thing to time."""

    text: int
    voice: int | None = None  # None: the text to ids
    seconds: float | None = None  # of each piece; None: growing pieces
    whole: bool = False


def measure_first_sound(
    plan: TimingPlan, step: Callable[[int, int], None], until: float = float("inf")
) -> FirstSoundRecord | None:
    """Time the plan's streams; None where it has none, or no time.

    Args:
        plan: its `settings.budget_seconds` are those of the blocks of all rows; this takes `SHARE` of the whole.
        step: is told how much is done, and of how much.
        until: when it has to end, by `time.monotonic`; where that leaves no time for the fewest blocks, none is timed.

    Raises:
        MeasureError: a voice cannot be spoken.
    """
    if not plan.streams:
        return None
    budget = plan.settings.budget_seconds * SHARE / (1 - SHARE)
    row = next(row for row in plan.rows if row.threads == plan.streams[0].threads)
    samples: dict[_Job, list[dict[str, float | None]]] = {}
    with Worker(row) as worker:
        phonemizes = worker.open_streams(plan)
        jobs = _jobs(plan, phonemizes)
        for voice in range(len(plan.streams)):  # memory for the longest text is taken now
            for whole in (True, False):
                worker.time_stream(_Job(_longest(plan.texts), voice, whole=whole)._asdict())
        began, block, order = time.monotonic(), 0, jobs
        generator = np.random.default_rng(plan.settings.seed)
        while block < FEWEST or (block < MOST and time.monotonic() - began < budget):
            if time.monotonic() > until:
                if block >= 2:
                    break
                return None
            order = order[::-1] if block % 2 else [jobs[number] for number in generator.permutation(len(jobs))]
            for job in order:
                samples.setdefault(job, []).append(worker.time_stream(job._asdict()))
            block += 1
            spent = time.monotonic() - began
            step(int(100 * min(1.0, max(block / MOST, min(spent / budget, block / FEWEST)))), 100)
    return FirstSoundRecord(
        threads=plan.streams[0].threads,
        texts=[
            StreamedText(
                length_class=text.length_class,
                text=text.text,
                phonemes=sum(map(len, text.sentences)),
                sentences=len(text.sentences),
            )
            for text in plan.texts
        ],
        ids_seconds=_samples(samples, [_Job(text) for text in range(len(plan.texts))], "seconds") if phonemizes else [],
        rows=[
            _row(plan, samples, voice, seconds)
            for voice in range(len(plan.streams))
            for seconds in (None, *FIXED_SECONDS)
        ],
    )


def _jobs(plan: TimingPlan, phonemizes: bool) -> list[_Job]:
    """What a block times."""
    texts, longest = range(len(plan.texts)), _longest(plan.texts)
    alone = [text for text in texts if plan.texts[text].whole]
    jobs = [_Job(text) for text in texts] if phonemizes else []
    for voice in range(len(plan.streams)):
        jobs += [_Job(text, voice, whole=True) for text in alone]
        jobs += [_Job(text, voice) for text in texts]
        jobs += [_Job(longest, voice, seconds) for seconds in FIXED_SECONDS]
    return jobs


def _longest(texts: Sequence[PlannedText]) -> int:
    """Number of the longest text that is spoken whole as well."""
    alone = [number for number, text in enumerate(texts) if text.whole]
    return max(alone, key=lambda number: sum(map(len, texts[number].sentences)))


def _row(
    plan: TimingPlan, samples: dict[_Job, list[dict[str, float | None]]], voice: int, seconds: float | None
) -> StreamedRow:
    texts = [_longest(plan.texts)] if seconds else list(range(len(plan.texts)))
    jobs = [_Job(text, voice, seconds) for text in texts]
    whole = [job for text in texts if (job := _Job(text, voice, whole=True)) in samples]
    return StreamedRow(
        variant=plan.streams[voice].variant,
        piece_seconds=seconds,
        texts=texts,
        first_seconds=_samples(samples, jobs, "first"),
        streamed_seconds=_samples(samples, jobs, "seconds"),
        lead_seconds=_samples(samples, jobs, "lead"),
        whole_texts=[job.text for job in whole],
        whole_seconds=_samples(samples, whole, "seconds"),
    )


def _samples(samples: dict[_Job, list[dict[str, Any]]], jobs: Sequence[_Job], what: str) -> list[list[Any]]:
    """[block][job]."""
    return [list(block) for block in zip(*([one[what] for one in samples[job]] for job in jobs), strict=True)]
