"""Sizes of a VITS voice, as its file says them; the networks take theirs from here."""

from __future__ import annotations

from dataclasses import dataclass

from ttsopt_lib.networks.hifigan import HifiGanConfig


@dataclass(frozen=True)
class VitsConfig:
    """Shape of a VITS voice.

    Attributes:
        speaker_channels: width of the speaker embedding, 0 for a single-speaker voice.
        encoder_inner: channels inside the feed-forward layers of the text encoder.
        window: the largest distance of two phonemes that has an embedding of its own.
        duration_inner: channels of the deterministic duration predictor.
        duration_couplings: positions of the couplings among the flows of the stochastic one, as the reference code
            counts them.
        duration_bins, duration_bound: of its splines, which bend [-bound, bound].
    """

    symbols: int
    speakers: int
    speaker_channels: int
    latent_channels: int
    hidden_channels: int
    encoder_inner: int
    encoder_kernel: int
    encoder_layers: int
    heads: int
    head_channels: int
    window: int
    flow_couplings: int
    flow_kernel: int
    flow_dilations: tuple[int, ...]
    flow_channels: int
    stochastic_durations: bool
    duration_kernel: int
    decoder: HifiGanConfig
    duration_inner: int = 256
    duration_layers: int = 3
    duration_couplings: tuple[int, ...] = (3, 5, 7)
    duration_bins: int = 10
    duration_bound: float = 5.0
    attention_bias: bool = True
