"""The schema of summary.json: what scripts read, and the only source of the numbers that the report prints.

Reductions are fractions of the baseline (0.6 = 60 % less), latency reductions per second of audio made; changes are
in points of the score's scale; every `ci` is the 95 % interval, [low, high] (99.9 % where `level` says so). The
baseline's own reduction and change are zero by definition, so every row has the same shape.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ttsopt_lib.records.device import SystemRecord
from ttsopt_lib.records.quality import (
    MissingSymbol,
    NotScored,
    PredictorRecord,
    RatingSpread,
    ScreenedRater,
    UnavailablePredictor,
)
from ttsopt_lib.records.variant import Coverage, StepKind
from ttsopt_lib.report.device_schema import DeviceSummary, TimingSummary
from ttsopt_lib.report.estimates import Estimate, Interval, Part
from ttsopt_lib.study import Stage, Targets

# Of what the notebook of the report carries as data: its summary, and the files that stand beside the page.
SUMMARY_MIME, FILES_MIME = "application/vnd.ttsopt.summary+json", "application/vnd.ttsopt.files+json"
Status = Literal["pass", "fail", "not_measured"]
Finding = Literal["worse", "better", "no_difference"]
Claim = Literal["size_reduction", "latency_reduction", "first_sound_ms", "mos_change", "predicted_mos_change"]


# --- variants ---------------------------------------------------------------------------------------------------


class StepSummary(Part):
    """What one step of a recipe reached."""

    step: str
    settings: dict[str, Any]
    coverage: Coverage
    layers: int
    note: str
    label: str = ""  # what sentences call the step
    family: str = ""  # what legends call voices that were made by it alone
    kind: StepKind = "other"  # what of a voice it changes
    remedy: str = ""  # what to change where it costs too much quality
    optimizes: bool = True  # False: it stores or orders the same numbers in another way
    stages: list[str] = Field(default=[], exclude=True)  # that a student took the place of; `note` says so


class SensitivitySummary(Part):
    """What int8 arithmetic in one group of layers alone does, and whether the search chose it."""

    variant: str
    group: str
    label: str
    layers: int
    parameters: float  # fraction of all weights
    time: float  # fraction of an utterance's time in float32
    level_error_db: float
    spectral_distance_db: float
    level_above_8khz_db: float
    speedup: float | None = None  # of the group itself, times; null: the search used no clock
    speedup_ci: tuple[float, float] | None = None
    seconds_saved: float | None = None  # in one utterance
    int8: bool


class VariantSummary(Part):
    """A deployable voice: what was done to it and how big it is."""

    name: str
    runtime: str
    recipe: list[dict[str, Any]]
    parameters: int
    size_bytes: int
    size_reduction: float
    coverage: Coverage
    note: str
    parent: str | None
    parameters_nonzero: int
    zero_fraction: float  # of the stored parameters
    compressed_bytes: int
    compressed_reduction: float
    steps: list[StepSummary]
    files: dict[str, str]  # name -> sha256
    seconds: float


# --- quality ----------------------------------------------------------------------------------------------------


class PredictedMos(Part):
    """Mean score of one predictor, and its paired change against the baseline on the same sentences."""

    value: float
    ci: Interval | None
    change: Estimate | None
    change_choosing: Estimate | None  # on the sentences that choose the optimized variant
    change_held_out: Estimate | None  # on the others, which the verdict reports
    sentences_held_out: int = 0  # how many those are
    level: float = 0.95  # of the intervals of the changes; wider where the first sentences decided
    change_p: float | None = None  # of "no change", all sentences; Holm-corrected over the rows it is judged with
    finding: Finding | None = None  # what the corrected p-value says at 5 %
    equivalence_p: float | None = None  # of "the change is smaller than the target margin" (TOST, Holm-corrected)
    equivalence_p_held_out: float | None = None  # on the held-out sentences; for the chosen variant, so alone


class HumanMos(Part):
    """Mean opinion score: ratings by people."""

    value: float
    ci: Interval | None
    raters: int
    ratings: int
    change: Estimate | None
    detectable: float | None = None  # the smallest true change that ratings like these find in 8 of 10 tests
    equivalence_p: float | None = None  # of "the change is smaller than the target margin" (TOST, Holm-corrected)
    sentences: int | None = None


class ComparisonSummary(Part):
    """What listeners said in a test that is no ACR: CCR against the original (-3 to 3) or MUSHRA (0 to 100)."""

    test: Literal["ccr", "mushra"]
    variant: str
    score: Estimate
    raters: int
    sentences: int
    ratings: int
    detectable: float | None


class PairedSummary(Part):
    """Against the original with the same noise and the original's durations: means over sentences, bootstrap intervals.

    Null: not measured. The change of duration is that of the variant's own durations, as a fraction.
    """

    speaker_similarity: Estimate | None  # cosine, 1 is the same
    log_spectral_distance_db: Estimate | None
    log_spectral_distance_above_8khz_db: Estimate | None
    f0_error_cents: Estimate | None
    voicing_disagreement: Estimate | None  # fraction of frames
    duration_change: Estimate | None
    sentences: dict[str, int] = {}  # on how many each figure stands: some may have no speech, or no voiced frame


class WerSummary(Part):
    """A word (or character) error rate beside the original's on the same sentences, with the bootstrap's interval."""

    value: float
    ci: Interval | None
    change: Estimate | None
    change_p: float | None = None  # of "no change" (permutation test), Holm-corrected over the rows it is judged with
    finding: Finding | None = None
    sentences: int | None = None  # that were transcribed; null: an earlier version did not keep it
    fewer: bool = False  # whether these are fewer than the original's

    @property
    def beside(self) -> float | None:
        """The rate that it is compared with, on the same sentences."""
        return self.value - self.change.value if self.change else None


class QualitySummary(Part):
    """One variant, or one anchor, scored by one predictor; what does not depend on the predictor is repeated."""

    variant: str
    predictor: str
    sentences: int
    predicted_mos: PredictedMos
    wer: float | None  # word error rate; null where words are not written apart
    speaker_similarity: float | None
    human_mos: HumanMos | None
    level_above_8khz_db: Estimate | None  # null, as below: the voice's sampling rate leaves no such band
    level_above_8khz_change_db: Estimate | None
    speech_seconds: float
    wer_figures: WerSummary | None = None
    cer: float | None = None  # character error rate, spaces counted where there are any
    cer_figures: WerSummary | None = None
    # in place of them, where what the original gives stands for the text; changes: beside other noise
    relative_wer: WerSummary | None = None
    relative_cer: WerSummary | None = None
    paired: PairedSummary | None = None
    fewer: bool = False  # whether it was scored on the first evaluation sentences only


class PredictorSummary(PredictorRecord):
    """A model that predicts listeners' scores, and whether it is to be believed."""

    primary: bool
    orders_anchors: bool | None = None  # whether it puts every anchor significantly below the original
    missed_anchors: list[str] = []  # those that it does not


# --- peers ------------------------------------------------------------------------------------------------------


class PeerTimingSummary(Part):
    """A peer on one device, timed in the blocks of the variants; the reduction is against the original in ONNX Runtime
    with the same threads, per second of audio, so it holds the change of runtime as well."""

    device: str
    status: Literal["measured", "not_measured"]
    reason: str | None
    row: TimingSummary | None


class PeerSummary(Part):
    """Something that a user would pick instead: never a candidate, never in the verdict."""

    name: str
    label: str
    versions: dict[str, str]
    another_voice: bool  # then only absolute figures of quality are given
    compared: Literal["phonemes to audio", "text to audio"]
    same_noise: bool  # scored with the noise that the variants were given
    reason: str | None  # why it could not be had at all
    size_bytes: int | None  # of the voice's model file or files
    size_reduction: float | None
    timings: list[PeerTimingSummary]
    quality: list[QualitySummary]

    def timing_on(self, device: str) -> TimingSummary | None:
        """Its timing on a device; None where it was not measured."""
        return next((timing.row for timing in self.timings if timing.device == device), None)


# --- verdict ----------------------------------------------------------------------------------------------------


class VerdictRow(Part):
    """One claim against its target. `measured` is null where nothing could be chosen or measured."""

    claim: Claim
    device: str | None
    target: float
    measured: float | None
    status: Status
    ci: Interval | None
    variant: str | None
    reason: str


class Choice(Part):
    """Which variant the rule picked on a measured device, or what came closest and why it failed."""

    device: str
    variant: str | None
    candidates: list[str]
    closest: str | None
    failed: list[str]  # the closest variant's missed conditions, in words
    decided: bool  # False: the rule could not be applied, because a figure it needs was not measured


class Advice(Part):
    """What to do next, and the measurement that says so. `figures` are those that triggered the rule."""

    rule: str  # its name, for scripts
    text: str
    because: str
    figures: dict[str, float]


class CurvePoint(Part):
    """One validation of a student in training, on utterances that were held out."""

    step: int
    minutes: float
    predicted_mos_change: Estimate  # against the teacher's own decoder, given the same latents
    log_spectral_distance_db: float | None


class StudentSummary(Part):
    """How the student of a variant was trained, from the record beside its weights."""

    variants: list[str]  # that speak with it
    student: str  # its folder
    steps: int
    minutes: float  # of wall time
    cpu: str | None  # None, as below: the record does not say
    accelerator: str | None = None  # the GPU that it was trained on, if it was one
    teacher_hours: float | None
    earlier_minutes: float = 0.0  # that the published students which it began with had been trained for
    held_out_utterances: int
    parameters: int
    published_step: int  # the step whose weights were kept
    teacher_ms: float | None  # the decoder alone, in the same runtime
    student_ms: float | None
    curve: list[CurvePoint]
    joined: int | None = None  # point of the curve at which the text encoder joined the others; None: it did not


class WebVoice(Part):
    """A voice that the page beside the report speaks with."""

    variant: str
    size_bytes: int
    compressed_bytes: int
    current: bool  # whether it is today's file of the variant


class WebSummary(Part):
    """The page of `ttsopt web`, and what a visitor downloads: all of it but the voices, and one of these."""

    page: str  # relative to the report
    size_bytes: int  # without the voices
    compressed_bytes: int
    voices: list[WebVoice]


class Facts(Part):
    """What was measured of a study, and what each figure is worth; nothing is chosen yet."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    stage: Stage = "complete"  # first_look: fewer blocks or sentences than the study asks for
    study: str
    voice: str
    created: str
    commit: str | None
    dirty: bool | None
    system: SystemRecord | None
    baseline: str
    targets: Targets
    variants: list[VariantSummary]
    devices: list[DeviceSummary]
    quality: list[QualitySummary]
    anchors: list[QualitySummary]  # the damaged original; then every variant that is naive static int8, once more
    title: str
    predictors: list[PredictorSummary]
    source_sha256: str
    licence_chain: list[str]
    model: str | None = None  # what a declared model calls itself; null: a Piper voice, or one that became one
    asr: str | None
    asr_reason: str | None
    asr_language: str | None = "en"  # that the recognizer was told to hear
    asr_against: Literal["text", "original"] = "text"  # "original": error rates are relative to what that one gives
    ratings_reason: str | None
    ratings_spread: RatingSpread | None = None  # of the changes; null: too few to know it
    ratings_unknown_files: int = 0  # how many do not say which voice files were heard
    ratings_left_out: list[str] = []
    comparisons: list[ComparisonSummary] = []
    screened_raters: int = 0
    screened: list[ScreenedRater] = Field(default=[], exclude=True)  # `ratings_reason` names them
    quality_reason: str | None  # why there are no quality figures at all
    quality_created: str | None
    evaluation_sentences: int
    evaluation_sentences_available: int | None = None  # before the file's end or the next range in it; null: unread
    confirmation_sentences_available: int | None = None  # the same
    wer_sentences: int
    paired_sentences: int | None = None  # on which voices were compared with the original
    timing_sentences: int
    listening: list[str]
    sensitivity: list[SensitivitySummary] = []  # of the variants whose recipe searched
    other_noise: list[QualitySummary] = []  # the original with other noise, by predictor: what "the same" means
    confirmation: list[QualitySummary] = []  # on further sentences alone: the original, then what was confirmed
    confirmation_sentences: int = 0
    unavailable_predictors: list[UnavailablePredictor] = []
    not_scored: list[NotScored] = []
    speaker_encoder: str | None = None
    speaker_reason: str | None = None
    pitch_reason: str | None = None
    missing_symbols: list[MissingSymbol] = []  # what the phonemizer makes of `texts` texts and is not spoken
    texts: int = 0
    language_doubts: list[str] = []  # where the texts are in another language than the voice speaks
    students: list[StudentSummary] = []
    peers: list[PeerSummary] = []
    web: WebSummary | None = None  # null: `ttsopt web` has written no page

    # --- look-ups that prose, tables and figures share

    @property
    def same(self) -> str:
        """What voices have in common that are compared: a declared model cannot be given durations."""
        return "noise" if self.model else "noise and durations"

    @property
    def measured_devices(self) -> list[DeviceSummary]:
        """Devices that were there and are judged, in the order of the study."""
        return [device for device in self.devices if device.judged]

    @property
    def timed_devices(self) -> list[DeviceSummary]:
        """These, and imports that are shown alone."""
        return [device for device in self.devices if device.status == "measured"]

    @property
    def primary_predictor(self) -> PredictorSummary | None:
        """The predictor that the targets refer to; None where nothing was scored."""
        return next((predictor for predictor in self.predictors if predictor.primary), None)

    def variant(self, name: str) -> VariantSummary:
        """The variant of that name. Raises KeyError."""
        return {variant.name: variant for variant in self.variants}[name]

    def quality_of(self, name: str, predictor: str | None = None) -> QualitySummary | None:
        """A variant's scores by a predictor, by default the primary one."""
        wanted = predictor or (self.primary_predictor.name if self.primary_predictor else None)
        rows = (row for row in self.quality if row.variant == name and row.predictor == wanted)
        return next(rows, None)

    def timing_of(self, device: DeviceSummary, name: str) -> TimingSummary | None:
        """A variant's timing where the targets look: the device's runtime and first number of threads, float32."""
        place = (name, device.runtime, device.threads, "fp32")
        return next((row for row in device.rows if (row.variant, row.runtime, row.threads, row.mode) == place), None)


class Decided(Facts):
    """The facts, and what the rule makes of them: the optimized variant of each device, and every claim's verdict."""

    optimized: dict[str, str | None]
    choices: list[Choice]
    verdict: list[VerdictRow]


class Summary(Decided):
    """summary.json."""

    advice: list[Advice] = []
