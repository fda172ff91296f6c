"""Graphs are compared on a device that ssh reaches, and what was found there before a connection was lost is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.remote.device_side import compared, line_of
from ttsopt_lib.measure.side_by_side import Comparison, ComparisonPlan, Patience, Speed, read_feeds, write_feeds
from ttsopt_lib.optimize.graph.clock import Clock, Graphs

QUICK = Patience(min_blocks=4, max_blocks=4)
FEEDS = [{"input": np.arange(size, dtype=np.float32)} for size in (1000, 2000)]


def chain(length: int, operator: str = "Sin") -> onnx.ModelProto:
    """A graph of so many operators one after another."""
    names = ["input", *(str(number) for number in range(1, length)), "output"]
    nodes = [helper.make_node(operator, [one], [other]) for one, other in zip(names, names[1:], strict=False)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_a_device_compares_what_it_is_sent_and_keeps_none_of_it(loopback, capsys):
    long, short = chain(60), chain(1)
    found = Clock(loopback.device()).compare(
        [Graphs({"short": short}, long, FEEDS), Graphs({"long": long}, short, FEEDS)]
    )
    assert found.machine and [list(speeds) for speeds in found.speeds] == [["short"], ["long"]]
    assert found.speeds[0]["short"].ci[0] > 1 and found.speeds[1]["long"].ci[1] < 1
    there = loopback.folder / "there"
    assert not list((there / "voices").glob("*.*")) and not list((there / "runs").iterdir())
    assert "Far CPU: comparing: 100%" in capsys.readouterr().err


def test_what_cannot_run_there_is_one_line_with_the_host(loopback):
    with pytest.raises(MeasureError, match=r"^127\.0\.0\.1: .*ONNX Runtime cannot load it") as raised:
        Clock(loopback.device()).compare([Graphs({"bad": chain(2, "Unheard")}, chain(1), FEEDS)], patience=QUICK)
    assert "\n" not in str(raised.value)


def test_a_comparison_that_is_on_file_is_not_made_again(tmp_path: Path):
    files = {}
    for name, graph in (("reference", chain(1)), ("one", chain(2))):
        files[name] = tmp_path / f"{name}.onnx"
        onnx.save(graph, files[name])
    write_feeds(tmp_path / "feeds.npz", FEEDS)
    one = Comparison(reference=files["reference"], candidates={"one": files["one"]}, feeds=tmp_path / "feeds.npz")
    plan = ComparisonPlan(comparisons=(one, one), patience=QUICK)
    known = {"one": Speed(speedup=9.0, ci=(8.0, 10.0), blocks=8, reference_seconds=1.0)}
    journal = tmp_path / "speeds.jsonl"
    journal.write_text(line_of(known) + '{"one": {"speedup"', encoding="utf-8")  # and one that was cut off
    found = compared(plan, journal)
    assert found.speeds[0] == known and found.speeds[1]["one"].blocks == 4
    assert [json.loads(line)["one"]["blocks"] for line in journal.read_text().splitlines()] == [8, 4]


def test_utterances_are_the_same_after_their_file(tmp_path: Path):
    feeds = [{"a/b": np.ones((1, 3), np.int64), "scales": np.zeros(2, np.float32)}, {"a/b": np.zeros((1, 0), np.int64)}]
    write_feeds(tmp_path / "feeds.npz", feeds)
    for feed, other in zip(feeds, read_feeds(tmp_path / "feeds.npz"), strict=True):
        assert feed.keys() == other.keys()
        for name, values in feed.items():
            assert other[name].dtype == values.dtype and np.array_equal(other[name], values)
