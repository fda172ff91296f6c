"""The clock of a search: its order, its intervals, when it stops, and what `quantize_mixed` makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.optimize.small_graphs import made
from tests.optimize.test_mixed import group, record_of_search
from ttsopt_lib.errors import StudyError
from ttsopt_lib.measure.side_by_side import REFERENCE, Patience, Speed
from ttsopt_lib.optimize.calibration import tensor_values
from ttsopt_lib.optimize.graph.clock import Clock, Graphs
from ttsopt_lib.optimize.graph.int8 import seed_noise
from ttsopt_lib.optimize.graph.part import part_around
from ttsopt_lib.optimize.graph.sensitivity import layer_groups
from ttsopt_lib.optimize.steps import quantize_mixed as module
from ttsopt_lib.optimize.steps.quantize_mixed import quantize_mixed, time_saved
from ttsopt_lib.records.base import write_record
from ttsopt_lib.step_settings import QuantizeMixed
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.vits_graph import attribute


class InventedClock:
    """A timer that runs the graph and says what a test has invented. `pace` is of a name, or of its number of runs."""

    def __init__(self, pace):
        self.pace, self.names = pace, []

    def __call__(self, name, run):
        run()
        self.names.append(name)
        return self.pace(name, len(self.names))


def time_graphs(candidates, reference, feeds, timer=None, patience=None, outputs=()) -> dict[str, Speed]:
    """One comparison on this machine."""
    (found,) = Clock(timer=timer).compare([Graphs(candidates, reference, feeds, outputs)], patience=patience).speeds
    return found


def repeating(times: int) -> onnx.ModelProto:
    """A graph whose output is so many copies of its input."""
    node = helper.make_node("Concat", ["input"] * times, ["output"], axis=0, name="repeat")
    return made([node], {}, {"input": [None]}, ["output"], rank=1)


def test_a_node_more_between_two_that_draw_changes_no_seed():
    def seeds(*between):
        draws = [helper.make_node("RandomNormalLike", ["input"], [name], name=name) for name in ("first", "second")]
        kept = helper.make_node("RandomNormalLike", ["input"], ["own"], name="own", seed=7.0)
        model = made([draws[0], kept, *between, draws[1]], {}, {"input": [None]}, ["second"], rank=1)
        assert seed_noise(model) == {"first", "second"}
        return [attribute(node, "seed", None) for node in model.graph.node if node.op_type == "RandomNormalLike"]

    assert seeds() == seeds(helper.make_node("Identity", ["input"], ["same"])) == [1.0, 7.0, 3.0]


FEEDS = [{"input": np.zeros(size, np.float32), "unknown": np.zeros(1)} for size in (2, 5)]


def test_a_graph_that_is_twice_as_fast_is_found_so_whatever_drifts():
    # every run takes longer than the one before it; of the two graphs one takes half the time of the other
    clock = InventedClock(lambda name, number: (1 + 0.004 * number) * (1 if name == REFERENCE else 0.5))
    found = time_graphs({"half": repeating(1)}, repeating(1), FEEDS, timer=clock, patience=Patience(max_blocks=12))
    assert 2 < found["half"].reference_seconds < 3  # two utterances, and the drift
    assert found["half"].ci[0] < 2 < found["half"].ci[1]
    assert found["half"].speedup == pytest.approx(2, rel=0.01) and found["half"].ci[0] > 1


def test_blocks_are_each_others_mirror_and_visit_every_graph_once_for_each_utterance():
    clock = InventedClock(lambda name, number: 1.0)
    time_graphs({"a": repeating(1), "b": repeating(1)}, repeating(1), FEEDS, timer=clock, patience=Patience())
    size = 3 * len(FEEDS)
    blocks = [clock.names[start : start + size] for start in range(0, len(clock.names), size)]
    assert len(blocks) == 8, "equal graphs are decided with the fewest blocks"
    for forward, backward in zip(blocks[::2], blocks[1::2], strict=True):
        assert backward == forward[::-1]
        assert Counter(forward[:3]) == Counter(forward[3:]) == Counter([REFERENCE, "a", "b"])


def test_what_speaks_longer_in_more_time_is_not_slower():
    clock = InventedClock(lambda name, number: 1.0 if name == REFERENCE else 3.0)
    found = time_graphs({"longer": repeating(3)}, repeating(1), FEEDS, timer=clock)
    assert found["longer"].speedup == pytest.approx(1.0)


def test_only_what_is_still_unsure_is_timed_further():
    noise = np.random.default_rng(0).lognormal(0, 0.2, 10_000)
    clock = InventedClock(lambda name, number: float(noise[number]) if name == "unsure" else 1.0)
    graphs = {"sure": repeating(1), "unsure": repeating(1)}
    found = time_graphs(graphs, repeating(1), FEEDS, timer=clock, patience=Patience(max_blocks=20, seconds=1e3))
    assert (found["sure"].blocks, found["unsure"].blocks) == (8, 20)
    assert not found["unsure"].ci[0] > 1


def test_the_clock_stops_when_its_seconds_are_used_up_and_not_before_its_fewest_blocks():
    noise = np.random.default_rng(0).lognormal(0, 0.3, 10_000)
    for seconds, blocks in ((1.0, 8), (40.0, 10)):  # a block takes about four
        clock = InventedClock(lambda name, number: float(noise[number]))
        patience = Patience(seconds=seconds)
        found = time_graphs({"one": repeating(1)}, repeating(1), FEEDS, timer=clock, patience=patience)
        assert found["one"].blocks == pytest.approx(blocks, abs=2 * (blocks > 8))


def test_graphs_are_opened_a_few_at_a_time():
    clock = InventedClock(lambda name, number: 1.0)
    graphs = {str(number): repeating(1) for number in range(3)}
    found = time_graphs(graphs, repeating(1), FEEDS, timer=clock, patience=Patience(together=2))
    assert list(found) == list(graphs)
    assert clock.names.index("2") > max(clock.names.index("0"), clock.names.index("1"))
    assert Counter(clock.names)[REFERENCE] == 2 * Counter(clock.names)["0"]  # once beside each part


def test_a_file_is_timed_as_the_model_in_it_and_its_noise_is_the_same_each_time(tmp_path):
    node = helper.make_node("RandomNormalLike", ["input"], ["output"], name="noise")
    model = made([node], {}, {"input": [None]}, ["output"], rank=1)
    onnx.save(model, tmp_path / "noise.onnx")
    clock = InventedClock(lambda name, number: 1.0)
    found = time_graphs({"file": tmp_path / "noise.onnx"}, model, FEEDS, timer=clock)
    assert found["file"].speedup == pytest.approx(1.0)
    assert not model.graph.node[0].attribute, "the model handed in is left alone"


def test_noise_is_that_of_the_reference_also_where_nodes_were_put_in_before_it():
    """Two voices with other noise speak other lengths; what is compared would differ by that."""
    heard = {}

    def listening(name, run):
        heard.setdefault(name, []).append(run())
        return 1.0

    def random_length(extra: bool) -> onnx.ModelProto:
        nodes = [helper.make_node("Identity", ["input"], ["same"], name="extra")] if extra else []
        source = "same" if extra else "input"
        nodes += [
            helper.make_node("RandomNormalLike", [source], ["noise"], name="noise"),
            helper.make_node("Relu", ["noise"], ["positive"], name="relu"),
            helper.make_node("NonZero", ["positive"], ["places"], name="places"),
            helper.make_node("Cast", ["places"], ["output"], name="cast", to=TensorProto.FLOAT),
        ]
        return made(nodes, {}, {"input": [None]}, ["output"], rank=2)

    feeds = [{"input": np.zeros(1000, np.float32)}]
    time_graphs({"changed": random_length(True)}, random_length(False), feeds, timer=listening)
    assert heard["changed"] == heard[REFERENCE] and len(set(heard["changed"])) > 1


def test_there_has_to_be_something_to_time():
    with pytest.raises(ValueError, match="no utterance"):
        time_graphs({"one": repeating(1)}, repeating(1), [])
    with pytest.raises(ValueError, match="min_blocks\n.*greater than or equal to 2"):
        Patience(min_blocks=1)


# --- a part of a graph --------------------------------------------------------------------------------------------


def test_a_part_computes_what_the_whole_computes_there(tiny):
    model, feeds, _ = tiny
    for name in ("enc_p", "flow/flows.0", "dec/resblocks.1"):
        names = layer_groups(model)[name]
        part = part_around(model, names, feeds)
        kept = {node.name for node in part.model.graph.node}
        assert set(names) <= kept and len(kept) < len(model.graph.node) / 2
        outputs = [value.name for value in part.model.graph.output]
        found = open_session(part.model).run(outputs, part.feeds[0])
        assert all(value.size for value in found)
        if name == "enc_p":  # before any noise: the values of another run are the same
            (expected,) = tensor_values(model, outputs, feeds)
            for one, other in zip(found, expected.values(), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_unpacks_a_weight_goes_with_the_part_and_what_nobody_asked_for_does_not():
    nodes = [
        helper.make_node("Cast", ["packed"], ["weight"], name="unpack", to=TensorProto.FLOAT),
        helper.make_node("Neg", ["input"], ["before"], name="before"),
        helper.make_node("Mul", ["before", "weight"], ["first"], name="first"),
        helper.make_node("Abs", ["first"], ["between"], name="between"),
        helper.make_node("Mul", ["between", "weight"], ["second"], name="second"),
        helper.make_node("Exp", ["second"], ["output"], name="after"),
    ]
    model = made(nodes, {"packed": np.array([3], np.int8)}, {"input": [None]}, ["output"], rank=1)
    part = part_around(model, ["first", "second"], [{"input": np.asarray([2.0], np.float32)}])
    assert [node.name for node in part.model.graph.node] == ["unpack", "first", "between", "second"]
    assert part.feeds == [{"before": np.asarray([-2.0])}]
    assert open_session(part.model).run(None, part.feeds[0])[0].tolist() == [18.0]
    with pytest.raises(ValueError, match="no node of these names"):
        part_around(model, ["nobody"], [])


# --- the clock in the search --------------------------------------------------------------------------------------


def mixed_with(tiny, pace, known=None):
    """The search with an invented clock: seconds of a voice by the names of its groups in int8."""
    model, feeds, rate = tiny
    step = QuantizeMixed(step="quantize_mixed", budget_db=50.0, calibration_sentences=1, judged_sentences=1, clock=True)
    clock = InventedClock(lambda name, number: pace(name))
    macs = {node.name: 1 for node in model.graph.node}
    record = known or record_of_search(model, 0.1)
    return quantize_mixed(model, step, feeds, macs, rate, known=record, clock=Clock(timer=clock)), clock


FAST, SLOW, UP = "dec/resblocks.0", "dec/resblocks.1", "dec/ups.0"


@pytest.mark.slow
def test_only_what_is_surely_faster_here_computes_in_int8(tiny):
    def pace(name):
        return {FAST: 0.8, UP: 0.9, f"{UP}+{FAST}": 0.7}.get(name, 1.0)  # all others as fast as before

    mixed, _ = mixed_with(tiny, pace)
    assert mixed.record.chosen == [UP, FAST]
    found = {one.group: one for one in mixed.record.groups}
    assert found[FAST].seconds_saved == pytest.approx(0.2)
    assert found[FAST].speedup == pytest.approx(1.25) and found[SLOW].speedup_ci == pytest.approx((1.0, 1.0))
    assert found["dec/conv_post"].speedup is None  # it is never quantized
    assert "1.43 [1.43, 1.43] times as fast" in mixed.note and "2 of" in mixed.note and mixed.record.machine
    names = {node.name for node in mixed.model.graph.node if node.op_type == "QuantizeLinear"}
    assert any("resblocks.0" in name for name in names) and not any("resblocks.1" in name for name in names)


@pytest.mark.slow
def test_a_set_that_is_slower_together_gives_back_what_saves_least(tiny):
    def pace(name):
        return {FAST: 0.8, SLOW: 0.95, f"{FAST}+{SLOW}": 1.1}.get(name, 1.0)

    mixed, _ = mixed_with(tiny, pace)
    assert mixed.record.chosen == [FAST]
    assert [one.groups for one in mixed.record.timed_sets] == [[FAST, SLOW], [FAST]]
    # the same record gives the same file, and nothing is timed again
    again, clock = mixed_with(tiny, lambda name: 1 / 0, known=mixed.record)
    assert clock.names == []
    assert again.model.SerializeToString(deterministic=True) == mixed.model.SerializeToString(deterministic=True)


@pytest.mark.slow
def test_where_nothing_is_faster_all_arithmetic_stays_float(tiny):
    mixed, _ = mixed_with(tiny, lambda name: 1.0 if name == REFERENCE else 1.3)
    assert mixed.record.chosen == [] and mixed.record.error_db == 0.0
    assert not any(node.op_type == "QuantizeLinear" for node in mixed.model.graph.node)
    assert any(tensor.data_type == TensorProto.INT8 for tensor in mixed.model.graph.initializer)
    assert "0 of" in mixed.note


def test_a_group_counts_by_the_time_it_saves_and_not_at_all_where_that_is_unsure():
    def timed(name, speedup, ci, seconds):
        return group(name, 0.1, speedup=speedup, speedup_ci=ci, seconds_saved=seconds)

    groups = [timed("sure", 1.25, (1.2, 1.3), 0.2), timed("unsure", 1.25, (0.99, 1.5), 0.5)]
    assert time_saved([*groups, group("untimed", 0.1)]) == {"sure": 0.2}


def test_a_search_with_another_budget_takes_over_the_timings_of_a_sibling(tmp_path, tiny):
    record = record_of_search(tiny.model, 0.1).model_copy(update={"key": "same", "variant": "other", "machine": "this"})
    write_record(tmp_path / "other.json", record)
    found = module._known(tmp_path / "mine.json", "same", "mine")
    assert found is not None and (found.variant, found.machine) == ("mine", "this")
    assert module._known(tmp_path / "mine.json", "another key", "mine") is None


def test_a_step_without_the_clock_is_searched_as_before(tiny):
    model, feeds, rate = tiny
    step = QuantizeMixed(step="quantize_mixed", budget_db=0.0, calibration_sentences=1, judged_sentences=1)
    mixed = quantize_mixed(model, step, feeds, {}, rate, known=record_of_search(model, 0.1))
    assert mixed.record.timed_sets == [] and "timed" not in mixed.note
    assert not module.QuantizeMixedWork().times(step)
    assert module.QuantizeMixedWork().times(step.model_copy(update={"clock": True}))


def test_a_clock_on_a_device_is_looked_at_before_anything_is_made(tmp_path):
    gpu = tmp_path / "gpu.yaml"
    gpu.write_text("device: {name: gpu, label: GPU, kind: gpu}\n", encoding="utf-8")
    work = module.QuantizeMixedWork()
    for device, said in ((str(gpu), "this is a GPU"), (str(tmp_path / "none.yaml"), "is not there")):
        step = QuantizeMixed(step="quantize_mixed", clock=True, clock_device=device)
        with pytest.raises(StudyError, match=said):
            work.check(step, None)
    with pytest.raises(ValueError, match="clock: true"):
        QuantizeMixed(step="quantize_mixed", clock_device=str(gpu))


def test_a_variant_is_timed_anew_where_its_device_is_another(tmp_path):
    file = tmp_path / "far.yaml"
    work = module.QuantizeMixedWork()
    step = QuantizeMixed(step="quantize_mixed", clock=True, clock_device=str(file))
    keys = []
    for host in ("one", "other"):
        file.write_text(f"device: {{name: far, label: Far, kind: cpu, runner: ssh, host: {host}}}\n", encoding="utf-8")
        keys.append(work.files(step))
    assert keys[0] != keys[1] and not work.times(step), "it is timed elsewhere: others may be made beside it"


def test_the_audio_is_the_output_that_is_asked_for():
    def with_a_size(times: int) -> onnx.ModelProto:
        nodes = [*repeating(times).graph.node, helper.make_node("Shape", ["output"], ["size"], name="size")]
        return made(nodes, {}, {"input": [None]}, ["size", "output"], rank=1, size=TensorProto.INT64)

    def speedup(outputs):
        clock = InventedClock(lambda name, number: 1.0)
        long, short = with_a_size(2), with_a_size(1)
        return time_graphs({"long": long}, short, FEEDS, timer=clock, outputs=outputs)["long"].speedup

    assert speedup(("output",)) == pytest.approx(2)  # twice the audio in the same time
    assert speedup(()) == pytest.approx(1)  # of the first output, its size, there is always one
