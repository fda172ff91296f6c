"""The step 'evaluate': variants speak the study's sentences and are scored; `records/quality.json`.

What an utterance scored is kept in the study's `ScoreStore`, by the hash of what it was made from: what is unchanged
is not scored again, and an interrupt costs some four utterances of each process. The record is written when
everything is scored. It holds raw scores, sentence by sentence; the report derives means, changes and intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from joblib import Parallel, cpu_count, delayed
from tqdm.auto import tqdm

from ttsopt_lib.evaluate.examples import examples_current, write_examples
from ttsopt_lib.evaluate.intelligibility import spoken_words, word_error_rate, word_errors
from ttsopt_lib.evaluate.keys import quality_key
from ttsopt_lib.evaluate.paired import Compared
from ttsopt_lib.evaluate.plan import (
    OTHER_NOISE_ROW,
    Plan,
    PlannedRow,
    PlannedSentence,
    peers_current,
    plan_evaluation,
)
from ttsopt_lib.evaluate.score_store import ScoreStore
from ttsopt_lib.evaluate.scores import Scored, Task, score_utterances, tried
from ttsopt_lib.evaluate.speak import SpeechError, Utterance, speak
from ttsopt_lib.records.base import RecordError, now, read_if_current, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import NotScored, PairedScores, QualityRecord, QualityRow
from ttsopt_lib.statistics.stopping import LOOK
from ttsopt_lib.study import ORIGINAL, PEERS, Study
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.workers import cluster_workers, local_workers

MAX_PROCESSES = 8  # each holds a voice, the predictors and the recognizer: about 1 GB
BATCH = 4  # utterances that one process takes at a time; the recognizer hears them together


def current_evaluation(study: Study, folder: StudyFolder) -> QualityRecord | None:
    """The record if it is complete and nothing that it was made from has changed, else None."""
    try:
        record = read_if_current(folder.quality_record, QualityRecord, quality_key(study, folder))
    except RecordError:
        return None
    if record is None:
        return None
    heard = set(study.variant_names) - {one.variant for one in record.not_scored}
    if not all(examples_current(study, folder, name) for name in heard):
        return None
    return record if peers_current(study, folder, record) else None


def evaluate_study(
    study: Study,
    folder: StudyFolder,
    again: bool = False,
    processes: int | None = None,
    dask: str | None = None,
) -> QualityRecord:
    """Score every variant and the anchors; write the record and the listening examples.

    Args:
        study: what was asked.
        folder: of the study, with the model of every variant in it.
        again: score everything anew, changed or not.
        processes: worker processes; None takes the machine's cores (8 at most), 1 works in this process.
        dask: address of a Dask scheduler whose workers are used instead; they must see the same files and packages.

    Raises:
        RecordError: a variant's model is not there yet.
        StudyError: sentences that cannot be spoken, or a ratings file that cannot be used.
        VoiceError: a model that is no Piper voice.
        PredictorError: a predictor's package is missing.
        SpeechError: the original gives no sound or cannot be spoken with; a variant or peer of which a
            runtime cannot speak a sentence is not scored, and the record says why.
        WorkerError: a process was killed; what was scored is kept.
        ClusterError: no Dask scheduler answers at the address, or the package is missing.
    """
    if not again and (done := current_evaluation(study, folder)):
        return done
    store = ScoreStore(folder.score_store, forget=again)
    plan = plan_evaluation(study, folder, store, again)
    count = min(processes or cpu_count(), MAX_PROCESSES)
    bar = tqdm(total=plan.utterances, desc="evaluate", unit="utterance", dynamic_ncols=True)
    with bar, cluster_workers(dask) if dask else local_workers(count) as parallel:
        _Evaluation(study, folder, plan, store, parallel, bar).score()
    record = _filled(plan)
    write_record(folder.quality_record, record)
    if study.stage == "complete":
        store.keep_only(one.key for part in plan.parts for row in part for one in row.sentences)
    return record


class _Evaluation:
    """Work through a plan in some processes, and keep what each utterance scores."""

    def __init__(
        self, study: Study, folder: StudyFolder, plan: Plan, store: ScoreStore, parallel: Parallel, bar: tqdm
    ) -> None:
        self._study, self._folder, self._plan, self._store = study, folder, plan, store
        self._parallel, self._bar = parallel, bar

    def score(self) -> None:
        """The original first; then the first sentences of every row, which may decide; then the rest."""
        rows, confirmation = self._plan.parts
        self._work([(part[0], part[0].left) for part in self._plan.parts if part])
        self._work([(row, [one for one in row.left if one.number < LOOK]) for row in rows if row.may_stop])
        primary, target = self._study.evaluate.primary, self._study.targets.predicted_mos_change
        for row in rows:
            self._bar.total -= row.stop_if_decided(rows[0], primary, target)
        self._work([(row, row.left) for row in (*rows, *confirmation)])
        self._speak_examples([row for row in rows if row.examples])

    def _work(self, work: list[tuple[PlannedRow, list[PlannedSentence]]]) -> None:
        """Score sentences of rows, a batch in each process; what a batch scores is kept as soon as it is there."""
        jobs = [(row, left[start : start + BATCH]) for row, left in work for start in range(0, len(left), BATCH)]
        results: Any = self._parallel(delayed(score_utterances)(_tasks(batch)) for _, batch in jobs)
        for (row, batch), found in zip(jobs, results, strict=True):
            self._advance(row, len(found))
            for sentence, one in zip(batch, found, strict=True):
                self._keep(row, sentence, one)

    def _keep(self, row: PlannedRow, sentence: PlannedSentence, found: Scored | RuntimeFailure) -> None:
        if isinstance(found, RuntimeFailure):
            _note_failure(row, f"sentence {sentence.number + 1} ({sentence.text[:60]!r}): {found}")
            return
        sentence.reference = found.reference
        if found.scores:
            self._store.add(sentence.key, found.scores)
            sentence.scores = found.scores

    def _speak_examples(self, rows: list[PlannedRow]) -> None:
        """Write the listening examples of rows, each row's in one process."""
        results: Any = self._parallel(delayed(_spoken)(row.examples) for row in rows)
        for row, audio in zip(rows, results, strict=True):
            self._advance(row, len(audio))
            failures = [f"{number}: {one}" for number, one in enumerate(audio, 1) if isinstance(one, RuntimeFailure)]
            if failures:
                _note_failure(row, f"listening example {failures[0]}")
            else:
                write_examples(self._study, self._folder, row.name, audio, row.examples[0].sample_rate)

    def _advance(self, row: PlannedRow, utterances: int) -> None:
        self._bar.set_postfix_str(row.name, refresh=False)
        self._bar.update(utterances)


def _tasks(sentences: list[PlannedSentence]) -> list[Task]:
    """With the original's utterances, where they are needed: they are there by then."""
    return [
        replace(one.task, scored=one.scores is None, reference=one.original.reference if one.original else None)
        for one in sentences
    ]


def _note_failure(row: PlannedRow, failure: str) -> None:
    """Score no more of a row of which a sentence could not be spoken. Raises `SpeechError` for the original's."""
    row.failed = row.failed or failure
    if row.name == ORIGINAL:  # everything is compared with it
        raise SpeechError(f"{row.sentences[0].task.utterance.model}: {row.failed}; what is scored is kept")


def _spoken(examples: Sequence[Utterance]) -> list[Any]:
    return [tried(speak, one) for one in examples]


def _quality_row(record: QualityRecord, row: PlannedRow, original: PlannedRow) -> QualityRow:
    """A row's scores; `original` spoke the same sentences."""
    scores, hypotheses, language = row.scored, _hypotheses(row), record.asr_language
    spoken = _references(record, original)[: len(hypotheses)]
    errors = [word_errors(*pair, language) for pair in zip(spoken, hypotheses, strict=True)]
    return QualityRow(
        variant=row.name,
        key=row.key,
        scores={name: [score.predicted[name] for score in scores] for name, _ in row.sentences[0].task.predictors},
        audio_seconds=[score.audio_seconds for score in scores],
        level_above_8khz_db=[one.level_above_8khz_db for one in scores if one.level_above_8khz_db is not None],
        hypotheses=hypotheses or None,
        wer=word_error_rate(spoken, hypotheses, language) if hypotheses else None,
        word_errors=errors or None,
        paired=_paired(record, [score.compared for score in scores if score.compared]),
        model_sha256=row.sentences[0].task.utterance.model_sha256,
        stopped=row.stopped,
    )


def _hypotheses(row: PlannedRow) -> list[str]:
    return [score.hypothesis for score in row.scored if score.hypothesis is not None]


def _references(record: QualityRecord, original: PlannedRow) -> list[str]:
    """What is heard should have been this: the transcribed sentences, or what is heard of the original."""
    heard = _hypotheses(original)
    return heard if record.asr_against == "original" else [one.text for one in original.sentences[: len(heard)]]


def _paired(record: QualityRecord, compared: list[Compared]) -> PairedScores | None:
    """The comparisons of a row's first utterances as columns; None for the original, compared with nothing."""
    if not compared:
        return None
    above = [one.log_spectral_distance_above_8khz_db for one in compared]  # None throughout: there is no such band
    return PairedScores(
        speaker_similarity=[one.speaker_similarity for one in compared] if record.speaker_encoder else [],
        log_spectral_distance_db=[one.log_spectral_distance_db for one in compared],
        log_spectral_distance_above_8khz_db=above if any(one is not None for one in above) else [],
        f0_error_cents=[] if record.pitch_reason else [one.f0_error_cents for one in compared],
        voicing_disagreement=[] if record.pitch_reason else [one.voicing_disagreement for one in compared],
    )


def _filled(plan: Plan) -> QualityRecord:
    """The record, when every row is scored."""
    record = plan.record
    record.created = now()
    for row in plan.rows:
        if row.failed:
            continue
        made = _quality_row(record, row, plan.rows[0])
        if row.name == OTHER_NOISE_ROW:
            record.other_noise = made
        elif row.sentences[0].task.anchor:
            record.anchors.append(made)
        elif row.name in PEERS:
            record.peers.append(made)
        else:
            record.rows.append(made)
    record.confirmation = [
        _quality_row(record, row, plan.confirmation[0]) for row in plan.confirmation if not row.failed
    ]
    failed = {row.name: row for part in plan.parts for row in part if row.failed}
    record.not_scored = [NotScored(variant=name, key=row.key, reason=row.failed or "") for name, row in failed.items()]
    record.words, record.confirmation_words = (
        [spoken_words(text, record.asr_language) for text in _references(record, part[0])] if part else []
        for part in plan.parts
    )
    return record
