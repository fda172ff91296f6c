"""An early look spares sentences that could change nothing, and leaves the intervals honest."""

from typing import Any

import numpy as np
import pytest
from small_study import changed

from ttsopt_lib.evaluate import scores
from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.evaluate.paired import Compared
from ttsopt_lib.evaluate.quality import current_evaluation, evaluate_study
from ttsopt_lib.evaluate.scores import Scored, UtteranceScores
from ttsopt_lib.first_look import SENTENCES as FEW
from ttsopt_lib.first_look import first_look
from ttsopt_lib.report.facts.summary import scored as summarized
from ttsopt_lib.statistics.intervals import paired_change
from ttsopt_lib.statistics.stopping import LEVEL, LOOK, is_decided

SENTENCES = 30
TARGET = -0.1


@pytest.mark.parametrize(
    ("change", "spread", "decided"),
    [
        (-1.2, 0.25, True),  # far below the target
        (-0.2, 0.25, False),  # most likely below it, but not surely
        (0.0, 0.1, False),  # meets it: every sentence counts
        (0.001, 0.0005, True),  # the same speech
        (0.02, 0.0005, False),  # surely another one
    ],
)
def test_what_decides(change, spread, decided):
    noise = np.random.default_rng(3).normal(0, 1, LOOK)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    baseline = np.random.default_rng(4).normal(4.0, 0.3, LOOK)
    assert is_decided(list(baseline + change + spread * noise), list(baseline), TARGET) is decided


def test_equal_scores_decide():
    assert is_decided([4.0] * LOOK, [4.0] * LOOK, TARGET)


@pytest.mark.slow
@pytest.mark.parametrize("change", [0.0, -0.15, -0.25, -0.35, -0.6])
def test_intervals_hold_what_they_say_although_some_voices_are_stopped(change):
    """Differences of a skewed shape, as a few sentences that go wrong make them: 95 % less the look's thousandth."""
    rng, held, runs = np.random.default_rng(int(-100 * change)), 0, 1500
    for _ in range(runs):
        differences = change + 0.2 * (1 - rng.gamma(4.0, 0.25, 100)) / 0.5
        stopped = is_decided(list(differences[:LOOK]), [0.0] * LOOK, TARGET)
        used, level = (differences[:LOOK], LEVEL) if stopped else (differences, 0.95)
        low, high = paired_change(used, np.zeros(len(used)), level).ci
        held += low <= change <= high
    assert held / runs > 0.935  # a standard error is 0.006


@pytest.fixture
def longer(study, folder, sentences, monkeypatch):
    """The small study on 30 sentences with three variants, and a scorer that speaks nothing; what it scored."""
    texts = [f"{sentences[0].rstrip('.')} {number}." for number in range(SENTENCES)]
    path = study.sentences.evaluation.file
    path.write_text("\n".join([*texts, *sentences]), encoding="utf-8")
    scored: list[str] = []

    def score(task):
        kept: Any = object() if task.kept else None
        if not task.scored:
            return Scored(None, kept)
        name = task.anchor or task.utterance.model.parent.name
        scored.append(name)
        noise = np.random.default_rng(task.utterance.seed).normal(0, 0.1)
        change = {"original": 0.0, "fp32": noise - 0.05}.get(name, noise - 1.0)
        compared = Compared(1.0, 0.0, 0.0, 0.0, 0.0) if task.compared else None
        return Scored(UtteranceScores({"dnsmos_p808": 4.0 + change}, 2.0, -60.0, None, compared), kept)

    monkeypatch.setattr(scores, "score_utterance", score)
    parts = {"evaluation": {"count": SENTENCES}, "calibration": {"start": SENTENCES}}
    return changed(study, sentences=parts), folder, scored


@pytest.mark.slow
def test_a_voice_that_the_first_sentences_decide_is_scored_no_further(longer):
    study, folder, scored = longer
    record = evaluate_study(study, folder, processes=1)
    rows = {row.variant: row for row in (*record.rows, *record.anchors)}
    assert {name: (row.stopped, len(row.scores["dnsmos_p808"])) for name, row in rows.items()} == {
        "original": (False, SENTENCES),
        "fp32": (False, SENTENCES),
        "lowpass-3.5khz": (True, LOOK),
        "noise-20db": (True, LOOK),
    }
    noise = record.other_noise
    assert noise and not noise.stopped and len(noise.audio_seconds) == SENTENCES
    assert len(scored) == 3 * SENTENCES + 2 * LOOK  # the second original is the one with other noise

    del scored[:]
    folder.quality_record.unlink()
    assert evaluate_study(study, folder, processes=1).rows == record.rows and scored == []


@pytest.mark.slow
@pytest.mark.parametrize(("size_reduction", "confirmed"), [(0.0, ()), (0.99, ()), (0.99, ("fp32",))])
def test_a_first_look_hears_more_of_the_variants_that_its_verdict_is_about(longer, size_reduction, confirmed):
    study, folder, scored = longer
    evaluation = study.sentences.evaluation
    further = evaluation.model_copy(update={"start": 26, "count": 4}) if confirmed else None
    study = changed(
        study,
        targets={"size_reduction": size_reduction},
        sentences={"evaluation": {"count": 26}, "confirmation": further},
        evaluate={"confirmed": confirmed},
    )
    record = evaluate_study(first_look(study), folder, processes=1)
    rows = {row.variant: len(row.audio_seconds) for row in (*record.rows, *record.anchors)}
    noise = record.other_noise
    assert noise and len(noise.audio_seconds) == FEW and len(record.confirmation) == 2 * len(confirmed)
    judged = 26 if confirmed or not size_reduction else FEW
    assert rows == {"original": 26, "fp32": judged, **dict.fromkeys(ANCHORS, FEW)}
    assert not any(row.stopped for row in (*record.rows, *record.anchors)), "few sentences have decided nothing"

    fp32 = next(row for row in summarized(record, record.rows) if row.variant == "fp32")
    assert (fp32.sentences, fp32.fewer, fp32.predicted_mos.level) == (judged, judged == FEW, 0.95)
    original, variant = (np.asarray(row.scores["dnsmos_p808"][:judged]) for row in record.rows)
    differences = variant - original
    change = fp32.predicted_mos.change
    assert change and change.value == pytest.approx(differences.mean()), "beside the original's same sentences"

    del scored[:]
    complete = evaluate_study(study, folder, processes=1)
    assert {row.variant: len(row.audio_seconds) for row in complete.rows} == {"original": 26, "fp32": 26}
    assert scored.count("fp32") == 26 - judged, "what the first look scored is not scored again"
    assert scored.count("original") == 26 - FEW, "with other noise"


@pytest.mark.slow
def test_other_targets_and_studies_that_want_everything_score_the_rest(longer):
    study, folder, scored = longer
    evaluate_study(study, folder, processes=1)
    del scored[:]
    lower = changed(study, targets={"predicted_mos_change": -3.0})
    assert current_evaluation(lower, folder) is None
    assert not any(row.stopped for row in evaluate_study(lower, folder, processes=1).anchors)
    assert scored == ["lowpass-3.5khz"] * (SENTENCES - LOOK) + ["noise-20db"] * (SENTENCES - LOOK)

    del scored[:]
    everything = changed(study, evaluate={"stop_decided": False})
    assert not any(row.stopped for row in evaluate_study(everything, folder, processes=1).anchors) and scored == []


@pytest.mark.slow
def test_only_the_first_sentences_are_compared_with_the_original(longer):
    study, folder, _ = longer
    record = evaluate_study(changed(study, evaluate={"paired_sentences": 12}), folder, processes=1)
    rows = [row for row in (*record.rows, record.other_noise, *record.anchors) if row and row.paired]
    assert len(rows) == 4
    for row in rows:
        assert row.paired and len(row.paired.speaker_similarity) == 12 and len(row.audio_seconds) >= LOOK
