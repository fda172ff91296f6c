"""A browser on this machine: what is missing is said, and what a page measures becomes the device's record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from saved_by_page import page_record
from timed_study import add_variant, study_of

from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure import browser, devices
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.parallel_devices import measure_devices
from ttsopt_lib.measure.timing import current_measurement, device_key, measure_device, read_variants
from ttsopt_lib.params import check, read_device
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Device
from ttsopt_lib.web import build

STUDY = study_of("fp32", "other", budget_seconds=5, min_blocks=3, max_blocks=7, more_threads=["fp32"])
BROWSER = check(Device, {"name": "browser", "label": "Browser", "kind": "browser", "threads": [1, 2]}, "browser")

PAGE = '<!doctype html><title>Voices</title><script type="module" src="page.js"></script>'
SCRIPT = """
const records = await (await fetch("records.json")).json();
window.ttsopt = {
  ready: records.closed ? Promise.reject(new Error(records.closed)) : Promise.resolve(),
  progress: {doing: "opening fp32", done: 1, of: 2},
  measure: async (asked) => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    if (records.refused) throw new Error(records.refused);
    const record = records[asked.threads];
    return {...record, rows: record.rows.filter((row) => asked.variants.includes(row.variant)),
            warnings: [...record.warnings, `asked for ${asked.minBlocks} to ${asked.maxBlocks} in ${asked.seconds} s`]};
  },
};
"""


@pytest.fixture
def page(needs_chromium: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Have a page in place of the study's that finds what it is told; the folders in which it was written."""
    monkeypatch.setattr(browser, "LOOK_SECONDS", 0.2)
    written: list[Path] = []

    def finds(**said: Any) -> list[Path]:
        def write(study: Any, folder: StudyFolder, target: Path) -> Path:
            target.mkdir(parents=True)
            (target / "index.html").write_text(PAGE)
            (target / "page.js").write_text(SCRIPT)
            (target / "records.json").write_text(json.dumps(said))
            (target / "web.json").write_text("{}")
            written.append(target)
            return target

        monkeypatch.setattr(build, "write_web", write)
        return written

    return finds


def records(**changes: Any) -> dict[str, Any]:
    """What the page finds with one thread and with two."""
    return {str(count): page_record(STUDY, threads=(count,), **changes) for count in (1, 2)}


@pytest.mark.slow
def test_what_the_page_finds_is_the_device_s_record_and_is_not_measured_again(page, folder, capsys):
    found = records(browser={"brands": "<b>Chromium</b> 156"})
    written = page(**found)
    record = measure_device(STUDY, BROWSER, folder)
    assert record == read_record(folder.device_record("browser"), DeviceRecord, "measure")
    assert (record.device, record.label, record.kind, record.imported) == ("browser", "Browser", "browser", None)
    assert [row.seconds for row in record.rows if row.threads == 1] == [row["seconds"] for row in found["1"]["rows"]]
    assert {row.variant for row in record.rows if row.threads == 2} == {ORIGINAL, "fp32"}, "measure.more_threads"
    assert [doubt.text for doubt in record.warnings if doubt.text.startswith("asked")] == [
        "asked for 4 to 6 in 4 s", "asked for 4 to 6 in 1 s"
    ]  # fmt: skip
    here = describe_system()
    assert record.system and record.system.hostname_hash == here.hostname_hash and record.system.cpu == here.cpu
    assert record.system.browser and record.system.browser.name == "b Chromium /b 156"
    assert record.system.packages == {"onnxruntime-web": "1.30.0"}
    assert record.key == device_key(STUDY, BROWSER, read_variants(STUDY, folder)) and record.study == STUDY.name
    assert "opening fp32 in the browser" in capsys.readouterr().err
    assert not written[0].exists() and not folder.web.exists(), "the page for people stays as it is"
    assert current_measurement(STUDY, BROWSER, folder) == record == measure_device(STUDY, BROWSER, folder)
    assert len(written) == 1
    other = BROWSER.model_copy(update={"threads": (1,)})
    assert current_measurement(STUDY, other, folder) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"closed": "This browser is too old."}, "the page does not open in Chromium: This browser is too old."),
        ({"refused": "No voice could be opened."}, "the page could not measure: No voice could be opened."),
        (
            {**records(), "1": {**records()["1"], "provider": "<b>"}},
            "what the page measured: not a record that a page saves (provider: ",
        ),
    ],
)
def test_a_page_that_cannot_measure_leaves_the_reason(said, reason, page, folder):
    page(**said)
    (outcome,) = measure_devices(STUDY, [BROWSER], folder, progress=False)
    assert outcome.error and outcome.record.status == "not_measured"
    assert outcome.record.reason and reason in outcome.record.reason and len(outcome.record.reason.splitlines()) == 1


@pytest.mark.slow
def test_the_study_s_own_page_is_measured_in_chromium_and_a_voice_that_it_cannot_open_is_left_out(
    quick_voice, tmp_path, needs_chromium
):
    study = study_of("fp32", "odd", budget_seconds=2, min_blocks=2, max_blocks=4)
    folder = StudyFolder(study, tmp_path)
    config = Path(f"{quick_voice}.json")
    odd = onnx.load(str(quick_voice))
    odd.graph.node[-1].domain = "nobody"
    odd.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    for name, model in {ORIGINAL: quick_voice, "fp32": quick_voice, "odd": odd}.items():
        add_variant(folder, name, model, config)
    record = measure_device(study, BROWSER, folder, progress=False)
    assert {(row.variant, row.threads) for row in record.rows} >= {(ORIGINAL, 1), ("fp32", 1)}
    assert "odd" not in {row.variant for row in record.rows}
    assert any(doubt.text.startswith("not measured: odd:") for doubt in record.warnings)
    assert all(len(row.seconds) in (2, 4) and row.runtime == "onnxruntime-web" for row in record.rows)
    assert record.system and record.system.browser and record.system.browser.simd
    assert record.system.browser.cross_origin_isolated and "Chrom" in record.system.browser.name
    files = read_variants(study, folder)["fp32"].files
    assert {row.model_sha256 for row in record.rows if row.variant == "fp32"} == {files["model.onnx"]}
    texts = [text for group in study.sentences.timing.values() for text in group]
    assert [sentence.text for sentence in record.sentences] == texts and record.scales == [0.667, 1.0, 0.0]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("selenium", "pip install 'ttsopt[browser]'"),
        ("chromium", "no Chromium on this machine: apt install chromium chromium-driver"),
        ("chromedriver", "no chromedriver on this machine"),
    ],
)
def test_what_is_missing_is_the_reason_and_says_what_to_install(missing, said, folder, monkeypatch):
    gone = devices.BROWSERS if missing == "chromium" else (missing,)
    monkeypatch.setattr("shutil.which", lambda name: None if name in gone else f"/usr/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    record = measure_device(STUDY, BROWSER, folder, progress=False)
    assert record.status == "not_measured" and record.reason and said in record.reason
    assert current_measurement(STUDY, BROWSER, folder) == record


def test_a_browser_s_key_follows_the_page_and_no_other_device_s_does(folder, tmp_path, monkeypatch):
    from ttsopt_lib.measure import timing

    variants = read_variants(STUDY, folder)
    cpu = check(Device, {"name": "cpu", "label": "CPU", "kind": "cpu"}, "cpu")
    before = [device_key(STUDY, device, variants) for device in (BROWSER, cpu)]
    asked = []
    monkeypatch.setattr(timing, "code_digest", lambda *modules: asked.append(modules) or "code")
    monkeypatch.setattr(timing, "file_sha256", lambda path: path.name)
    after = [device_key(STUDY, device, variants) for device in (BROWSER, cpu)]
    assert before[0] != after[0] and asked[0] == ("ttsopt_lib.measure.browser", "ttsopt_lib.web")
    assert not any("web" in module for module in asked[1])


def test_the_device_file_that_ships_is_one_and_a_browser_elsewhere_is_refused():
    shipped = read_device(Path("params/browser.yaml"))
    assert (shipped.kind, shipped.runner, shipped.threads) == ("browser", "local", (1, 2))
    with pytest.raises(StudyError, match="kind: browser needs runner: local"):
        check(Device, BROWSER.model_dump(exclude_defaults=True) | {"runner": "ssh", "host": "pi"}, "browser")
