"""Let peers speak the evaluation sentences, so that the same predictors score what a user would pick instead.

Where the runtime can be told, a peer is given the noise that the variants are scored with (ONNX Runtime, and OpenVINO
on the original's file); the others draw their own, and their change is paired by sentence alone. piper-tts speaks
without its normalization of loudness, because the variants do too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.signal.waveform import as_written
from ttsopt_lib.evaluate.speak import Utterance, why_no_speech
from ttsopt_lib.measure.peers import CATALOGUE
from ttsopt_lib.measure.runtimes.peer_runtimes import PRECISION_HINTS, compile_openvino, open_peer, open_piper_tts
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
        with suppress(RecordError):
            record = read_record(folder.peer_record(name), PeerRecord, "evaluate --peers")
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
    spoken = [replace(utterance, model=model, model_sha256=record.key) for utterance in original]
    if CATALOGUE[name].runtime == "onnxruntime":
        return spoken
    if CATALOGUE[name].another_voice:
        from hibari import SAMPLE_RATE

        spoken = [replace(utterance, sample_rate=SAMPLE_RATE) for utterance in spoken]
    return [PeerUtterance(**vars(one), peer=name, text=text) for one, text in zip(spoken, texts, strict=True)]


def speak_peer(utterance: PeerUtterance) -> NDArray[np.int16]:
    """The samples that a WAV file of the utterance holds. Raises `RuntimeFailure`, whatever the peer raises."""
    label = CATALOGUE[utterance.peer].label
    with in_words(f"{label} cannot be opened"):
        voice = _open(utterance.peer, utterance.model, utterance.model_sha256, utterance.scales, utterance.speaker)
    with in_words(f"{label} cannot speak it"):
        waveform = np.asarray(voice(utterance), dtype=np.float64).reshape(-1)
    if wrong := why_no_speech(waveform, utterance.sample_rate):
        raise RuntimeFailure(f"{label} gives {wrong}")
    return as_written(waveform)


@lru_cache(maxsize=1)
def _open(name: PeerName, model: Path, made: str, scales: tuple[float, ...], speaker: int | None) -> Voice:
    """A peer ready to speak on one thread; `made` is the key of its record, so that a changed one is opened anew."""
    runtime = CATALOGUE[name].runtime
    if runtime == "openvino" and model.suffix == ".onnx":  # NNCF's graph is none, and draws its own noise
        paired = PairedSession(model, open_part=partial(_OpenVinoSession, precision=PRECISION_HINTS[name]))
        return lambda one: paired.speak(one.ids, seed=one.seed, scales=one.scales, sid=one.speaker)[0]
    if runtime == "piper-tts":
        from piper import SynthesisConfig

        piper, settings = open_piper_tts(model, 1), SynthesisConfig(speaker_id=speaker, normalize_audio=False)
        return lambda one: np.concatenate([part.audio_float_array for part in piper.synthesize(one.text, settings)])
    if runtime == "hibari-tts":
        from hibari import Hibari

        hibari = Hibari(threads=1)
        return lambda one: hibari(one.text, seed=one.seed)
    row = {"runtime": runtime, "variant": name, "model": str(model), "threads": 1}
    as_timed, _ = open_peer(row, list(scales), speaker)
    return lambda one: as_timed(np.array(one.ids))


class _OpenVinoSession:
    """A part of a voice in OpenVINO, with the two methods of an ONNX Runtime session that pairing takes."""

    def __init__(self, model: Any, precision: str):
        self._compiled = compile_openvino(model.SerializeToString(), precision, 1)
        self._inputs = [SimpleNamespace(name=next(iter(port.get_names()))) for port in self._compiled.inputs]

    def get_inputs(self) -> list[SimpleNamespace]:
        return self._inputs

    def run(self, _outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        result = self._compiled(feeds)
        return [result[port] for port in self._compiled.outputs]
