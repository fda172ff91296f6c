"""Small voices as graphs, made once per run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

from ttsopt_lib.optimize.graph.index import copy_named
from ttsopt_lib.optimize.steps.quantize_dynamic import quantize_dynamic
from ttsopt_lib.optimize.steps.quantize_weights import quantize_weights
from ttsopt_lib.optimize.steps.rearrange_decoder import rearrange_decoder
from ttsopt_lib.step_settings import QuantizeDynamic, QuantizeWeights
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.piper import open_piper


class InFourBits(NamedTuple):
    """The voice with int8 products of 4 bits, the same with all weights of 4 bits, and what calibrated both."""

    products: onnx.ModelProto
    voice: onnx.ModelProto
    sentences: list[dict[str, Any]]


@pytest.fixture(scope="session")
def in_four_bits(medium_voice: Path, exported: Callable[[str], Path]) -> InFourBits:
    """A small random voice with int8 products and weights of 4 bits; no test changes it."""
    config, random = open_piper(medium_voice).config, np.random.default_rng(0)
    sentences = [voice_feed(config, random.integers(3, config.num_symbols, 60).tolist()) for _ in range(12)]
    step = QuantizeDynamic(step="quantize_dynamic", bits=4)
    products = quantize_dynamic(onnx.load(exported("medium")), step, sentences)
    voice = quantize_weights(products, QuantizeWeights(step="quantize_weights", bits=4), sentences)
    return InFourBits(products, voice, sentences)


class Searched(NamedTuple):
    """What a search begins with: a voice in float32, utterances, and the sample rate."""

    model: onnx.ModelProto
    feeds: list[dict[str, Any]]
    rate: int


@pytest.fixture(scope="session")
def tiny(plain_voice: Path, exported: Callable[[str], Path]) -> Searched:
    """A small random voice with a rearranged decoder, and an utterance; no test changes it."""
    config = open_piper(plain_voice).config
    model = copy_named(rearrange_decoder(onnx.load(exported("plain"))))
    return Searched(model, [voice_feed(config, list(range(3, 30)))], config.sample_rate)
