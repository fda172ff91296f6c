"""The first sound of voices that are spoken piece by piece: when it is heard, and what speaking in pieces costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ttsopt_lib.report.device_schema import DeviceSummary, FirstSoundSummary
from ttsopt_lib.report.facts import first_sound as facts
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.numbers import MS, SHARE, Unit, counted
from ttsopt_lib.report.printing.html import bullets
from ttsopt_lib.report.printing.table import Column, Table, name_of, printed, row_of
from ttsopt_lib.report.schema import Summary

WORTH_SAYING = 0.2  # of the time to the first sound: what the phonemizer takes, or what pieces cost


def first_sound(devices: Sequence[DeviceSummary]) -> Table:
    """Every voice on every text, in growing pieces and in pieces of a fixed length."""
    return Table(
        "first_sound",
        "First sound, spoken piece by piece",
        [
            Column("device", of="device.label"),
            Column("threads", of="device.first_sound.threads"),
            Column("variant", "Variant", cell=name_of),
            Column("piece_seconds", "Pieces", cell=_pieces),
            Column("length_class", "Text", cell=lambda row: _words(row.length_class)),
            Column("first_ms", "First sound, ms", MS.bare, interval=True),
            Column("from_text_ms", "From the text on, ms", MS.bare, interval=True),
            Column("streamed_ms", "All pieces, ms", MS.bare, interval=True),
            _beside_whole("whole_ms", "Whole voice, ms", MS.bare),
            _beside_whole("cost", "Pieces take longer by", SHARE),
            _beside_whole("share_of_original", "First sound, of the original's whole time", SHARE),
            Column("lead_ms", "Least lead, ms", MS.bare, cell=_lead),
        ],
        [row_of(row, device=one) for one in devices if one.first_sound for row in one.first_sound.rows],
    )


def ids(devices: Sequence[DeviceSummary]) -> Table:
    """How long the phonemizer takes on each device."""
    return Table(
        "text_to_ids",
        "From text to phoneme ids",
        [
            Column("device", of="device.label"),
            Column("length_class", "Text", cell=lambda row: _words(row.length_class)),
            Column("phonemes", "Phonemes"),
            Column("ids_ms", "Text to ids, ms", MS.bare, interval=True),
        ],
        [row_of(row, device=one) for one in devices if one.first_sound for row in one.first_sound.ids],
    )


def section(summary: Summary) -> list[str]:
    """A table and some sentences for each device where it was timed."""
    found = []
    for device in summary.timed_devices:
        if device.first_sound is None:
            continue
        table = first_sound([device])
        if table.rows:
            caption = f"{table.caption} on {device.label}, {counted(device.first_sound.threads, 'thread')}"
            found.append(replace(table, caption=caption, part=device.device).html)
        spelled = ids([device])
        if spelled.rows:
            found.append(replace(spelled, caption=f"{spelled.caption} on {device.label}", part=device.device).html)
        found.append(bullets(notes(summary, device)))
    return found


def notes(summary: Summary, device: DeviceSummary) -> list[str]:
    """What the table means, what pieces cost, whether they come in time, and what the phonemizer takes."""
    streamed = device.first_sound
    if streamed is None:
        return []
    cannot = [f"`{name}` has no first sound: {why}." for name, why in streamed.not_streamed.items()]
    if not streamed.rows:
        return cannot
    return [
        "First sound: from phoneme ids to the first piece of audio. Growing pieces begin with a tenth of a second, and "
        "each further one is about twice as long; put together they are the whole voice's audio. The lead is how far "
        "the audio was ahead of a player at the tightest moment of any block.",
        *(note for name in dict.fromkeys(row.variant for row in streamed.rows) for note in _of_voice(streamed, name)),
        *_phonemizer(summary, device, streamed),
        *cannot,
    ]


def _of_voice(streamed: FirstSoundSummary, name: str) -> list[str]:
    rows = [row for row in streamed.rows if row.variant == name]
    late = [row for row in rows if row.lead_ms is not None and row.lead_ms < 0]
    said = []
    if late:
        where = listed([f"{_words(row.length_class)} in {_pieces(row)} pieces" for row in late])
        said.append(
            f"`{name}` would have run dry on this device ({where}): a player has to wait longer before it begins, "
            "or pieces have to be longer."
        )
    fixed = [row for row in rows if row.piece_seconds and row.cost and row.cost.ci and row.cost.ci[0] > 0]
    if fixed:
        costs = listed([f"{SHARE.figure(row.cost)} with pieces of {row.piece_seconds:g} s" for row in fixed])
        said.append(f"In pieces of one length `{name}` takes longer than whole on the longest sentence: {costs}.")
    return said


def _phonemizer(summary: Summary, device: DeviceSummary, streamed: FirstSoundSummary) -> list[str]:
    """What turning a text into ids takes beside the optimized voice's first sound, or the first timed voice's."""
    if not streamed.ids:
        return ["The phonemizer is not on this device, so the time from text to ids was not measured there."]
    chosen = summary.optimized.get(device.device)
    rows = facts.growing(streamed, [chosen] if chosen else None)
    longest = max(streamed.ids, key=lambda one: one.phonemes)
    row = next((row for row in rows if row.length_class == longest.length_class), None)
    if row is None or longest.ids_ms.value < WORTH_SAYING * row.first_ms.value:
        return []
    return [
        f"The phonemizer takes {MS.figure(longest.ids_ms)} for the {_words(longest.length_class)}, which is no longer "
        f"little beside the first sound of `{row.variant}`, {MS.figure(row.first_ms)}."
    ]


def lead(summary: Summary) -> str:
    """A sentence for the first page: when the optimized voice is first heard, on the text that takes it longest."""
    said = []
    for device in summary.measured_devices:
        name = summary.optimized.get(device.device)
        slowest = facts.slowest(device.first_sound, name) if name else None
        if slowest:
            where = f" on {device.label}" if len(summary.measured_devices) > 1 else ""
            said.append(f"after {MS.figure(slowest)}{where}")
    return f"Spoken piece by piece, the slowest of the timed texts is typically heard {listed(said)}." if said else ""


def _beside_whole(field: str, heading: str, unit: Unit) -> Column:
    """A figure that a text has only where the whole voice spoke it, too."""

    def cell(row: Any) -> str:
        value = getattr(row, field)
        if value is None and row.sentences > 1:
            return '<span class="none">not spoken whole</span>'
        return printed(value, unit)

    return Column(field, heading, unit, cell=cell, interval=True)


def _lead(row: Any) -> str:
    return '<span class="none">one piece</span>' if row.lead_ms is None else printed(row.lead_ms, MS.bare)


def _pieces(row: Any) -> str:
    return "growing" if row.piece_seconds is None else f"{row.piece_seconds:g} s"


def _words(length_class: str) -> str:
    return length_class.replace("_", " ")
