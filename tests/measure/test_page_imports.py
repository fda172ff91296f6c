"""What a study's web page saved is imported: under a name of its browser's, or as a device of kind browser."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from saved_by_page import page_record
from timed_study import SHORT_STUDY

from ttsopt_lib.measure.importing import import_record
from ttsopt_lib.measure.timing import current_measurement
from ttsopt_lib.params import check
from ttsopt_lib.records.base import RecordError, read_record, write_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Device

STUDY = SHORT_STUDY
PHONE = check(Device, {"name": "phone", "label": "My phone", "kind": "browser"}, "phone")


def saved(folder: Path, name: str = "phone.json", **changes: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(page_record(STUDY, **changes)))
    return path


def names(folder: StudyFolder) -> list[str]:
    return sorted(path.stem for path in folder.device_record("any").parent.glob("*.json"))


def test_a_page_s_record_stands_under_a_name_of_its_browser_with_the_library_s_figures(folder, tmp_path):
    record = import_record(STUDY, folder, saved(tmp_path, speed={"fp32": 0.5}))
    assert record == read_record(folder.device_record(record.device), DeviceRecord, "measure")
    assert record.device.startswith("browser-google-chrome-android-") and record.imported
    assert record.imported.file == "phone.json" and record.first_audio_sentence == 1
    (stop,) = record.stops
    assert stop.widest_interval is not None and 0 < stop.widest_interval < 0.2
    assert any("6 blocks are too few" in doubt.text for doubt in record.warnings)
    assert not any("cores only" in doubt.text for doubt in record.warnings)
    assert import_record(STUDY, folder, saved(tmp_path)).device == record.device


def test_threads_that_waited_for_one_another_are_told_from_the_device_s_own_cores(folder, tmp_path):
    record = import_record(STUDY, folder, saved(tmp_path, threads=(1, 16)))
    assert any("8 cores only" in doubt.text and doubt.threads == 16 for doubt in record.warnings)
    unknown = import_record(STUDY, folder, saved(tmp_path, threads=(1, 16), browser={"logical_cores": None}))
    assert not any("cores only" in doubt.text for doubt in unknown.warnings)


def test_phones_stand_beside_each_other_and_a_record_that_takes_a_place_says_so(folder, tmp_path):
    notes: list[str] = []
    first = import_record(STUDY, folder, saved(tmp_path), note=notes.append)
    import_record(STUDY, folder, saved(tmp_path, "b.json", browser={"logical_cores": 4}), note=notes.append)
    import_record(STUDY, folder, saved(tmp_path, "c.json"), PHONE, note=notes.append)
    assert len(names(folder)) == 3 and "phone" in names(folder) and notes == []
    later = saved(tmp_path, "d.json", created="2026-11-21T10:00:00Z", browser={"brands": "Google Chrome 142"})
    assert import_record(STUDY, folder, later, note=notes.append).device == first.device
    assert len(names(folder)) == 3 and "takes the place of" in notes[0] and "2026-11-20" in notes[0]


def test_a_device_file_of_another_kind_is_refused(folder, tmp_path):
    cpu = check(Device, {"name": "cpu", "label": "CPU", "kind": "cpu"}, "cpu")
    with pytest.raises(RecordError, match="measured on a browser; write kind: browser for cpu"):
        import_record(STUDY, folder, saved(tmp_path), cpu)
    assert current_measurement(STUDY, PHONE, folder) is None
    made = import_record(STUDY, folder, saved(tmp_path), PHONE)
    assert (made.device, made.label) == ("phone", "My phone") and current_measurement(STUDY, PHONE, folder) == made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "other"}, "of study 'other', not of 'timed'"),
        ({"browser": {"user_agent": 1}}, "not a record that a page saves (browser.user_agent"),
    ],
)
def test_a_record_that_is_not_of_this_study_or_not_whole_is_refused(changes, said, folder, tmp_path):
    with pytest.raises(RecordError) as found:
        import_record(STUDY, folder, saved(tmp_path, **changes))
    assert said in str(found.value) and "phone.json" in str(found.value) and len(str(found.value).splitlines()) == 1
    assert names(folder) == []


def test_a_record_of_variants_that_the_study_does_not_have_is_refused(folder, tmp_path):
    values = page_record(STUDY)
    values["rows"][1]["variant"] = "gone"
    (tmp_path / "phone.json").write_text(json.dumps(values))
    with pytest.raises(RecordError, match="without any of its variants"):
        import_record(STUDY, folder, tmp_path / "phone.json")


def test_a_device_record_with_fewer_blocks_for_later_threads_is_whole(folder, tmp_path):
    made = import_record(STUDY, folder, saved(tmp_path, threads=(1, 2)))
    for row in made.rows:
        if row.threads == 2:
            row.seconds, row.audio_seconds = row.seconds[:4], row.audio_seconds[:4]
    write_record(tmp_path / "there.json", made)
    again = import_record(STUDY, folder, tmp_path / "there.json", PHONE)
    assert {(row.threads, len(row.seconds)) for row in again.rows} == {(1, 6), (2, 4)}
    made.rows[-1].seconds.pop()
    write_record(tmp_path / "there.json", made)
    with pytest.raises(RecordError, match="are not whole"):
        import_record(STUDY, folder, tmp_path / "there.json", PHONE)


def test_the_command_imports_a_record_as_the_device_of_kind_browser_that_is_named(command, tmp_path):
    Path("params/phone.yaml").write_text(yaml.safe_dump({"device": PHONE.model_dump(exclude_defaults=True)}))
    saved(tmp_path)
    code, output, errors = command("--import", "phone.json", "--device", "phone")
    assert code == 0 and "My phone: imported from phone.json" in output and "timing" not in output + errors
    records = tmp_path / "reports/timed/records/devices"
    assert [path.stem for path in records.glob("*.json")] == ["phone"]
    code, output, _ = command("--import", "phone.json")
    assert code == 0 and "Google Chrome 141 on Android (8 cores): imported" in output
    assert len(list(records.iterdir())) == 2
    saved(tmp_path, "second.json")
    code, output, errors = command("--import", "phone.json", "--import", "second.json", "--device", "phone")
    assert code == 2 and "one by one" in errors and len((output + errors).strip().splitlines()) == 1


def test_a_hostile_record_is_one_line_on_the_terminal(command, tmp_path):
    values = page_record(STUDY)
    values["\x1b[2J<script>\n"] = 1
    (tmp_path / "phone.json").write_text(json.dumps(values))
    code, output, errors = command("--import", "phone.json")
    said = output + errors
    assert code == 2 and len(said.strip().splitlines()) == 1 and "\x1b" not in said and "<script>" not in said
