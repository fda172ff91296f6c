"""A browser in the report: its rows, what int8 becomes in it, the page beside the report; and no trace without one."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import invented_records as records
import pytest
from saved_by_page import page_record

from ttsopt_lib.measure.importing import import_record
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import VariantRecord
from ttsopt_lib.report.chapters import provenance
from ttsopt_lib.report.chapters.speed import browser, timings
from ttsopt_lib.report.facts.browsers import browsers, lost_in, processor_beside
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.numbers import FILE_SIZE, REDUCTION
from ttsopt_lib.report.printing.pdf import for_paper
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.report.sections import Report, all_tables
from ttsopt_lib.study import ORIGINAL, Study

SPEED = {"int8-static": 0.97, "distilled-int8": 0.36}  # int8-static takes 0.53 of the time on the invented processor
HOSTILE = '"><script>alert(1)</script>$\\frac{'


def models(study: Study, folder: StudyFolder) -> dict[str, str]:
    return {
        name: read_record(folder.variant_record(name), VariantRecord, "optimize").files["model.onnx"]
        for name in study.variant_names
    }


@pytest.fixture
def with_phone(tmp_path: Path) -> Callable[..., tuple[Summary, StudyFolder]]:
    """The invented good study after a phone's record was imported."""

    def make(**changes: Any) -> tuple[Summary, StudyFolder]:
        study, devices, folder = records.good(tmp_path / "here")
        file = tmp_path / "phone.json"
        values = {"models": models(study, folder), "speed": SPEED, "blocks": 12, "threads": (1, 2), **changes}
        file.write_text(json.dumps(page_record(study, **values)))
        import_record(study, folder, file)
        return summarize(study, devices, folder), folder

    return make


def phone_of(summary: Summary):
    return next(device for device in summary.devices if device.kind == "browser")


@pytest.mark.slow
def test_a_phone_s_rows_are_judged_like_any_device_s(with_phone):
    summary, _ = with_phone()
    phone = phone_of(summary)
    assert phone.judged and phone.runtime == "onnxruntime-web"
    assert phone.label == "Google Chrome 141 on Android (8 cores)"
    original, static = (summary.timing_of(phone, name) for name in (ORIGINAL, "int8-static"))
    assert original and static and static.latency_reduction and original.peak_memory_mb is None
    assert static.latency_reduction.value == pytest.approx(0.03, abs=0.02)
    assert {row.claim for row in summary.verdict if row.device == phone.device} >= {"latency_reduction"}
    assert not any(row.claim == "first_sound_ms" for row in summary.verdict if row.device == phone.device)
    html = "".join(timings.section(summary))
    assert "ONNX Runtime in WebAssembly, 1 thread" in html and "ONNX Runtime in WebAssembly, 2 threads" in html
    table = html[html.index(f"Every timing on {phone.label}") :]
    assert "Peak memory" not in table[: table.index("</thead>")] and "Peak memory" in html
    frame = next(table.frame for table in all_tables(summary) if table.name == "devices")
    assert {"onnxruntime-web"} == set(frame[frame["device"] == phone.label]["runtime"])


@pytest.mark.slow
def test_what_a_browser_told_stands_beside_the_machines(with_phone):
    summary, _ = with_phone()
    table = provenance.machines(summary)
    row = table.frame[table.frame["device"] == phone_of(summary).label].iloc[0]
    assert row["browser"] == "Google Chrome 141, WebAssembly with SIMD, not cross-origin isolated"
    assert row["os"] == "Android" and row["packages"] == "onnxruntime-web 1.30.0" and row["logical_cores"] == 8
    assert "8 or more" in table.html and "nan" not in table.html.lower() and "None" not in table.html


@pytest.mark.slow
def test_variants_that_lose_the_speed_of_int8_are_told_with_both_figures(with_phone, golden):
    summary, _ = with_phone(browser={"webgpu": "qualcomm adreno-7xx", "cross_origin_isolated": True})
    phone = phone_of(summary)
    processor = processor_beside(summary, phone)
    assert processor and processor.device == "cpu" and browsers(summary) == [phone]
    (lost,) = lost_in(summary, phone, processor)
    assert lost.variant == "int8-static" and lost.here.value > 0.4 > 0.1 > lost.there.value
    (advice,) = [one for one in summary.advice if one.rule == "int8_in_a_browser"]
    assert all(REDUCTION.figure(one) in advice.because for one in (lost.there, lost.here))
    assert advice.figures == {"browser_int8-static": lost.there.value, "processor_int8-static": lost.here.value}
    assert "int8_without_gain" not in {one.rule for one in summary.advice}
    notes = [*browser.notes(phone), *browser.int8_notes(summary)]
    assert "qualcomm adreno-7xx" in notes[0] and "not measured" in notes[0]
    golden(advice.text, advice.because, *notes)


@pytest.mark.slow
def test_a_variant_that_keeps_its_speed_calls_for_nothing(with_phone):
    summary, _ = with_phone(speed=SPEED | {"int8-static": 0.5})
    assert "int8_in_a_browser" not in {one.rule for one in summary.advice} and browser.int8_notes(summary) == []


@pytest.mark.slow
def test_the_page_beside_the_report_is_linked_with_what_it_takes_to_load(with_phone, golden):
    _, folder = with_phone()
    study, devices = records.good(folder.path.parent.parent / "again")[:2]
    write_page(folder, models(study, folder))
    summary = summarize(study, devices, folder)
    web = summary.web
    assert web and web.page == "web/index.html"
    assert web.size_bytes == 3 + 2_000_000 + (folder.web / "web.json").stat().st_size
    runtime = len(zlib.compress(b"\0" * 2_000_000, 6))
    assert runtime < web.compressed_bytes < runtime + 2000
    assert [(voice.variant, voice.size_bytes, voice.current) for voice in web.voices] == [
        (ORIGINAL, records.SIZE, True), ("distilled-int8", 20_000, False)
    ]  # fmt: skip
    shown, printed = Report(summary, folder).first_page().text, browser.link(summary)
    assert '<a href="web/index.html">web/index.html</a>' in shown and printed in shown
    paper = for_paper(printed)
    assert paper.count("paper-only") == 1 and "<code>web/index.html</code>" in paper
    notes = browser.download_notes(summary, web)
    total = FILE_SIZE.value(web.size_bytes + records.SIZE)
    assert total in notes[0] and "`ttsopt web`" in notes[1] and "distilled-int8" in notes[1]
    golden(*notes)


def write_page(folder: StudyFolder, known: dict[str, str]) -> None:
    """A page as `ttsopt web` would leave it, with files of these sizes."""
    (folder.web / "voices").mkdir(parents=True)
    (folder.web / "index.html").write_text("<p>")
    (folder.web / "onnxruntime.wasm").write_bytes(b"\0" * 2_000_000)
    voices = {ORIGINAL: (records.SIZE, known[ORIGINAL]), "distilled-int8": (20_000, "another")}
    about = []
    for name, (size, digest) in voices.items():
        file = f"voices/{name}.onnx"
        (folder.web / file).touch()
        os.truncate(folder.web / file, size)
        half = f"voices/{name}.decoder.onnx"
        (folder.web / half).write_bytes(b"half of a voice")
        pieces = {"decoder": {"file": half, "bytes": 15}}
        about.append({"name": name, "file": file, "sha256": digest, "bytes": size, "pieces": pieces})
    about.append({"name": HOSTILE, "file": "../../../etc/passwd", "sha256": "", "bytes": 1})
    (folder.web / "web.json").write_text(json.dumps({"variants": about}))


@pytest.mark.parametrize("content", ["", "[]", '{"variants": 3}', '{"variants": [3]}'])
def test_a_page_that_does_not_say_what_it_has_is_no_page(content, case):
    study, devices, folder = case("bad")
    folder.web.mkdir(exist_ok=True)
    (folder.web / "index.html").write_text("<p>")
    (folder.web / "web.json").write_text(content)
    assert summarize(study, devices, folder).web is None


@pytest.mark.slow
def test_nothing_that_a_phone_says_becomes_html_or_breaks_a_figure(with_phone):
    told = dict.fromkeys(("user_agent", "brands", "platform", "webgpu"), HOSTILE)
    summary, folder = with_phone(browser=told, warnings=[HOSTILE])
    report = Report(summary, folder)
    html = report.devices().text + report.provenance().text + report.first_page().text
    assert "<script" not in html and "alert(1)" in html and "frac" in html and "$" not in html


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "unmeasured"])
def test_a_report_without_a_browser_says_nothing_of_one(name, summary, case):
    one = summary(name)
    assert one.web is None and browser.link(one) == "" and browser.section(one) == []
    assert "browser" not in provenance.machines(one).frame.columns
    assert "WebAssembly" not in Report(one, case(name)[2]).devices().text
