"""The first sound of voices that are spoken piece by piece, from a device's raw samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.records.device import FirstSoundRecord, StreamedRow
from ttsopt_lib.report.device_schema import FirstSoundRow, FirstSoundSummary, IdsTime
from ttsopt_lib.report.estimates import Estimate
from ttsopt_lib.statistics.intervals import log_ratio_interval, median_interval
from ttsopt_lib.study import ORIGINAL


def first_sound(record: FirstSoundRecord | None, not_streamed: dict[str, str]) -> FirstSoundSummary | None:
    """What was timed, in ms, with intervals over blocks.

    Args:
        record: of the device; None: nothing was timed.
        not_streamed: variant -> why it cannot be streamed, of those that the study asks for.
    """
    if record is None:
        return FirstSoundSummary(threads=0, not_streamed=not_streamed) if not_streamed else None
    original = next((row for row in record.rows if row.variant == ORIGINAL and row.piece_seconds is None), None)
    ids = np.asarray(record.ids_seconds)
    return FirstSoundSummary(
        threads=record.threads,
        blocks=len(record.rows[0].first_seconds),
        not_streamed=not_streamed,
        ids=[
            IdsTime(length_class=text.length_class, phonemes=text.phonemes, ids_ms=_ms(ids[:, number]))
            for number, text in enumerate(record.texts)
        ]
        if ids.size
        else [],
        rows=[_row(record, row, position, original, ids) for row in record.rows for position in range(len(row.texts))],
    )


def _row(
    record: FirstSoundRecord, row: StreamedRow, position: int, original: StreamedRow | None, ids: NDArray
) -> FirstSoundRow:
    text = row.texts[position]
    first, streamed = (np.asarray(of)[:, position] for of in (row.first_seconds, row.streamed_seconds))
    whole, of_original = _whole(row, text), _whole(original, text)
    leads = [block[position] for block in row.lead_seconds]
    return FirstSoundRow(
        variant=row.variant,
        piece_seconds=row.piece_seconds,
        length_class=record.texts[text].length_class,
        sentences=record.texts[text].sentences,
        first_ms=_ms(first),
        from_text_ms=_ms(first + ids[:, text]) if ids.size else None,
        streamed_ms=_ms(streamed),
        whole_ms=None if whole is None else _ms(whole),
        cost=None if whole is None else _ratio(streamed, whole, -1.0),
        share_of_original=None if of_original is None else _ratio(first, of_original, 0.0),
        lead_ms=None if None in leads else 1000 * min(lead for lead in leads if lead is not None),
    )


def _whole(row: StreamedRow | None, text: int) -> NDArray | None:
    """Seconds [block] of the whole voice on a text; None where that was not timed."""
    if row is None or text not in row.whole_texts:
        return None
    return np.asarray(row.whole_seconds)[:, row.whole_texts.index(text)]


def _ms(seconds: NDArray) -> Estimate:
    """The median with its interval, in ms."""
    return Estimate(**median_interval(1000 * seconds)._asdict())


def _ratio(above: NDArray, below: NDArray, plus: float) -> Estimate:
    """The typical ratio of neighbours in time, and something added to it."""
    center, low, high = (float(np.exp(end[0])) for end in log_ratio_interval(np.log(above / below)[None]))
    return Estimate(value=center + plus, ci=(low + plus, high + plus))


def slowest(summary: FirstSoundSummary | None, variant: str) -> Estimate | None:
    """The first sound with the highest upper end over the texts; None where it was not timed."""
    rows = growing(summary, [variant])
    return max((row.first_ms for row in rows), key=lambda one: one.ci[1] if one.ci else one.value, default=None)


def growing(summary: FirstSoundSummary | None, variants: Sequence[str] | None = None) -> list[FirstSoundRow]:
    """The rows of pieces that grow: as `ttsopt speak` speaks."""
    rows = summary.rows if summary else []
    return [row for row in rows if row.piece_seconds is None and (variants is None or row.variant in variants)]
