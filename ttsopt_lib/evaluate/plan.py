"""What an evaluation has to do: everything is read and checked here, so that no error comes after minutes of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.evaluate.examples import examples_current
from ttsopt_lib.evaluate.intelligibility import ENGLISH, Recognizer, find_recognizer
from ttsopt_lib.evaluate.keys import quality_key, ratings_path, scorer_key, scoring_key, voice_key
from ttsopt_lib.evaluate.paired import Reference
from ttsopt_lib.evaluate.peers import as_peer, asked_peers, ready_peers
from ttsopt_lib.evaluate.predictors.hub_predictors import LABELS
from ttsopt_lib.evaluate.predictors.mos import OPTIONAL, PredictorError, describe, weights_file
from ttsopt_lib.evaluate.predictors.speaker import describe_encoder
from ttsopt_lib.evaluate.ratings.file import read_ratings
from ttsopt_lib.evaluate.ratings.means import Rated, rate_variants
from ttsopt_lib.evaluate.score_store import ScoreStore
from ttsopt_lib.evaluate.scores import Task, UtteranceScores
from ttsopt_lib.evaluate.signal.pitch import missing_pitch_tracker
from ttsopt_lib.evaluate.speak import (
    CONFIRMATION,
    EVALUATION,
    LISTENING,
    OTHER_NOISE,
    Utterance,
    confirmation_origin,
    confirmation_texts,
    evaluation_origin,
    evaluation_texts,
    spoken_texts,
    utterances,
)
from ttsopt_lib.files import content_key
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.quality import PredictorRecord, QualityRecord, RatingSpread, UnavailablePredictor
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.statistics.stopping import LOOK, is_decided
from ttsopt_lib.study import ORIGINAL, PEERS, Study
from ttsopt_lib.voices.adapters.model import TtsModel
from ttsopt_lib.voices.adapters.opening import open_model

OTHER_NOISE_ROW = "original, other noise"  # what "the same" means: the original's sentences with other draws
START_SECONDS, SECONDS_PER_UTTERANCE = 20, 0.39


@dataclass
class PlannedSentence:
    """One utterance of a row, and what is known of it."""

    number: int  # among the texts, from 0
    text: str
    key: str  # hash of everything that its scores depend on
    task: Task  # without the reference that is still to be made
    scores: UtteranceScores | None  # None: still to be scored
    original: PlannedSentence | None  # the original's utterance, where it cannot be scored without
    reference: Reference | None = None  # of the original, once it is spoken: what others need of it

    @property
    def is_left(self) -> bool:
        """Whether it is still to be scored, or spoken for others."""
        return self.scores is None or (self.task.kept and self.reference is None)


@dataclass
class PlannedRow:
    """One row of the record, a variant or an anchor, and what is left to do for it."""

    name: str
    key: str  # of the whole row
    sentences: list[PlannedSentence]
    examples: Sequence[Utterance] = ()  # listening examples that are still to be made
    few: int | None = None  # so many of the first sentences are enough; None: all are asked for
    may_stop: bool = False  # whether the first sentences may decide
    stopped: bool = False  # they did
    failed: str | None = None  # why it cannot be scored: the sentence, and the runtime's words

    @property
    def needed(self) -> list[PlannedSentence]:
        """The sentences that are to be scored: the first ones where those decided, or are enough."""
        return self.sentences[: LOOK if self.stopped else self.few]

    @property
    def left(self) -> list[PlannedSentence]:
        """The sentences that are still to be spoken; none of a row of which one cannot be."""
        return [] if self.failed else [one for one in self.needed if one.is_left]

    @property
    def scored(self) -> list[UtteranceScores]:
        """The scores that are there, of the needed sentences."""
        return [one.scores for one in self.needed if one.scores]

    def stop_if_decided(self, original: PlannedRow, predictor: str, target: float) -> int:
        """Score no further sentences where the first ones decide; how many that saves."""
        if self.stopped or not self.may_stop:
            return 0
        own, baseline = (
            [one.scores.predicted[predictor] for one in row.sentences[:LOOK] if one.scores] for row in (self, original)
        )
        if min(len(own), len(baseline)) < LOOK:
            return 0
        before = len(self.left)
        self.stopped = is_decided(own, baseline, target)
        return before - len(self.left)


@dataclass
class Plan:
    """The rows in the order of the tables, then anchors, then peers, and the record that they will fill."""

    rows: list[PlannedRow]
    confirmation: list[PlannedRow]  # the original and what speaks beside it on further sentences; or nothing
    record: QualityRecord  # with all that is known before anything is scored

    @property
    def parts(self) -> tuple[list[PlannedRow], list[PlannedRow]]:
        """Rows that are compared with one another: on the evaluation sentences, and on the further ones."""
        return self.rows, self.confirmation

    @property
    def utterances(self) -> int:
        """How many are left to speak."""
        return sum(len(row.left) + len(row.examples) for part in self.parts for row in part)


def _keep_originals(rows: list[PlannedRow]) -> None:
    """Have the original (the first row) keep what is needed of it to score what is left of the others."""
    for one in (sentence for row in rows[1:] for sentence in row.left):
        if one.original:
            task = one.original.task
            compared = task.kept_to_compare or one.task.compared
            one.original.task = replace(task, kept=True, kept_to_compare=compared)


def plan_evaluation(study: Study, folder: StudyFolder, store: ScoreStore, again: bool = False) -> Plan:
    """What there is to do, beyond what `store` has. `again` makes the listening examples anew.

    Raises as `evaluate_study` does.
    """
    key = quality_key(study, folder)
    sentences = evaluation_texts(study)
    keys = {name: voice_key(study, folder, name) for name in study.variant_names}
    rated = _ratings(study, folder, keys)
    predictors, unavailable = _predictors(study)
    voices = {name: open_model(folder.model(name)) for name in study.variant_names}
    recognizer = _recognizer(study, voices[ORIGINAL])
    asr = recognizer if isinstance(recognizer, Recognizer) else None
    encoder, pitch_reason = describe_encoder(), missing_pitch_tracker()
    loaded = tuple((one.name, weights_file(one.name, study.evaluate.weights_of(one.name))) for one in predictors)
    hearing = (asr.label, asr.language) if asr else None
    shared = [scorer_key(study), hearing, predictors, isinstance(encoder, str), pitch_reason]
    original, heard, judged = keys[ORIGINAL], study.evaluate.wer_sentences, _judged(study, folder)

    def planned(
        part: list[PlannedRow],
        name: str,
        voice: str,
        texts: list[str],
        spoken: Sequence[Utterance],
        heard: int,
        anchor: str | None = None,
    ) -> PlannedRow:
        """A row beside those of a part, whose first one is the original's; `voice` is the key of what speaks.

        The first `heard` sentences are transcribed; an `anchor` damages them all.
        """
        beside = 0 if name == ORIGINAL or name in PEERS else study.evaluate.paired_sentences
        its = []
        for number, (text, one) in enumerate(zip(texts, spoken, strict=True)):
            task = Task(one, loaded, asr if number < heard else None, anchor, compared=number < beside)
            compared_with = original if task.compared else None
            key = content_key([shared, voice, compared_with], [text, one.seed, anchor, bool(task.recognizer)])
            by_original = part[0].sentences[number] if task.compared or anchor else None
            its.append(PlannedSentence(number, text, key, task, store.get(key), by_original))
        few = None if name in judged else study.few_sentences
        return PlannedRow(name, content_key([one.key for one in its]), its, few=few)

    rows: list[PlannedRow] = []
    for name, voice in voices.items():
        spoken = utterances(study, voice, sentences, evaluation_origin(study), EVALUATION)
        rows.append(planned(rows, name, keys[name], sentences, spoken, heard))
        if again or not examples_current(study, folder, name):
            rows[-1].examples = utterances(study, voice, study.sentences.listening, "sentences.listening", LISTENING)
    by_original = [one.task.utterance for one in rows[0].sentences]
    if voices[ORIGINAL].has_noise:  # otherwise it would say the very same again
        spoken = utterances(study, voices[ORIGINAL], sentences, evaluation_origin(study), OTHER_NOISE)
        rows.append(planned(rows, OTHER_NOISE_ROW, original, sentences, spoken, heard))
    for anchor in ANCHORS:
        rows.append(planned(rows, anchor, original, sentences, by_original, heard, anchor))
    asked = asked_peers(study, folder)
    for peer, made in ready_peers(folder).items():
        spoken = as_peer(peer, made, folder, by_original, sentences)
        row = planned(rows, peer, made.key, sentences, spoken, heard)
        row.key = peer_key(study, made, asr.label if asr else None)
        if peer in asked or not row.left:  # scored before, and still as it was: what is there stays there
            rows.append(row)
    if study.evaluate.stop_decided and len(sentences) > LOOK:
        for row in rows:
            never = (ORIGINAL, OTHER_NOISE_ROW, *study.evaluate.confirmed, *PEERS)
            row.may_stop = row.few is None and row.name not in never
            row.stop_if_decided(rows[0], study.evaluate.primary, study.targets.predicted_mos_change)

    further = confirmation_texts(study)
    confirmation: list[PlannedRow] = []
    for name in dict.fromkeys((ORIGINAL, *study.evaluate.confirmed)) if further else ():
        spoken = utterances(study, voices[name], further, confirmation_origin(study), CONFIRMATION)
        confirmation.append(planned(confirmation, name, keys[name], further, spoken, len(further)))
    _keep_originals(rows)
    _keep_originals(confirmation)
    texts = [text for texts in spoken_texts(study).values() for text in texts]
    record = QualityRecord(
        key=key,
        created="",  # when all is scored
        sentences=sentences,
        predictors=predictors,
        asr=asr.label if asr else None,
        asr_reason=recognizer if isinstance(recognizer, str) else None,
        asr_language=asr.language if asr else ENGLISH,
        asr_against=asr.against if asr else "text",
        rows=[],
        anchors=[],
        ratings=rated.rows,
        ratings_reason=rated.reason,
        ratings_spread=rated.spread and RatingSpread(**asdict(rated.spread)),
        ratings_unknown_files=rated.unknown_files,
        ratings_left_out=rated.left_out,
        comparisons=rated.comparisons,
        screened=rated.screened,
        confirmation_sentences=further,
        unavailable=unavailable,
        speaker_encoder=encoder if isinstance(encoder, PredictorRecord) else None,
        speaker_reason=encoder if isinstance(encoder, str) else None,
        pitch_reason=pitch_reason,
        missing_symbols=voices[ORIGINAL].missing_symbols(texts),
        texts=len(texts),
        language_doubts=voices[ORIGINAL].language_doubt(study.language),
        stage=study.stage,
    )
    return Plan(rows, confirmation, record)


def _judged(study: Study, folder: StudyFolder) -> tuple[str, ...]:
    """The original, and the variants that a verdict is about, most likely: those confirmed, else all small enough."""
    most = (1 - study.targets.size_reduction) * folder.model(ORIGINAL).stat().st_size
    small = [name for name in study.variant_names if folder.model(name).stat().st_size <= most]
    return (ORIGINAL, *(study.evaluate.confirmed or small))


def _predictors(study: Study) -> tuple[list[PredictorRecord], list[UnavailablePredictor]]:
    """Those that are there, and those that are not with the reason; the primary one has to be there."""
    found, unavailable = [], []
    for name in study.evaluate.predictors:
        try:
            found.append(describe(name, study.evaluate.weights_of(name)))
        except PredictorError as error:
            if name not in OPTIONAL or name == study.evaluate.primary:
                raise
            unavailable.append(UnavailablePredictor(name=name, label=LABELS[name], reason=str(error)))
    return found, unavailable


def expected_seconds(study: Study) -> float:
    """About how long an evaluation of everything takes, on two cores of a present workstation (measured).

    That is the most: rows that stop early spare some utterances, and not every voice has another noise.
    """
    rows = len(study.variant_names) + len(study.measure.peers) + len(ANCHORS) + 1  # and the other noise
    whole = len(study.evaluate.confirmed or study.variants) + 1 if study.few_sentences else rows
    count = study.sentences.evaluation.count * whole + (study.few_sentences or 0) * (rows - whole)
    if further := study.sentences.confirmation:
        count += further.count * (len(study.evaluate.confirmed) + 1)
    return START_SECONDS + SECONDS_PER_UTTERANCE * count


def _recognizer(study: Study, original: TtsModel) -> Recognizer | str:
    if not study.evaluate.wer_sentences:
        return "evaluate.wer_sentences is 0"
    return find_recognizer(study.evaluate.asr_model, original.language_code or study.language or "")


def peers_current(study: Study, folder: StudyFolder, record: QualityRecord) -> bool:
    """Whether every peer that the study asks for, and that can speak, is scored as it is now."""
    scored = {(row.variant, row.key) for row in (*record.peers, *record.not_scored)}
    try:
        asked = asked_peers(study, folder)
    except RecordError:
        return False
    return all((name, peer_key(study, peer, record.asr)) in scored for name, peer in asked.items())


def peer_key(study: Study, peer: PeerRecord, asr: str | None) -> str:
    """Of a peer's scores: everything but its audio that they depend on, and how the peer was made."""
    return content_key([scoring_key(study), asr], peer.key)


def _ratings(study: Study, folder: StudyFolder, voices: dict[str, str]) -> Rated:
    """What listeners said of these voices (variant -> its key), or the reason why there is nothing."""
    path = ratings_path(study, folder)
    if path is None:
        return Rated(reason="no ratings file was given (evaluate.ratings), so no listener's opinion was measured")
    if not path.is_file():
        raise StudyError(f"{path}: evaluate.ratings: no such file; give a CSV with ratings, or leave the key out")
    return rate_variants(read_ratings(path, study.variant_names), study.variant_names, voices)
