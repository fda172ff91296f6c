"""The step 'evaluate': variants speak the study's sentences and are scored; `records/quality.json`.

What an utterance scored is kept at once in the study's `ScoreStore`, by the hash of what it was made from: what is
unchanged is not scored again, and an interrupt costs an utterance or two. The record is written when everything is
scored. It holds raw scores, sentence by sentence; the report derives means, changes and intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from tqdm.auto import tqdm

from ttsopt_lib.evaluate.examples import write_examples
from ttsopt_lib.evaluate.intelligibility import Recognizer, spoken_words, word_error_rate, word_errors
from ttsopt_lib.evaluate.keys import listening_key, quality_key, voice_key
from ttsopt_lib.evaluate.paired import Compared, Reference
from ttsopt_lib.evaluate.plan import (
    OTHER_NOISE_ROW,
    Plan,
    PlannedRow,
    examples_current,
    peers_current,
    plan_evaluation,
    references,
)
from ttsopt_lib.evaluate.score_store import ScoreStore
from ttsopt_lib.evaluate.scores import OriginalTask, UtteranceScores, score_original, score_utterance
from ttsopt_lib.evaluate.speak import SpeechError, speak
from ttsopt_lib.records.base import RecordError, now, read_if_current, write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import NotScored, PairedScores, PredictorRecord, QualityRecord, QualityRow
from ttsopt_lib.statistics.stopping import LOOK
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.workers import cluster_workers, local_workers

MAX_PROCESSES = 8  # each holds a voice, the predictors and the recognizer: about 1 GB

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    asked, key = study.evaluate, quality_key(study, folder)
    store = ScoreStore(folder.score_store, forget=again)
    plan = plan_evaluation(study, folder, store, again)
    count = min(processes or cpu_count(), MAX_PROCESSES)
    bar = tqdm(total=plan.utterances, desc="evaluate", unit="utterance", dynamic_ncols=True)
    with bar, cluster_workers(dask) if dask else local_workers(count) as parallel:
        for rows in filter(None, plan.parts):
            bar.set_postfix_str(ORIGINAL)
            beside = _score_original(parallel, rows, store, bar)
            for row in rows:
                bar.set_postfix_str(row.name)
                if row.may_stop:
                    _score(parallel, row, row.left_of(LOOK), beside, store, bar)
                    bar.total -= row.stop_if_decided(rows[0], asked.primary, study.targets.predicted_mos_change)
                _score(parallel, row, row.left, beside, store, bar)
                if row.examples:
                    audio = list(_each(parallel, speak, row.examples, bar))
                    if not any(_note_failure(row, one, f"listening example {n}") for n, one in enumerate(audio, 1)):
                        _write_examples(study, folder, row, audio)
    record = _record(plan, key)
    record.stage = study.stage
    write_record(folder.quality_record, record)
    if study.stage == "complete":
        store.keep_only(key for part in plan.parts for row in part for key in row.keys)
    return record


def _each(parallel: Parallel, function: Callable[[Item], Any], items: Iterable[Item], bar: Any) -> Iterator[Any]:
    """`function` of every item, or a `RuntimeFailure`, in order; moves the progress bar."""
    results: Any = parallel(delayed(_tried)(function, item) for item in items)
    for result in results:
        bar.update()
        yield result


def _tried(function: Callable[[Item], Result], item: Item) -> Result | RuntimeFailure:
    """The result, or why there is none (a runtime fails, what it gives is no speech): the others go on."""
    try:
        return function(item)
    except RuntimeFailure as error:
        return error
    except SpeechError as error:
        return RuntimeFailure(str(error))
    except MemoryError:
        return RuntimeFailure("it takes more memory than there is")


def _note_failure(row: PlannedRow, result: object, what: str) -> bool:
    """Whether a sentence of a row could not be spoken. Raises `SpeechError` for the original's."""
    if not isinstance(result, RuntimeFailure):
        return False
    row.failed = row.failed or f"{what}: {result}"
    if row.name == ORIGINAL:  # everything is compared with it
        raise SpeechError(f"{row.tasks[0].utterance.model}: {row.failed}; what is scored is kept")
    return True


def _named(row: PlannedRow, number: int) -> str:
    return f"sentence {number + 1} ({row.texts[number][:60]!r})"


def _score_original(parallel: Parallel, rows: list[PlannedRow], store: ScoreStore, bar: Any) -> dict[int, Reference]:
    """Score what is left of the original, the first of `rows`; what others are compared with, by number."""
    original, compared = rows[0], references(rows)
    left = set(original.left)
    tasks = [OriginalTask(original.tasks[one], one in left, one in compared) for one in sorted(left | compared)]
    beside = {}
    for number, result in zip(sorted(left | compared), _each(parallel, score_original, tasks, bar), strict=True):
        if _note_failure(original, result, _named(original, number)):
            continue
        scores, reference = result
        if scores:
            _keep(original, number, scores, store)
        if reference:
            beside[number] = reference
    return beside


def _score(
    parallel: Parallel, row: PlannedRow, left: list[int], beside: dict[int, Reference], store: ScoreStore, bar: Any
) -> None:
    """Score the sentences `left` of a row."""
    tasks = [
        replace(task, reference=beside[number] if task.compared else None)
        for number, task in ((number, row.tasks[number]) for number in left)
    ]
    for number, result in zip(left, _each(parallel, score_utterance, tasks, bar), strict=True):
        if not _note_failure(row, result, _named(row, number)):
            _keep(row, number, result, store)


def _keep(row: PlannedRow, number: int, scores: UtteranceScores, store: ScoreStore) -> None:
    """Every utterance's scores are kept as soon as they are there."""
    store.add(row.keys[number], scores)
    row.scores[number] = scores


def _quality_row(plan: Plan, row: PlannedRow) -> QualityRow:
    scores = [one for one in row.scores[: row.needed] if one is not None]
    hypotheses = [score.hypothesis for score in scores if score.hypothesis is not None]
    heard = row.texts[: len(hypotheses)]
    return QualityRow(
        variant=row.name,
        key=row.key,
        scores={name: [score.predicted[name] for score in scores] for name, _ in row.tasks[0].predictors},
        audio_seconds=[score.audio_seconds for score in scores],
        level_above_8khz_db=_known([score.level_above_8khz_db for score in scores]),
        hypotheses=hypotheses or None,
        wer=word_error_rate(heard, hypotheses) if hypotheses else None,
        word_errors=[word_errors(*pair) for pair in zip(heard, hypotheses, strict=True)] if hypotheses else None,
        paired=_paired(plan, [score.compared for score in scores if score.compared]),
        stopped=row.stopped,
    )


def _paired(plan: Plan, compared: list[Compared]) -> PairedScores | None:
    """The comparisons of a row's first utterances as columns; None for the original, compared with nothing."""
    if not compared:
        return None
    with_speaker, with_pitch = isinstance(plan.encoder, PredictorRecord), plan.pitch_reason is None
    return PairedScores(
        speaker_similarity=[one.speaker_similarity for one in compared] if with_speaker else [],
        log_spectral_distance_db=[one.log_spectral_distance_db for one in compared],
        log_spectral_distance_above_8khz_db=_known([one.log_spectral_distance_above_8khz_db for one in compared]),
        f0_error_cents=[one.f0_error_cents for one in compared] if with_pitch else [],
        voicing_disagreement=_known([one.voicing_disagreement for one in compared]),
    )


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _write_examples(study: Study, folder: StudyFolder, row: PlannedRow, audio: list[Any]) -> None:
    key = listening_key(study, voice_key(study, folder, row.name))
    sample_rate = row.examples[0].sample_rate
    write_examples(folder.audio(row.name), key, study.sentences.listening, audio, sample_rate)


def _record(plan: Plan, key: str) -> QualityRecord:
    """The record, when every row is scored."""
    done = [(row, _quality_row(plan, row)) for row in plan.rows if not row.failed]
    failed = {row.name: row for part in plan.parts for row in part if row.failed}
    asr, encoder = plan.recognizer, plan.encoder
    transcribed = sum(task.recognizer is not None for task in plan.rows[0].tasks)
    return QualityRecord(
        key=key,
        created=now(),
        sentences=plan.sentences,
        predictors=plan.predictors,
        asr=asr.label if isinstance(asr, Recognizer) else None,
        asr_reason=None if isinstance(asr, Recognizer) else asr,
        rows=[made for row, made in done if not row.is_anchor and not row.is_peer and row.name != OTHER_NOISE_ROW],
        anchors=[made for row, made in done if row.is_anchor],
        peers=[made for row, made in done if row.is_peer],
        ratings=plan.rated.rows,
        ratings_reason=plan.rated.reason,
        comparisons=plan.rated.comparisons,
        screened=plan.rated.screened,
        other_noise=next((made for row, made in done if row.name == OTHER_NOISE_ROW), None),
        not_scored=[NotScored(variant=name, key=row.key, reason=row.failed or "") for name, row in failed.items()],
        confirmation=[_quality_row(plan, row) for row in plan.confirmation if not row.failed],
        confirmation_sentences=plan.confirmation_sentences,
        confirmation_words=[spoken_words(text) for text in plan.confirmation_sentences if isinstance(asr, Recognizer)],
        words=[spoken_words(sentence) for sentence in plan.sentences[:transcribed]],
        unavailable=plan.unavailable,
        speaker_encoder=encoder if isinstance(encoder, PredictorRecord) else None,
        speaker_reason=encoder if isinstance(encoder, str) else None,
        pitch_reason=plan.pitch_reason,
        missing_symbols=plan.missing_symbols,
        texts=plan.texts,
        language_doubts=plan.language_doubts,
    )
