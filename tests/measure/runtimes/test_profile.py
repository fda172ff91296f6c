"""Where the time goes: every kernel is counted once, in the stage and under the operator that it belongs to."""

from pathlib import Path

import onnx
import pytest
from timed_study import plan_of, rows_of

from ttsopt_lib.measure.calibrated_load import voice_with_work
from ttsopt_lib.measure.runtimes.profile import STAGES, shares, stage_of
from ttsopt_lib.measure.session import profile_rows
from ttsopt_lib.records.device import DeviceRecord, ProfileRecord
from ttsopt_lib.report.chapters.speed import profiles
from ttsopt_lib.report.facts.timing_rows import summarize_device
from ttsopt_lib.study import ORIGINAL, ORIGINAL_COPY, Device


@pytest.fixture(scope="module")
def profiled(medium_voice: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProfileRecord]:
    """A voice, and the same with matrix products on top that belong to no stage."""
    worked = tmp_path_factory.mktemp("work") / "model.onnx"
    onnx.save(voice_with_work(medium_voice, 40), str(worked))
    models = {ORIGINAL: medium_voice, "extra-work": worked, ORIGINAL_COPY: medium_voice}
    rows = [row for name, model in models.items() for row in rows_of(model, name)]
    return {profile.variant: profile for profile in profile_rows(plan_of(rows))}


@pytest.mark.parametrize(
    "node, stage",
    [
        ("/enc_p/emb/Gather_kernel_time", "text encoder"),
        ("/dp/flows.7/Slice_kernel_time", "durations"),
        ("/flow/flows.6/enc/in_layers.0/Conv_quant", "flow"),
        ("/dec/ups.0/ConvTranspose_kernel_time", "decoder"),
        ("/RandomNormalLike_kernel_time", "other"),
        ("dec_kernel_time", "other"),
        ("/decoration/Conv", "other"),
    ],
)
def test_a_node_belongs_to_the_stage_that_its_scope_names(node, stage):
    assert stage_of(node) == stage


@pytest.mark.slow
def test_every_kernel_is_counted_once_by_stage_and_once_by_operator(profiled):
    for profile in profiled.values():
        assert set(profile.stages) == set(STAGES)
        assert sum(profile.stages.values()) == pytest.approx(sum(profile.operators.values()))
        assert all(profile.stages[stage] > 0 for stage in STAGES if stage != "other")


@pytest.mark.slow
def test_the_copy_of_the_original_is_not_profiled(profiled):
    assert list(profiled) == [ORIGINAL, "extra-work"]


@pytest.mark.slow
def test_added_work_is_found_under_its_operator_and_outside_the_stages(profiled):
    before, after = profiled[ORIGINAL], profiled["extra-work"]
    added = after.operators["MatMul"] - before.operators["MatMul"]
    assert added > 5 * before.operators["MatMul"], "the extra work is too little to test anything"
    assert after.stages["other"] == pytest.approx(added, rel=0.2)


def run(start: int) -> dict:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": 9}


def kernel(name: str, operator: str, start: int, seconds: float = 1.0) -> dict:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": int(1e6 * seconds),
        "args": {"op_name": operator},
    }


def test_uncounted_runs_containers_and_interruptions_are_left_out():
    events = [run(start) for start in (0, 100, 200)]
    events += [kernel("/dec/a", "Conv", start, took) for start, took in ((1, 1e-6), (101, 2.0), (201, 9.0))]
    events += [kernel("/dp/if", "If", 102), kernel("/dp/in", "Add", 103, 2.0), kernel("/dp/in", "Add", 203, 2.0)]
    found = shares(events, sentences=1, uncounted_passes=1)
    assert found["operators"] == {"Conv": 2.0, "Add": 2.0}
    assert found["stages"]["decoder"] == 2.0 and found["stages"]["durations"] == 2.0


def test_what_puts_arrays_in_order_for_a_convolution_belongs_to_its_stage():
    there = [kernel("/flow/Slice", "Slice", 1), kernel("ReorderInput", "ReorderInput", 2), kernel("/dec/a", "Conv", 3)]
    back = [kernel("ReorderOutput_token_1", "ReorderOutput", 4), kernel("/Mul", "Mul", 5), kernel("/dp/b", "Add", 6)]
    found = shares([run(0), *reversed(back), *there], sentences=1, uncounted_passes=0)["stages"]
    assert found == {"text encoder": 0.0, "durations": 1.0, "flow": 1.0, "decoder": 3.0, "other": 1.0}


def test_the_bound_is_amdahls():
    before = ProfileRecord(variant=ORIGINAL, threads=1, stages={"decoder": 0.7, "flow": 0.3}, operators={"Conv": 1.0})
    after = ProfileRecord(variant="student", threads=1, stages={"decoder": 0.07, "flow": 0.3}, operators={"Conv": 0.37})
    record = DeviceRecord(
        key="", device="cpu", label="CPU", kind="cpu", status="measured", reason=None, created="", system=None,
        profiles=[before, after],
    )  # fmt: skip
    summary = summarize_device(Device(name="cpu", label="CPU", kind="cpu", threads=(1,)), record)
    (row,) = profiles.amdahl([summary]).frame.to_dict("records")
    assert row["faster_stages"] == "decoder" and row["bound"] == pytest.approx(0.7)
    assert row["bound_speedup"] == pytest.approx(1 / 0.3) and row["profiled_reduction"] == pytest.approx(0.63)
    decoder = profiles.stages([summary]).frame.set_index("stage").loc["decoder"]
    assert decoder["gain"] == pytest.approx(0.63) and decoder["bound"] == pytest.approx(0.7)
    faster = after.model_copy(update={"stages": {"decoder": 0.07, "flow": 0.1}})
    record = record.model_copy(update={"profiles": [before, faster]})
    table = profiles.amdahl([summarize_device(Device(name="cpu", label="CPU", kind="cpu", threads=(1,)), record)])
    assert "none: every stage became faster<" in table.html and "nan" not in table.html


def test_a_model_that_is_no_vits_is_told_by_kinds_of_work():
    work = {"ConvInteger": 4.0, "FusedConv": 1.0, "MatMulInteger": 2.0, "DynamicQuantizeLSTM": 0.5, "Tanh": 0.25}
    events = [run(0), *(kernel(f"/a/{name}", name, n, took) for n, (name, took) in enumerate(work.items(), 1))]
    found = shares(events, sentences=1, uncounted_passes=0)
    assert found["stages"] == {"convolutions": 5.0, "matrix products": 2.0, "recurrent layers": 0.5, "other": 0.25}
    assert found["operators"] == work
