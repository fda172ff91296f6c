"""Our latencies against a plain timer on the same files in the same minutes; no part of the test suite.

    python tests/measure/independent_timer.py VOICE.onnx [VOICE.onnx ...]

The plain timer is what anybody would write: one onnxruntime session with one thread in this process, perf_counter
around `run`. It shares nothing with ttsopt_lib.measure but the file and the phoneme ids. Both take turns, sentence by
sentence; the interval is over the blocks' ratios.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from ttsopt_lib.measure.plan import PlannedRow, TimingPlan
from ttsopt_lib.measure.process import Worker
from ttsopt_lib.measure.timing import planned_sentences
from ttsopt_lib.params import read_study
from ttsopt_lib.statistics.intervals import log_ratio_interval
from ttsopt_lib.study import ORIGINAL, MeasureSettings
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.piper import open_piper

BLOCKS = 24


def main() -> None:
    for name in sys.argv[1:]:
        voice = open_piper(Path(name))
        study, scales = read_study(Path("params/joe.yaml")), (*voice.config.inference.scales[:2], 0.0)
        row = PlannedRow(variant=ORIGINAL, runtime="onnxruntime", threads=1, model=voice.path)
        sentences = [one for one in planned_sentences(study, PiperModel(voice)) if one.length_class != "long"]
        plan = TimingPlan(
            rows=(row,),
            sentences=tuple(sentences),
            scales=scales,
            speaker=None,
            sample_rate=voice.config.sample_rate,
            settings=MeasureSettings(),
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(voice.path), options, providers=["CPUExecutionProvider"])

        def plain(ids: tuple[int, ...], session=session, scales=scales) -> float:
            feed = {
                "input": np.array([ids], dtype=np.int64),
                "input_lengths": np.array([len(ids)], dtype=np.int64),
                "scales": np.array(scales, dtype=np.float32),
            }
            start = time.perf_counter()
            session.run(None, feed)
            return time.perf_counter() - start

        ours, theirs = np.zeros((BLOCKS, len(sentences))), np.zeros((BLOCKS, len(sentences)))
        with Worker(row) as worker:
            worker.load(plan)
            for block in range(-1, BLOCKS):  # the first is a warm-up, and is written over by the last
                order = np.random.default_rng(block + 1).permutation(len(sentences))
                for number in order if block % 2 == 0 else order[::-1]:
                    if block % 2 == 0:
                        ours[block, number] = worker.time_sentence(int(number))["seconds"]
                    plain(sentences[0].ids)  # the shortest sentence first, as our worker speaks it
                    theirs[block, number] = plain(sentences[number].ids)
                    if block % 2:
                        ours[block, number] = worker.time_sentence(int(number))["seconds"]
        sums = ours.sum(axis=1), theirs.sum(axis=1)
        center, low, high = (float(end[0]) for end in log_ratio_interval(np.log(sums[0] / sums[1])[None]))
        per_sentence = [1000 * float(np.median(one)) / len(sentences) for one in sums]
        print(
            f"{name}: ours {per_sentence[0]:.2f} ms, plain {per_sentence[1]:.2f} ms a sentence; ours / plain "
            f"{np.exp(center):.4f} [{np.exp(low):.4f}, {np.exp(high):.4f}]"
        )


if __name__ == "__main__":
    main()
