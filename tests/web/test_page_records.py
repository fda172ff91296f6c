"""A page's record comes from outside: what is whole becomes a device record, anything else one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from saved_by_page import PHONE, page_record

from ttsopt_lib.params import read_study
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.web.records import PageBrowser, device_record, plain, put_together, read_page_record

STUDY = read_study(Path("params/joe.yaml"))
SCRIPT = "<img src=x onerror=alert(1)>`$\\frac{1}{0}$`\u202e\x1b[31m\n"


def read(values: dict[str, Any] | str):
    return read_page_record(values if isinstance(values, str) else json.dumps(values), "phone.json")


def test_a_record_becomes_a_device_record_with_the_same_samples():
    values = page_record(STUDY, threads=(1, 2))
    record = device_record(read(values))
    assert DeviceRecord.model_validate_json(record.model_dump_json()) == record
    assert (record.kind, record.status, record.study) == ("browser", "measured", "joe")
    assert [row.seconds for row in record.rows] == [row["seconds"] for row in values["rows"]]
    assert {(row.runtime, row.threads) for row in record.rows} == {("onnxruntime-web", 1), ("onnxruntime-web", 2)}
    assert [(stop.threads, stop.blocks) for stop in record.stops] == [(1, 6), (2, 6)]
    assert record.system and record.system.browser and record.system.hostname_hash is None
    assert record.system.logical_cores == 8 and record.system.browser.memory_gb == 8
    assert record.system.packages == {"onnxruntime-web": "1.30.0"} and record.energy and record.energy.reason
    assert record.label == "Google Chrome 141 on Android (8 cores)"


def test_a_block_without_its_mirror_image_is_left_out():
    record = device_record(read(page_record(STUDY, blocks=7)))
    assert {len(row.seconds) for row in record.rows} == {6} and record.stops[0].blocks == 6


@pytest.mark.parametrize(
    ("agent", "label"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox 140 on Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/26.0 Mobile/15E148 Safari/604.1",
            "Safari 26 on iPhone",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 "
            "Safari/537.36 Edg/141.0",
            "Edge 141 on Windows",
        ),
        ("somebody", "a browser on an unknown system"),
    ],
)
def test_a_browser_that_names_no_brand_is_known_by_its_user_agent(agent, label):
    told = PHONE | {"user_agent": agent, "brands": None, "platform": None, "logical_cores": None}
    assert PageBrowser.model_validate(told).label == label


def test_a_device_keeps_its_name_when_its_browser_is_updated_and_another_has_another():
    def name(**told: Any) -> str:
        return PageBrowser.model_validate(PHONE | told).device

    assert name(brands="Google Chrome 142, Chromium 142") == name() != name(logical_cores=6)
    assert name(platform="../../etc", brands=SCRIPT).strip("abcdefghijklmnopqrstuvwxyz0123456789-") == ""
    assert len(name(brands="x" * 200)) < 60


def test_nothing_that_a_browser_says_means_anything_to_html_a_terminal_or_a_figure():
    told = dict.fromkeys(("user_agent", "brands", "platform", "webgpu"), SCRIPT)
    record = device_record(read(page_record(STUDY, browser=told, warnings=[SCRIPT])))
    said = json.dumps([record.system.model_dump() if record.system else None, record.label, record.warnings[0].text])
    assert not set("<>&`$\\'\x1b\n\u202e") & set(said.replace('\\"', ""))
    assert plain(SCRIPT) == "img src x onerror alert(1) frac 1 0 31m"


def test_records_of_one_number_of_threads_after_the_other_are_put_together():
    parts = [read(page_record(STUDY, threads=(count,), blocks=count * 4)) for count in (1, 2)]
    whole = put_together(parts)
    record = device_record(whole)
    assert whole.threads == [1, 2] and [(stop.threads, stop.blocks) for stop in record.stops] == [(1, 4), (2, 8)]
    assert record.elapsed_seconds == pytest.approx(122.4) and len(record.sittings) == 2


Change = Callable[[dict[str, Any]], object]
SPOILED: dict[str, tuple[Change, str]] = {
    "of another format": (lambda r: r.update(format="x"), "format"),
    "of another schema": (lambda r: r.update(schema_version=2), "schema_version"),
    "with a key that nobody knows": (lambda r: r.update({SCRIPT: 1}), "Extra inputs"),
    "with NaN": (lambda r: r["rows"][0]["seconds"][0].__setitem__(0, float("nan")), "rows.0.seconds.0.0"),
    "with infinity": (lambda r: r.update(elapsed_seconds=float("inf")), "elapsed_seconds"),
    "with a time of 0": (lambda r: r["rows"][1]["seconds"][2].__setitem__(1, 0), "greater than 0"),
    "with a time below 0": (lambda r: r["rows"][1].update(load_seconds=[-1]), "greater than 0"),
    "with a time as text": (lambda r: r["rows"][1]["seconds"][2].__setitem__(1, "1"), "valid number"),
    "with a million blocks": (lambda r: r["rows"][0].update(seconds=[[1, 1, 1, 1]] * 10**6), "at most 1000"),
    "of a single block": (
        lambda r: [row.update(seconds=row["seconds"][:1], audio_seconds=row["audio_seconds"][:1]) for row in r["rows"]],
        "at least 2",
    ),
    "with a row cut short": (lambda r: r["rows"][2]["seconds"].pop(), "are not whole"),
    "with a sentence missing": (lambda r: r["rows"][2]["audio_seconds"][3].pop(), "are not whole"),
    "with more sentences than times": (lambda r: r["sentences"].append(r["sentences"][0]), "are not whole"),
    "without rows": (lambda r: r.update(rows=[]), "rows"),
    "without the original": (lambda r: r["rows"].pop(0), "has no original to be compared with"),
    "with a row twice": (lambda r: r["rows"].append(r["rows"][1]), "two rows"),
    "with threads that no row has": (lambda r: r.update(threads=[1, 4]), "numbers of threads"),
    "with half a block": (lambda r: r["sittings"][0].update(blocks=1.5), "sittings.0.blocks"),
    "with true for a number": (lambda r: r["rows"][0].update(threads=True), "rows.0.threads"),
    "with a path for a variant": (lambda r: r["rows"][1].update(variant="../x"), "rows.1.variant"),
    "with HTML for a variant": (lambda r: r["rows"][1].update(variant=SCRIPT), "rows.1.variant"),
    "with a hash that is none": (lambda r: r["rows"][1].update(model_sha256="x" * 64), "model_sha256"),
    "with a version that is none": (lambda r: r.update(onnxruntime_web=SCRIPT), "onnxruntime_web"),
    "with a time that is none": (lambda r: r.update(created="yesterday"), "created"),
    "with a user agent without end": (lambda r: r["browser"].update(user_agent="x" * 10**6), "at most 600"),
    "with warnings without end": (lambda r: r.update(warnings=["x"] * 10**5), "at most 200"),
    "nested without end": (lambda r: r.update(warnings=nested(100)), "warnings"),
}  # fmt: skip


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_no_whole_record_is_one_line(name):
    change, said = SPOILED[name]
    values = page_record(STUDY)
    change(values)
    with pytest.raises(RecordError) as found:
        read(values)
    text = str(found.value)
    assert said in text and text.startswith("phone.json: ") and len(text.splitlines()) == 1 and len(text) < 500
    assert not set("<>\x1b") & set(text) and "measure on the page" in text


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 10**5, '{"format": "ttsopt browser record"}'])
def test_what_is_no_record_at_all_is_one_line(content):
    with pytest.raises(RecordError, match="^phone.json: not a record that a page saves"):
        read(content)


def test_a_file_without_end_is_not_read():
    with pytest.raises(RecordError, match="larger than 20 MB"):
        read(" " * 20_000_001)
