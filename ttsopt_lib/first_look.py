"""The first look: the same study with fewer blocks and sentences, so that a whole report is there within minutes.

Nothing of it is wasted: the complete run goes on after its blocks, and scores only the sentences that are new.
"""

from __future__ import annotations

from ttsopt_lib.study import Device, SentenceRange, Study

SENTENCES = 8  # of most rows
# Evaluation sentences, and as many further ones, of the original and the variants that the verdict is about, most
# likely (`evaluate.plan`). With 8 the interval of a change is +-0.15 wide, so a voice without any loss met a target of
# 0.10 in one of ten first looks; with 40 of each it does in nineteen of twenty (docs/notes/quality.md).
JUDGED = 40
SHARE = 0.2  # of the time that timing may take
BLOCKS = 4  # timed even where that is not enough for them: two mirrored pairs


def first_look(study: Study) -> Study:
    """The study as its first look asks it: same voice, variants, targets and devices."""
    evaluation, further = study.sentences.evaluation, study.sentences.confirmation
    sentences = {"evaluation": _first(evaluation, JUDGED), "confirmation": further and _first(further, JUDGED)}
    budget = {
        "budget_seconds": SHARE * study.measure.budget_seconds,
        "min_blocks": min(study.measure.min_blocks, BLOCKS),
    }
    few = SENTENCES if evaluation.count > SENTENCES else None
    return study.model_copy(
        update={
            "stage": "first_look",
            "sentences": study.sentences.model_copy(update=sentences),
            "measure": study.measure.model_copy(update=budget),
            "few_sentences": few,
        }
    )


def first_look_device(device: Device) -> Device:
    """The device with the number of threads that targets refer to; of a budget of its own it spends the same share."""
    budget = device.budget_seconds and SHARE * device.budget_seconds
    return device.model_copy(update={"threads": device.threads[:1], "budget_seconds": budget})


def _first(asked: SentenceRange, count: int) -> SentenceRange:
    return asked.model_copy(update={"count": min(asked.count, count)})
