"""A row that a warning is about has a mark that leads to the warning; other rows have none."""

from __future__ import annotations

import re

import pytest

from ttsopt_lib.measure.sample_checks import sample_doubts
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord, Doubt
from ttsopt_lib.report.chapters import doubts
from ttsopt_lib.report.chapters.doubts import ANCHOR, concerns, marks
from ttsopt_lib.report.chapters.speed import timings
from ttsopt_lib.report.printing.html import note
from ttsopt_lib.report.schema import Summary

MACHINE = "load average was 1.9 when the timing began: other programs were running"


@pytest.fixture
def doubted(case, summary) -> Summary:
    """The good study, timed with hiccups of two rows, with the warnings that the measurement itself would give."""
    study, devices, folder = case("good")
    rows = read_record(folder.device_record(devices[0].name), DeviceRecord, "measure").rows
    one_thread = [row for row in rows if (row.runtime, row.threads) == ("onnxruntime", 1)]
    for row in one_thread:
        factor = 3.0 if row.variant in ("int8-static", "original-copy") else 1.0
        row.seconds = [[factor * value for value in row.seconds[0]], *row.seconds[1:]]
    warnings = [Doubt(text=MACHINE), *sample_doubts(one_thread, study.measure)]
    found = summary("good")
    changed = found.devices[0].model_copy(update={"warnings": warnings})
    return found.model_copy(update={"devices": [changed, *found.devices[1:]]})


def marked(page: str) -> dict[str, list[str]]:
    """The heading of each table row -> the warnings that it leads to."""
    rows = re.findall(r'<th scope="row(?:group)?"[^>]*>(.*?)</th>', page)
    return {re.sub(r"<[^>]+>", "", row): re.findall(r'href="#warning-(\d+)"', row) for row in rows}


def test_a_warning_marks_the_rows_that_it_names_and_no_other(doubted):
    (unstable,) = [one for one in concerns(doubted) if one.doubt.text.startswith("unstable latencies")]
    assert set(unstable.doubt.rows) == {"int8-static", "original-copy"}
    (page,) = timings.section(doubted)
    one_thread, two_threads = page[page.index(", 1 thread") :].split(", 2 threads", 1)
    for name, numbers in marked(one_thread).items():
        plain = name.split(" ")[0]
        assert (str(unstable.number) in numbers) == (plain in unstable.doubt.rows), name
    assert not any(marked(two_threads).values())


def test_a_warning_about_all_rows_stands_at_their_heading(doubted):
    few = next(one for one in concerns(doubted) if "too few for a 95th percentile" in one.doubt.text)
    assert not few.doubt.rows and few.doubt.text.startswith("12 blocks")
    heading = next(key for key in marked(timings.section(doubted)[0]) if key.startswith("ONNX Runtime, 1 thread"))
    assert f"†{few.number}" in heading and "†" not in heading.split("†")[0]


def test_a_mark_leads_to_its_warning_and_is_read_aloud(doubted):
    box = note("Warnings", doubts.warnings(doubted), anchor=ANCHOR)
    for one in concerns(doubted):
        item = re.search(rf'<li id="warning-{one.number}">(.*?)</li>', box)
        assert item and beginning(one.doubt.words) in item[1]
        runtime, threads, rows = one.doubt.runtime, one.doubt.threads, list(one.doubt.rows)
        assert runtime and threads
        mark = marks([one], one.device, runtime, threads, rows[0] if rows else None)
        assert f'aria-label="Warning {one.number}: ' in mark
    assert all(one.number > 1 for one in concerns(doubted)), "the first is about the machine and marks no row"


def beginning(text: str) -> str:
    """The beginning of a warning as it stands in HTML."""
    return text.split("(")[0].strip()


def test_without_such_warnings_nothing_is_marked(summary):
    assert concerns(summary("good")) == []
    assert 'class="doubt"' not in "".join(timings.section(summary("good")))
