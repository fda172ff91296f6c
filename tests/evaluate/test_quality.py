import json
import re
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from counting import counted
from distributed import LocalCluster
from onnx import numpy_helper
from small_study import changed

from ttsopt_lib import workers
from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate import scores as scores_module
from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.evaluate.intelligibility import spoken_words, word_errors
from ttsopt_lib.evaluate.paired import Compared
from ttsopt_lib.evaluate.quality import _paired, current_evaluation, evaluate_study
from ttsopt_lib.evaluate.ratings.file import COLUMNS, RatingsError
from ttsopt_lib.evaluate.speak import SpeechError
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.report.facts.summary import scored


def damage(path, factor: float):
    """Scale the decoder's last convolution: the voice speaks on, at another level."""
    model = onnx.load(path)
    last = next(node for node in model.graph.node if node.name == "/dec/conv_post/Conv")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    onnx.save(model, path)


@pytest.mark.slow
def test_a_copy_of_the_original_scores_the_same_and_is_not_scored_again(scored_once, monkeypatch):
    study, folder, record = scored_once.study, scored_once.folder, scored_once.record
    assert scored_once.utterances == [name for name in ("original", "fp32", "original", *ANCHORS) for _ in range(2)]
    original, copy = record.rows
    assert copy.scores == original.scores and copy.audio_seconds == original.audio_seconds
    assert [row.variant for row in record.anchors] == list(ANCHORS)
    for anchor in record.anchors:
        assert anchor.audio_seconds == original.audio_seconds
    assert original.paired is None and copy.paired is not None and record.other_noise is not None
    assert copy.paired.log_spectral_distance_db == [0.0, 0.0]
    assert record.asr is None and record.asr_reason == "evaluate.wer_sentences is 0"
    assert record.ratings is None and "no ratings file" in (record.ratings_reason or "")

    written = folder.quality_record.stat().st_mtime_ns
    with counted(monkeypatch) as again:
        assert evaluate_study(study, folder, processes=1) == record
    assert again == [] and folder.quality_record.stat().st_mtime_ns == written
    assert current_evaluation(study, folder) == record


def test_a_variant_that_is_called_as_an_anchor_is_a_variant(study, folder):
    (named,) = study.variants
    other = changed(study, variants=(named.model_copy(update={"name": ANCHORS[0]}),))
    folder.variant(named.name).rename(folder.variant(ANCHORS[0]))
    record = evaluate_study(other, folder, processes=1)
    assert [row.variant for row in record.rows] == ["original", ANCHORS[0]]
    assert record.rows[1].scores == record.rows[0].scores, "the variant, a copy of the original, is not damaged"
    assert [row.variant for row in record.anchors] == list(ANCHORS)


@pytest.mark.slow
def test_a_voice_speaks_a_sentence_once_for_all_that_is_found_out_about_it(study, folder, monkeypatch):
    """The original is scored, damaged as an anchor, and what others are compared with: one utterance."""
    spoken = Counter()
    real = scores_module.speak_with

    def speak(utterance, durations=None):
        spoken[utterance.model.parent.name, utterance.seed] += 1
        return real(utterance, durations)

    monkeypatch.setattr(scores_module, "speak_with", speak)
    evaluate_study(study, folder, processes=1)
    assert len(spoken) == 2 * 3 and set(spoken.values()) == {1}  # original, fp32, original with other noise


@pytest.mark.slow
def test_the_record_says_where_texts_are_in_another_language_and_scores_nothing_again(
    study, folder, scored, monkeypatch
):
    german = changed(study, language="de")
    assert scored.language_doubts == [] and current_evaluation(german, folder) is None
    with counted(monkeypatch) as again:
        record = evaluate_study(german, folder, processes=1)
    (doubt,) = record.language_doubts
    assert doubt.startswith("language: the study's texts are in 'de', but the voice speaks 'en-us'")
    assert again == [] and record.rows == scored.rows and current_evaluation(german, folder) == record


@pytest.mark.slow
def test_a_changed_model_is_scored_alone_and_its_level_is_kept(study, folder, scored, monkeypatch):
    assert current_evaluation(study, folder) == scored
    damage(folder.model("fp32"), 0.5)
    assert current_evaluation(study, folder) is None
    with counted(monkeypatch) as again:
        after = evaluate_study(study, folder, processes=1)
    assert again == ["fp32"] * 2
    assert after.rows[0] == scored.rows[0] and after.anchors == scored.anchors
    drop = np.subtract(after.rows[0].level_above_8khz_db, after.rows[1].level_above_8khz_db)
    assert np.all(drop > 3)  # half the amplitude is 6 dB; tanh bends it a little, and rounding adds noise

    loud, soft = (soundfile.read(folder.audio(name) / "0.wav")[0] for name in study.variant_names)
    assert np.abs(soft).max() < 0.7 * np.abs(loud).max()
    assert soundfile.info(folder.audio("fp32") / "0.wav").subtype == "PCM_16"


@pytest.mark.slow
def test_a_lost_listening_example_is_made_again_and_nothing_is_scored(study, folder, scored, monkeypatch):
    example = folder.audio("fp32") / "0.wav"
    audio = example.read_bytes()
    example.unlink()
    assert current_evaluation(study, folder) is None
    with counted(monkeypatch) as again:
        assert evaluate_study(study, folder, processes=1).rows == scored.rows
    assert again == [] and example.read_bytes() == audio


@pytest.mark.slow
def test_an_interrupt_costs_the_few_utterances_at_work_and_leaves_no_record(study, folder, monkeypatch):
    with counted(monkeypatch, stop_at=3) as before, pytest.raises(KeyboardInterrupt):
        evaluate_study(study, folder, processes=1)
    assert before == ["original", "original", "fp32"]
    assert not folder.quality_record.exists() and current_evaluation(study, folder) is None
    with counted(monkeypatch) as after:
        record = evaluate_study(study, folder, processes=1)
    assert after == [name for name in ("fp32", "original", *ANCHORS) for _ in range(2)]
    assert current_evaluation(study, folder) == record
    left = [path.name for path in folder.path.rglob("*.part")]
    assert left == []


@pytest.mark.slow
def test_more_sentences_score_only_the_new_ones(study, folder, monkeypatch):
    first = evaluate_study(changed(study, sentences={"evaluation": {"count": 1}}), folder, processes=1)
    with counted(monkeypatch) as scored:
        whole = evaluate_study(study, folder, processes=1)
    assert scored == ["original", "fp32", "original", *ANCHORS]
    assert [row.scores["dnsmos_p808"][:1] for row in whole.rows] == [row.scores["dnsmos_p808"] for row in first.rows]
    assert evaluate_study(study, folder, again=True, processes=1).rows == whole.rows


@pytest.mark.slow
def test_a_damaged_line_of_the_store_is_scored_again(study, folder, scored, monkeypatch):
    lines = folder.score_store.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 * (3 + len(ANCHORS))
    no_scores = json.dumps({"key": json.loads(lines[2])["key"], "scores": {}})
    damaged = [lines[0], "{", no_scores, *lines[3:-1], lines[-1][:9]]  # the last one is cut short
    folder.score_store.write_text("\n".join(damaged), encoding="utf-8")
    folder.quality_record.unlink()
    with counted(monkeypatch) as again:
        assert evaluate_study(study, folder, processes=1).rows == scored.rows
    assert again == ["original", "fp32", ANCHORS[-1]]


@pytest.mark.slow
def test_worker_processes_give_the_same_scores(study, folder, scored):
    together = evaluate_study(study, folder, again=True, processes=2)
    assert together.rows == scored.rows and together.anchors == scored.anchors
    assert together.other_noise == scored.other_noise


@pytest.mark.slow
def test_workers_of_a_dask_cluster_give_the_same_scores(study, folder, scored):
    folder.quality_record.unlink()
    lines = folder.score_store.read_text(encoding="utf-8").splitlines(keepends=True)
    folder.score_store.write_text("".join(lines[:3] + lines[4:]), encoding="utf-8")  # one utterance is left to do
    workers: Any = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
    with workers:
        record = evaluate_study(study, folder, dask=workers.scheduler_address)
    assert record.rows == scored.rows and current_evaluation(study, folder) == record


def test_a_cluster_that_is_not_there_is_named(study, folder, monkeypatch):
    monkeypatch.setattr(workers, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(workers.ClusterError, match="--dask tcp://127.0.0.1:9: no Dask scheduler answers there"):
        evaluate_study(study, folder, dask="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_all_figures_of_the_real_voice(real_folder, make_study):
    study = make_study(predictors=["distillmos", "dnsmos_p808"], primary="distillmos", wer_sentences=1)
    record = evaluate_study(study, real_folder, processes=1)
    original, copy = record.rows
    assert copy.paired and copy.paired.f0_error_cents == [0.0, 0.0]
    assert copy.paired.speaker_similarity == pytest.approx([1.0, 1.0])
    for anchor in record.anchors:
        for name, scores in original.scores.items():
            assert np.mean(anchor.scores[name]) < np.mean(scores) - 0.2
    # another draw of noise is another recording of the same voice: some dB apart, and nearer than the anchors
    assert record.other_noise is not None
    same, damaged = record.other_noise.paired, record.anchors[0].paired
    assert same is not None and damaged is not None
    assert all(distance and 1 < distance < 12 for distance in same.log_spectral_distance_db)
    assert min(same.speaker_similarity) > 0.9  # type: ignore[type-var]
    assert damaged.log_spectral_distance_above_8khz_db > same.log_spectral_distance_above_8khz_db
    assert {name: len(scores) for name, scores in original.scores.items()} == {"distillmos": 2, "dnsmos_p808": 2}
    assert record.asr is not None and "tiny.en" in record.asr and record.asr_reason is None
    assert original.hypotheses is not None and len(original.hypotheses) == 1
    assert original.wer is not None and original.wer <= 0.25
    assert original.word_errors is not None and sum(original.word_errors) / sum(record.words) == original.wer
    assert record.anchors[1].wer is not None and record.anchors[1].wer >= original.wer
    assert record.speaker_encoder is not None and record.speaker_encoder.name == "resemblyzer"
    assert [predictor.name for predictor in record.predictors] == ["distillmos", "dnsmos_p808"]


@pytest.mark.slow
def test_a_voice_of_a_language_that_the_recognizer_does_not_know_is_held_against_the_original(
    folder, make_study, monkeypatch
):
    def heard(recognizer, waveforms):
        return [f"loud as {1e9 * float(np.abs(one).mean()):.0f}" for one in waveforms]

    monkeypatch.setattr(scores_module, "transcribe", heard)
    study = make_study(wer_sentences=1)
    for name in study.variant_names:
        path = folder.model(name).with_suffix(".onnx.json")
        config = json.loads(path.read_text(encoding="utf-8"))
        config["language"]["code"] = "nl_NL"
        path.write_text(json.dumps(config), encoding="utf-8")
    record = evaluate_study(study, folder, processes=1)
    assert record.asr and (record.asr_against, record.asr_language) == ("original", "en")
    original = record.rows[0]
    assert original.hypotheses and original.wer == 0.0 and original.word_errors == [0]
    assert record.words == [spoken_words(original.hypotheses[0])]
    buried = record.anchors[1]
    assert buried.hypotheses and word_errors(original.hypotheses[0], buried.hypotheses[0]) == 1
    assert buried.word_errors == [1]

    found = {row.variant: row for row in scored(record, [*record.rows, *record.anchors])}
    assert all(row.wer is row.cer is row.wer_figures is None for row in found.values())
    assert buried.wer == pytest.approx(1 / 3)


@pytest.mark.slow
def test_ratings_fill_the_record_and_a_new_file_scores_nothing_again(
    study, folder, scored, tmp_path, make_study, monkeypatch
):
    path = tmp_path / "ratings.csv"
    rated = make_study(ratings=str(path))
    with pytest.raises(StudyError, match=r"ratings.csv: evaluate.ratings: no such file"):
        evaluate_study(rated, folder, processes=1)
    rows = [
        f"acr,s{s},{name},,r{r},{4 - (name == 'fp32')},2,"
        for name in study.variant_names
        for r in range(2)
        for s in range(2)
    ]
    path.write_text("\n".join([",".join(COLUMNS), *rows, "acr,s1,fp3,,r1,4,2,"]), encoding="utf-8")
    with pytest.raises(RatingsError, match="ratings.csv:10: variant 'fp3'"):
        evaluate_study(rated, folder, processes=1)
    path.write_text("\n".join([",".join(COLUMNS), *rows]), encoding="utf-8")
    with counted(monkeypatch) as again:
        record = evaluate_study(rated, folder, processes=1)
    assert again == [] and record.rows == scored.rows
    assert record.ratings is not None and [row.mean for row in record.ratings] == [4, 3]
    # what 'ttsopt ratings' collected is read where the study names no file of its own
    folder.ratings.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with counted(monkeypatch) as again:
        assert evaluate_study(study, folder, processes=1).ratings == record.ratings
    assert again == []


def test_a_missing_model_says_which_step_makes_it(study, folder):
    folder.model("fp32").unlink()
    with pytest.raises(RecordError, match=r"fp32/model.onnx: not there yet; run 'ttsopt optimize'"):
        evaluate_study(study, folder, processes=1)
    assert not folder.quality_record.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no sentence"),
        ("Only one.\n", "asks for 2 sentences"),
        ("A good one.\n( - )\n", "sentence 2: .*gives no phonemes"),
    ],
)
def test_sentences_that_cannot_be_spoken_are_named(study, folder, tmp_path, content, reason):
    (tmp_path / "sentences.txt").write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=reason) as caught:
        evaluate_study(study, folder, processes=1)
    message = str(caught.value)
    assert "sentences.txt" in message and "sentences.evaluation" in message and "\n" not in message
    assert not folder.quality_record.exists()


def test_figures_beside_the_original_stay_in_line_with_the_sentences(scored):
    record = scored.model_copy(update={"pitch_reason": None})
    longer = Compared(0.9, None, None, None, None)
    made = _paired(record, [longer, Compared(1.0, 2.0, None, 30.0, 0.1)])
    assert made and made.log_spectral_distance_db == [None, 2.0] and made.voicing_disagreement == [None, 0.1]
    assert made.log_spectral_distance_above_8khz_db == []  # the voice has no such band


def make_unspeakable(path):
    """Let the runtime fail at the end of every utterance, as a spline does that looks beyond its table."""
    model = onnx.load(path)
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[:] = ["audio" if name == output else name for name in last.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([10**6]), "beyond"))
    model.graph.node.append(onnx.helper.make_node("Gather", ["audio", "beyond"], [output]))
    onnx.save(model, path)


# what is done to a voice, and what is said of it
SPOILT = [
    (partial(damage, factor=float("nan")), "{}/model.onnx: the voice gives NaN"),
    (make_unspeakable, "ONNX Runtime cannot run it: .*Gather"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_a_variant_that_cannot_speak_is_not_scored_and_the_rest_is(study, folder, scored, spoil, words):
    spoil(folder.model("fp32"))
    record = evaluate_study(study, folder, processes=1)
    (failed,) = record.not_scored
    assert failed.variant == "fp32" and "\n" not in failed.reason
    assert re.search(rf"^sentence 1 \('.*{words.format('fp32')}", failed.reason)
    assert record.rows == scored.rows[:1] and record.anchors == scored.anchors
    assert current_evaluation(study, folder) == record


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_an_original_that_cannot_speak_is_one_line(study, folder, spoil, words):
    spoil(folder.model("original"))
    with pytest.raises(SpeechError, match=rf"original/model.onnx: sentence 1 \('.*{words.format('original')}"):
        evaluate_study(study, folder, processes=1)
