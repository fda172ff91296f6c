"""Further sentences that only the original and the variants of `evaluate.confirmed` speak."""

import pytest
from counting import counted
from small_study import changed

from ttsopt_lib.evaluate.quality import current_evaluation, evaluate_study
from ttsopt_lib.study import SentenceRange, Study


@pytest.fixture
def confirmed(study: Study, tmp_path) -> Study:
    """The small study, and one further sentence for its variant."""
    texts = tmp_path / "further.txt"
    texts.write_text("Not this one.\nThe door is open.\n", encoding="utf-8")
    further = SentenceRange(file=texts, start=1, count=1)
    return changed(study, sentences={"confirmation": further}, evaluate={"confirmed": ("fp32",)})


@pytest.mark.slow
def test_only_what_is_new_is_spoken_and_the_rest_stays_as_it_was(study, confirmed, folder, scored, monkeypatch):
    assert scored.confirmation == [] and current_evaluation(confirmed, folder) is None
    with counted(monkeypatch) as again:
        record = evaluate_study(confirmed, folder, processes=1)
    assert again == ["original", "fp32"]
    assert (record.rows, record.anchors, record.other_noise) == (scored.rows, scored.anchors, scored.other_noise)
    assert record.confirmation_sentences == ["The door is open."]
    original, copy = record.confirmation
    assert (original.variant, copy.variant) == ("original", "fp32")
    assert copy.scores == original.scores and len(copy.scores["dnsmos_p808"]) == 1
    assert copy.paired is not None and copy.paired.f0_error_cents == [0.0]  # beside the original on these sentences
    assert original.scores["dnsmos_p808"][0] not in scored.rows[0].scores["dnsmos_p808"]
    assert current_evaluation(confirmed, folder) == record
    with counted(monkeypatch) as again:
        assert evaluate_study(study, folder, processes=1).confirmation == []
    assert again == []


@pytest.mark.slow
def test_an_interrupt_between_the_two_voices_costs_one_of_them(confirmed, folder, scored, monkeypatch):
    assert scored.confirmation == []
    with counted(monkeypatch, stop_at=1), pytest.raises(KeyboardInterrupt):
        evaluate_study(confirmed, folder, processes=1)
    with counted(monkeypatch) as again:
        record = evaluate_study(confirmed, folder, processes=1)
    assert again == ["fp32"] and len(record.confirmation) == 2


@pytest.mark.slow
def test_words_are_counted_on_every_further_sentence(confirmed, folder):
    record = evaluate_study(changed(confirmed, evaluate={"wer_sentences": 1}), folder, processes=1)
    assert record.confirmation_words == [4] and len(record.words) == 1
    for row in record.confirmation:
        assert row.hypotheses is not None and len(row.hypotheses) == 1
        assert row.word_errors is not None and row.wer == sum(row.word_errors) / 4
