"""Piper voices: a VITS in one ONNX graph, with a config beside it that says how text becomes ids."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from onnx import ModelProto

from ttsopt_lib.records.quality import MissingSymbol
from ttsopt_lib.voices.adapters.model import Feed, TtsModel
from ttsopt_lib.voices.language import language_doubt
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import PiperVoice, VoiceConfig, speaker_of
from ttsopt_lib.voices.text import missing_symbols, utterance_ids


class PiperModel(TtsModel):
    """A Piper voice that was opened. Its noise and its durations can be handed in.

    Attributes:
        config: what its `.onnx.json` says.
    """

    kind = "a Piper voice"
    is_vits: ClassVar[bool] = True

    def __init__(self, voice: PiperVoice):
        self.voice = voice
        self.path, self.onnx_sha256 = voice.path, voice.onnx_sha256
        self.config = config = voice.config
        self.sample_rate, self.language_code = config.sample_rate, config.language_code
        self.scales = config.inference.scales

    @property
    def timing_scales(self) -> tuple[float, ...]:
        # noise_w 0: every run speaks the same durations, so that runs can be compared
        return (*self.scales[:2], 0.0)

    @property
    def has_noise(self) -> bool:
        noise_scale, _, noise_w = self.scales
        return (noise_scale > 0 or noise_w > 0) and super().has_noise

    def speaker(self, asked: int | None) -> int | None:
        return speaker_of(self.config, asked)

    def utterance_ids(self, text: str) -> list[int]:
        return utterance_ids(self.config, text)

    def missing_symbols(self, texts: Sequence[str]) -> list[MissingSymbol]:
        return missing_symbols(self.config, texts)

    def language_doubt(self, language: str | None) -> list[str]:
        return language_doubt(self.config, language)

    def feed(self, ids: Sequence[int], speaker: int | None = None, noise: bool = True) -> Feed:
        return voice_feed(self.config, ids, speaker, noise)

    def open(self, graph: ModelProto | None = None) -> PairedSession:
        return PairedSession(self.path if graph is None else graph)

    def write_config(self, model: Path) -> None:
        shutil.copyfile(self.voice.config_path, f"{model}.json")

    def vits(self, what: str) -> PiperVoice:
        return self.voice


def voice_feed(config: VoiceConfig, ids: Sequence[int], speaker: int | None = None, noise: bool = True) -> Feed:
    """One utterance as the inputs of a Piper voice.

    Args:
        config: what the voice's .onnx.json says.
        ids: phoneme ids of the utterance.
        speaker: of a multi-speaker voice; None means its default (`speaker_of`).
        noise: the voice's own noise scales; False for none, which makes durations and length repeatable.
    """
    scales = config.inference.scales if noise else (0.0, config.inference.length_scale, 0.0)
    feed = {
        "input": np.asarray([ids], np.int64),
        "input_lengths": np.asarray([len(ids)], np.int64),
        "scales": np.asarray(scales, np.float32),
    }
    number = speaker_of(config, speaker)
    if number is not None:
        feed["sid"] = np.asarray([number], np.int64)
    return feed
