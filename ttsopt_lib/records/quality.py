"""The record of what `ttsopt evaluate` scored, sentence by sentence, and of listeners' ratings."""

from __future__ import annotations

from typing import Literal

from ttsopt_lib.records.base import Record
from ttsopt_lib.study import Stage


class PredictorRecord(Record):
    """A model that predicts listeners' scores."""

    name: str
    label: str  # as the report names it
    version: str
    weights_sha256: str


class UnavailablePredictor(Record):
    """A predictor that the study asks for and that could not be loaded here."""

    name: str
    label: str
    reason: str


class PairedScores(Record):
    """Against the original with the same noise and the original's durations, per evaluation sentence.

    An empty list was not measured; a null was not to be had from that sentence. (Older records leave those out of the
    lists of distances and of voicing.)
    """

    speaker_similarity: list[float | None]  # cosine of speaker vectors
    log_spectral_distance_db: list[float | None]
    log_spectral_distance_above_8khz_db: list[float | None]
    f0_error_cents: list[float | None]  # median absolute error over frames voiced in both
    voicing_disagreement: list[float | None]  # fraction of frames voiced in one of the two only


class QualityRow(Record):
    """Raw scores of one variant, or of one anchor, sentence by sentence."""

    variant: str
    key: str  # hash of everything that the scores of its utterances depend on
    scores: dict[str, list[float]]  # predictor -> one score per sentence: all of them, or the first if they decided
    audio_seconds: list[float]  # per sentence, as above
    level_above_8khz_db: list[float]  # per sentence, mean power above 8 kHz, dB re full scale
    hypotheses: list[str] | None  # recognizer's words, of the first wer_sentences; null: not measured
    wer: float | None  # word error rate over those sentences; relative where `asr_against` is the original
    word_errors: list[int] | None = None  # per transcribed sentence: words substituted, deleted and inserted
    paired: PairedScores | None = None  # of the first paired_sentences; null: this is the original
    model_sha256: str | None = None  # of the voice that spoke, of a peer its record's key; null: an older record
    stopped: bool = False  # whether its first sentences decided, and it was scored on no others


class RatingsRow(Record):
    """Mean of listeners' ratings of one variant."""

    variant: str
    mean: float
    ci: tuple[float, float] | None  # null: too few raters or sentences, or all say the same
    raters: int
    ratings: int
    change: float | None  # against the original, paired by sentence; null for the original
    change_ci: tuple[float, float] | None
    change_error: float | None = None  # standard error of the change (0: all say the same), and its degrees of freedom
    change_dof: float | None = None
    sentences: int | None = None  # null: an older record


class RatingSpread(Record):
    """Standard deviations of what raters, sentences and the rest add to a change (`statistics/crossed.py`)."""

    rater: float
    sentence: float
    rest: float


class ComparisonRow(Record):
    """Mean of one variant in a test that is no ACR: CCR against the original (-3 to 3), or MUSHRA (0 to 100)."""

    test: Literal["ccr", "mushra"]
    variant: str
    mean: float
    ci: tuple[float, float] | None  # null: too few raters or sentences, or all say the same
    error: float | None
    dof: float | None
    raters: int
    sentences: int
    ratings: int


class ScreenedRater(Record):
    """A listener whose ratings do not count."""

    rater: str
    reason: str
    ratings: int

    @property
    def words(self) -> str:
        """'7-abcd (24 ratings): a wrong answer to a trap question'."""
        return f"{self.rater} ({self.ratings} ratings): {self.reason}"


class MissingSymbol(Record):
    """What the phonemizer makes of the study's texts and is not spoken."""

    symbol: str
    left_out_by: Literal["voice", "piper"]  # piper: we speak it, and piper's own command does not
    times: int
    sentences: int  # texts that have it


class NotScored(Record):
    """A row that could not be scored, because a runtime could not speak one of its sentences."""

    variant: str
    key: str  # as of a row
    reason: str  # the sentence, and the runtime's words


class QualityRecord(Record):
    """records/quality.json: every quality figure of the study, per sentence."""

    schema_version: Literal[2] = 2
    key: str
    created: str
    sentences: list[str]
    predictors: list[PredictorRecord]
    asr: str | None  # recognizer and version; null with the reason in asr_reason
    asr_reason: str | None
    asr_language: str = "en"  # that it was told to hear
    asr_against: Literal["text", "original"] = "text"  # what was heard is compared with: see `intelligibility.py`
    rows: list[QualityRow]
    anchors: list[QualityRow]
    peers: list[QualityRow] = []
    ratings: list[RatingsRow] | None  # null: no ratings file, a MOS was not measured
    ratings_reason: str | None
    ratings_spread: RatingSpread | None = None  # of the changes; null: too few to know it
    ratings_unknown_files: int = 0  # how many do not say which voice files were heard
    ratings_left_out: list[str] = []  # which of them say nothing here, and why
    comparisons: list[ComparisonRow] = []
    screened: list[ScreenedRater] = []
    not_scored: list[NotScored] = []
    other_noise: QualityRow | None = None  # the original with other noise: what "the same" means
    confirmation: list[QualityRow] = []  # the original, then `evaluate.confirmed`, on `confirmation_sentences`
    confirmation_sentences: list[str] = []
    confirmation_words: list[int] = []  # spoken in each of them that is transcribed
    words: list[int] = []  # spoken in each transcribed sentence
    unavailable: list[UnavailablePredictor] = []
    speaker_encoder: PredictorRecord | None = None
    speaker_reason: str | None = None  # why there is none
    pitch_reason: str | None = None  # why F0 was not measured
    missing_symbols: list[MissingSymbol] = []  # what the phonemizer makes of `texts` texts and is not spoken
    texts: int = 0
    language_doubts: list[str] = []  # where the texts are in another language than the voice speaks
    stage: Stage = "complete"
