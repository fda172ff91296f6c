"""The sentence that names the fastest row of a device, whatever its runtime and mode, and why."""

import pytest

from ttsopt_lib.report.chapters import choice, tradeoff
from ttsopt_lib.report.chapters.speed import timings
from ttsopt_lib.report.schema import Estimate
from ttsopt_lib.study import ORIGINAL


def with_modes(summary, kind: str = "gpu"):
    """The study of good results, whose first device has rows of PyTorch and of rounded lengths, too."""
    one = summary("good")
    device = one.devices[0]
    device.kind = kind
    name = next(v.name for v in one.variants if any(step.kind == "student" for step in v.steps))
    plain = one.timing_of(device, name)
    graphs = {"runtime": "pytorch", "mode": "fp16-graphs", "latency_reduction": Estimate(value=0.1, ci=(0.09, 0.11))}
    across = Estimate(value=0.97, ci=(0.96, 0.98))
    device.rows.append(plain.model_copy(update={**graphs, "reduction_across": across}))
    device.rows.append(plain.model_copy(update={"mode": "buckets", "latency_reduction": Estimate(value=0.2, ci=None)}))
    return one, device, name


def test_the_fastest_row_is_named_with_runtime_mode_interval_and_reasons(summary):
    one, device, name = with_modes(summary)
    note = choice.fastest_notes(one)[0]
    assert note.startswith(f"{device.label}: ") and f"`{name}` in PyTorch, fp16-graphs, 1 thread" in note
    assert "97\u202f% [96, 98] less time" in note and "than the original in ONNX Runtime: students in place of" in note
    assert "half precision in flow and decoder" in note and "replayed from graphs" in note
    assert "int8 products and" not in note, "PyTorch computes in floating point there"


def test_what_loses_quality_is_never_the_fastest(summary):
    one, device, name = with_modes(summary)
    quality = one.quality_of(name)
    quality.predicted_mos.change_choosing = Estimate(value=-1.0, ci=(-1.1, -0.9))
    assert f"`{name}`" not in choice.fastest_notes(one)[0]
    device.rows = [row for row in device.rows if row.variant in (ORIGINAL, name)]
    (note, *_) = choice.fastest_notes(one)
    assert note == f"{device.label}: no row within the limit of quality is measurably faster than the original."


def test_what_may_be_faster_is_not_called_no_faster(summary):
    one, device, _ = with_modes(summary, "cpu")

    def said(low: float, high: float) -> str:
        one.timing_of(device, "int8-weights").latency_reduction = Estimate(value=(low + high) / 2, ci=(low, high))
        return " ".join(tradeoff.tradeoff(one))

    assert "74\u202f% smaller and not measurably faster" in said(-0.01, 0.09)
    assert "74\u202f% smaller and no faster" in said(-0.03, 0.04)
    assert "not faster" not in said(-0.03, 0.04) and "not measurably faster than the original" in said(-0.01, 0.09)
    device.threads = 3
    assert "with 3 threads" in tradeoff.tradeoff(one)[1]


def test_int8_products_that_do_not_run_faster_on_a_gpu_are_told(summary):
    one, device, _ = with_modes(summary)
    products = next(v.name for v in one.variants if any(step.kind == "int8 products" for step in v.steps))
    one.timing_of(device, products).latency_reduction = Estimate(value=-0.2, ci=(-0.22, -0.18))
    note = choice.fastest_notes(one)[0]
    assert f"Int8 products are not measurably faster there (`{products}`:" in note
    assert "no kernels for them on a GPU" in note
    device.kind = "cpu"
    assert "Int8 products" not in choice.fastest_notes(one)[0]


@pytest.mark.parametrize(("kind", "credited"), [("gpu", False), ("cpu", True)])
def test_int8_products_are_no_reason_for_speed_on_a_gpu(summary, kind, credited):
    one, device, _ = with_modes(summary, kind)
    name = next(v.name for v in one.variants if any(step.kind == "int8 products" for step in v.steps))
    device.rows = [row for row in device.rows if row.variant in (ORIGINAL, name) and row.runtime == "onnxruntime"]
    one.timing_of(device, name).latency_reduction = Estimate(value=0.5, ci=(0.48, 0.52))
    one.quality_of(name).predicted_mos.change_choosing = Estimate(value=0.0, ci=(-0.01, 0.01))
    note = choice.fastest_notes(one)[0]
    assert f"is `{name}`" in note and ("int8 products" in note) == credited


def test_the_network_alone_is_said_beside_variants_with_int8_products(summary):
    one, device, _ = with_modes(summary)
    products = next(v for v in one.variants if any(step.kind == "int8 products" for step in v.steps))
    row = one.timing_of(device, products.name)
    device.rows.append(row.model_copy(update={"runtime": "pytorch"}))
    (note,) = [note for note in timings.timing_notes(one) if "int8 products are for processors" in note]
    assert f"`{products.name}`" in note and note.startswith(device.label)
    device.kind = "cpu"  # there PyTorch computes what it says, in int8
    assert not any("int8 products are for processors" in note for note in timings.timing_notes(one))
