"""Let peers speak the evaluation sentences, so that the same predictors score what a user would pick instead.

Where the runtime can be told, a peer is given the noise that the variants are scored with (ONNX Runtime, and OpenVINO
on the original's file); the others draw their own, and their change is paired by sentence alone. piper-tts speaks
without its normalization of loudness, because the variants do too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.signal.waveform import as_written
from ttsopt_lib.evaluate.speak import Utterance, why_no_speech
from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.records.base import RecordError, read_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.records.variant import PeerRecord
from ttsopt_lib.study import ORIGINAL, PEERS, PeerName, Study
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.session import RuntimeFailure, in_words

Voice = Callable[["PeerUtterance"], NDArray[np.floating]]


@dataclass(frozen=True)
class PeerUtterance(Utterance):
    """One sentence as a peer is to speak it that is no ONNX file for ONNX Runtime."""

    peer: PeerName
    text: str


def ready_peers(folder: StudyFolder, names: Sequence[PeerName] = PEERS) -> dict[PeerName, PeerRecord]:
    """Those of the peers that were made ready and can be spoken with."""
    found: dict[PeerName, PeerRecord] = {}
    for name in names:
        try:
            record = read_record(folder.peer_record(name), PeerRecord, "evaluate --peers")
        except RecordError:
            continue
        if record.status == "ready":
            found[name] = record
    return found


def asked_peers(study: Study, folder: StudyFolder) -> dict[PeerName, PeerRecord]:
    """The study's peers that are ready. Raises RecordError for one that nobody has made yet."""
    for name in study.measure.peers:
        read_record(folder.peer_record(name), PeerRecord, "evaluate --peers")
    return ready_peers(folder, study.measure.peers)


def as_peer(
    name: PeerName, record: PeerRecord, folder: StudyFolder, original: Sequence[Utterance], texts: Sequence[str]
) -> list[Utterance]:
    """The original's utterances as the peer is to speak them: the same phonemes, scales and seeds."""
    model = folder.peer(name) / record.model if record.model else folder.model(ORIGINAL)
    found: list[Utterance] = []
    for utterance, text in zip(original, texts, strict=True):
        values = {field.name: getattr(utterance, field.name) for field in fields(Utterance)}
        values |= {"model": model, "model_sha256": record.key}
        if CATALOGUE[name].runtime == "onnxruntime":
            found.append(Utterance(**values))
            continue
        if CATALOGUE[name].another_voice:
            values["sample_rate"] = _own_rate()
        found.append(PeerUtterance(**values, peer=name, text=text))
    return found


def speak_peer(utterance: PeerUtterance) -> NDArray[np.int16]:
    """The samples that a WAV file of the utterance holds. Raises `RuntimeFailure`, whatever the peer raises."""
    label = CATALOGUE[utterance.peer].label
    with in_words(f"{label} cannot be opened"):
        voice = _open(utterance.peer, utterance.model, utterance.model_sha256, utterance.scales)
    with in_words(f"{label} cannot speak it"):
        waveform = np.asarray(voice(utterance), dtype=np.float64).reshape(-1)
    if wrong := why_no_speech(waveform, utterance.sample_rate):
        raise RuntimeFailure(f"{label} gives {wrong}")
    return as_written(waveform)


@lru_cache(maxsize=1)
def _open(name: PeerName, model: Path, made: str, scales: tuple[float, ...]) -> Voice:
    """A peer ready to speak on one thread; `made` is the key of its record, so that a changed one is opened anew."""
    runtime = CATALOGUE[name].runtime
    if runtime == "openvino":
        return _openvino(name, model)
    if runtime == "piper-tts":
        return _piper_tts(model)
    if runtime == "sherpa-onnx":
        return _sherpa_onnx(model, scales)
    return _hibari_tts()


class _OpenVinoSession:
    """A part of a voice in OpenVINO, with the two methods of an ONNX Runtime session that pairing takes."""

    def __init__(self, model: Any, threads: int, precision: str):
        from ttsopt_lib.measure.runtimes.peer_runtimes import compile_openvino

        self._compiled = compile_openvino(model.SerializeToString(), precision, threads)
        self._inputs = [_Named(next(iter(port.get_names()))) for port in self._compiled.inputs]

    def get_inputs(self) -> list[_Named]:
        return self._inputs

    def run(self, _outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        result = self._compiled(feeds)
        return [result[port] for port in self._compiled.outputs]


@dataclass(frozen=True)
class _Named:
    name: str


def _openvino(name: PeerName, model: Path) -> Voice:
    from ttsopt_lib.measure.runtimes.peer_runtimes import PRECISION_HINTS, compile_openvino

    precision = PRECISION_HINTS[name]
    if model.suffix == ".onnx":
        paired = PairedSession(model, open_part=lambda part: _OpenVinoSession(part, 1, precision))
        return lambda one: paired.speak(one.ids, seed=one.seed, scales=one.scales, sid=one.speaker)[0]
    compiled = compile_openvino(model, precision, 1)  # its graph is no ONNX any more: it draws its own noise

    def speak(one: PeerUtterance) -> NDArray[np.floating]:
        feeds = {
            "input": np.array([one.ids], np.int64),
            "input_lengths": np.array([len(one.ids)], np.int64),
            "scales": np.array(one.scales, np.float32),
        }
        if one.speaker is not None:
            feeds["sid"] = np.array([one.speaker], np.int64)
        return compiled(feeds)[compiled.output(0)]

    return speak


def _piper_tts(model: Path) -> Voice:
    from piper import SynthesisConfig

    from ttsopt_lib.measure.runtimes.peer_runtimes import open_piper_tts

    voice = open_piper_tts(model, 1)

    def speak(one: PeerUtterance) -> NDArray[np.floating]:
        settings = SynthesisConfig(speaker_id=one.speaker, normalize_audio=False)
        return np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(one.text, settings)])

    return speak


def _sherpa_onnx(model: Path, scales: tuple[float, ...]) -> Voice:
    from ttsopt_lib.measure.runtimes.peer_runtimes import open_sherpa_onnx, sherpa_request, sherpa_symbols

    voice, symbols = open_sherpa_onnx(model, list(scales), 1), sherpa_symbols(model)
    return lambda one: np.array(voice.generate("", sherpa_request(np.array(one.ids), symbols, one.speaker)).samples)


def _hibari_tts() -> Voice:
    from hibari import Hibari

    voice = Hibari(threads=1)
    return lambda one: voice(one.text, seed=one.seed)


def _own_rate() -> int:
    from hibari import SAMPLE_RATE

    return SAMPLE_RATE
