"""Decoders that are told more than latents: drop-ins for a HiFi-GAN decoder, the same in ONNX, and their parts."""

import math

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ttsopt_lib.networks.decoder_students import (
    COMMON_CYCLES,
    PULSE_WIDTH,
    DecoderStudent,
    KeptStageConfig,
    SourceFilterConfig,
    SourceFilterDecoder,
    new_decoder,
    pulse_train,
    spectra,
)
from ttsopt_lib.networks.hifigan import HifiGanConfig
from ttsopt_lib.optimize.student_speed import export_decoder, onnx_session

STAGE = HifiGanConfig(12, 16, (4, 4), (8, 8), 2, (3, 5), ((1, 2), (2, 6)))
KEPT = KeptStageConfig(STAGE, inner_channels=24, blocks=2)
SOURCE = SourceFilterConfig(latent_channels=12, channels=16, inner_channels=24, blocks=2, n_fft=256, hop=64)


def decoder_of(config: KeptStageConfig | SourceFilterConfig) -> DecoderStudent:
    torch.manual_seed(1)
    decoder = new_decoder(config).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return decoder


@pytest.mark.slow
@pytest.mark.parametrize("config", [KEPT, SOURCE], ids=["kept_stage", "source_filter"])
def test_onnx_says_the_same_at_any_length(config: KeptStageConfig | SourceFilterConfig) -> None:
    decoder = decoder_of(config)
    hop = 16 if config is KEPT else 64
    session = onnx_session(decoder, 12)
    for frames in (1, 3, 81):
        z = torch.randn(1, 12, frames)
        with torch.no_grad():
            expected = decoder(z).numpy()
        assert expected.shape == (1, 1, hop * frames)
        size = np.abs(expected).max()
        assert size > 0.01
        np.testing.assert_allclose(np.asarray(session.run(None, {"z": z.numpy()})[0]), expected, atol=2e-3 * size)


@pytest.mark.slow
@pytest.mark.parametrize("config", [KEPT, SOURCE], ids=["kept_stage", "source_filter"])
def test_multiply_accumulates_are_those_of_the_exported_graph(config: KeptStageConfig | SourceFilterConfig) -> None:
    frames = 50  # what the exporter runs
    model = onnx.load_from_string(export_decoder(decoder_of(config), 12))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = frames
    model = onnx.shape_inference.infer_shapes(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    rate = 4 if config is KEPT else 1
    counted = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul") or node.input[1] not in weights:
            continue
        size = int(np.prod(weights[node.input[1]]))
        # The first convolution runs at the latents' rate, and so does the one that leaves it.
        before = node.op_type == "ConvTranspose" or node.input[0] == "z"
        counted += size * (1 if before else rate)
    hop = config.hop
    transform = 2 * (2 * hop + 1) * 2 * hop * rate  # bases are computed, not stored
    if config is SOURCE:
        transform *= 2  # there and back
    assert counted + transform == config.macs_per_frame


def test_the_stage_that_is_kept_is_the_teachers() -> None:
    """Its decoder has no other first stage than a HiFi-GAN decoder of that shape."""
    decoder = decoder_of(KEPT)
    names = {name for name, _ in decoder.named_parameters() if name.startswith(("conv_pre", "ups", "resblocks"))}
    assert names == {
        f"{layer}.{part}"
        for layer in ("conv_pre", "ups.0", *(f"resblocks.{block}.convs.{conv}" for block in (0, 1) for conv in (0, 1)))
        for part in ("weight", "bias")
    }


def test_speakers_sound_different_and_must_be_named() -> None:
    stage = HifiGanConfig(12, 16, (4, 4), (8, 8), 2, (3, 5), ((1, 2), (2, 6)), speaker_channels=4)
    decoder = decoder_of(KeptStageConfig(stage, inner_channels=24, blocks=2))
    z = torch.randn(1, 12, 9)
    one, two = (decoder(z, g) for g in torch.randn(2, 1, 4, 1))
    assert (one - two).abs().max() > 1e-5
    with pytest.raises(ValueError, match="speaker embedding"):
        decoder(z)


@pytest.mark.parametrize("period", [50.0, 137.3, 400.0])
def test_pulses_come_once_a_period_with_unit_power(period: float) -> None:
    pulses = pulse_train(torch.full((1, 100), 1 / period), 256)[0]
    assert pulses.shape == (25600,)
    assert pulses.square().mean().item() == pytest.approx(1, rel=0.03)
    inner = pulses[1:-1]
    peaks = torch.nonzero((inner > pulses[:-2]) & (inner >= pulses[2:]) & (inner > 1))[:, 0]
    assert (peaks.diff().float() - period).abs().max() <= 1.0
    assert peaks.diff().float().mean().item() == pytest.approx(period, rel=0.01)


def test_a_pitch_that_moves_moves_the_pulses_without_a_jump() -> None:
    cycles = torch.linspace(0.004, 0.008, 60)[None]
    pulses = pulse_train(cycles, 256)[0]
    inner = pulses[1:-1]
    peaks = torch.nonzero((inner > pulses[:-2]) & (inner >= pulses[2:]) & (inner > 1))[:, 0]
    periods = peaks.diff().float()
    assert periods[0].item() == pytest.approx(250, abs=4) and periods[-1].item() == pytest.approx(125, abs=3)
    assert (periods.diff() <= 1).all() and (periods.diff() >= -8).all()


def test_harmonics_fall_as_the_pulses_width_says() -> None:
    spectrum = torch.fft.rfft(pulse_train(torch.full((1, 64), 1 / 128), 256)[0]).abs()
    bins = len(spectrum) - 1
    harmonic = round(PULSE_WIDTH * 128)  # whose amplitude is exp(-1/2) of the lowest ones'
    at = [round(k * 2 * bins / 128) for k in (1, harmonic)]
    assert (spectrum[at[1]] / spectrum[at[0]]).item() == pytest.approx(math.exp(-0.5), rel=0.05)


def test_a_minute_of_pulses_keeps_its_pitch() -> None:
    """A sum in float32 over so many samples would lose the last digits of the phase."""
    frames, cycles = 5200, 1 / 200.3
    pulses = pulse_train(torch.full((1, frames), cycles), 256)[0]
    inner = pulses[1:-1]
    peaks = torch.nonzero((inner > pulses[:-2]) & (inner >= pulses[2:]) & (inner > 1))[:, 0]
    assert ((peaks[-1] - peaks[0]) * cycles).item() == pytest.approx(len(peaks) - 1, abs=0.1)
    late = peaks[-200:].diff()
    assert late.min() >= 200 and late.max() <= 201


def test_spectra_are_short_time_fourier_transforms() -> None:
    samples = torch.randn(2, 30 * 64)
    real, imaginary = spectra(samples, 256, 64)
    padded = torch.nn.functional.pad(samples, (96, 96))  # frame t is centred on sample (t + 1/2) * hop
    window = torch.hann_window(256)
    expected = torch.stft(padded, 256, 64, window=window, center=False, return_complex=True).transpose(1, 2).clone()
    expected[..., [0, -1]] /= 2
    torch.testing.assert_close(torch.complex(real, imaginary), expected, atol=1e-4, rtol=1e-4)


def test_pulses_can_begin_as_loud_as_they_should() -> None:
    """Their level is the mean over harmonics and gaps: a filter that takes it away leaves a flat spectrum."""
    head = SourceFilterDecoder(SourceFilterConfig(channels=16, inner_channels=24, blocks=1)).head
    level = head.pulse_level()
    assert level.shape == (513,)
    real, imaginary = spectra(pulse_train(torch.full((1, 60), COMMON_CYCLES), 256), 1024, 256)
    power = (real.square() + imaginary.square())[0, 10:-10].mean(0) / (2 * level).exp()
    for part in power[10:300].split(58):
        assert part.mean().item() == pytest.approx(1, rel=0.25)


def test_only_the_pitch_itself_teaches_the_pitch() -> None:
    decoder = new_decoder(SOURCE)
    pitch = decoder.get_submodule("head").get_submodule("pitch")
    assert isinstance(pitch, nn.Linear)
    decoder(torch.randn(1, 12, 20)).square().sum().backward()
    assert pitch.weight.grad is None and pitch.bias.grad is None
