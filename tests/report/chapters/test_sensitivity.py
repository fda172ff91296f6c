"""The sensitivities of a search, as the report shows them."""

from pathlib import Path

from ttsopt_lib.params import read_study
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import GroupSensitivity, SensitivityRecord
from ttsopt_lib.report.chapters import sizes
from ttsopt_lib.report.facts.summary import _sensitivity
from ttsopt_lib.report.printing.plot_style import svg_text
from ttsopt_lib.report.schema import SensitivitySummary
from ttsopt_lib.study import Variant

ERRORS = {"enc_p": 0.15, "dec/resblocks.8": 5.3, "flow/flows.0": 0.0}


def record():
    groups = [
        GroupSensitivity(
            group=group, label=group.replace("dec/", "decoder "), layers=2, parameters=0.1, time=0.2,
            level_error_db=error, spectral_distance_db=error, level_above_8khz_db=0.1,
        )
        for group, error in ERRORS.items()
    ]  # fmt: skip
    return SensitivityRecord(
        key="k", variant="int8-mixed", sentences=3, groups=groups, chosen=["enc_p", "flow/flows.0"], created=""
    )


def searched_study():
    study = read_study(resolve(Path("params/joe.yaml")))
    mixed = Variant.model_validate({"name": "int8-mixed", "recipe": [{"step": "quantize_mixed"}]})
    return study.model_copy(update={"variants": (mixed,)})


def test_summary_says_what_was_found_and_chosen(tmp_path):
    study = searched_study()
    folder = StudyFolder(study, tmp_path)
    assert _sensitivity(study, folder) == []
    write_record(folder.sensitivity_record("int8-mixed"), record())
    rows = _sensitivity(study, folder)
    assert {row.group: row.int8 for row in rows} == {"enc_p": True, "dec/resblocks.8": False, "flow/flows.0": True}


def test_table_and_figure_begin_with_the_most_sensitive(summary):
    rows = [
        SensitivitySummary(variant="int8-mixed", int8=one.group in record().chosen, **one.model_dump())
        for one in record().groups
    ]
    searched = summary("good").model_copy(update={"sensitivity": rows})
    assert sizes.sensitivity(searched).rows[0].label == "decoder resblocks.8"
    chart = sizes.sensitivity_chart(searched)
    assert chart and "resblocks.8 least" in svg_text(chart)
    assert sizes.sensitivity_chart(summary("good")) is None
