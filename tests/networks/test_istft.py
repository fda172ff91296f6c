"""The inverse-STFT decoder: exact as a transform, a drop-in for a HiFi-GAN decoder, and cheap to store as ONNX."""

import numpy as np
import pytest
import torch

from ttsopt_lib.distill.decoder_speed import export_decoder
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig, inverse_dft, inverse_stft
from ttsopt_lib.voices.session import open_session

TINY = IstftDecoderConfig(latent_channels=12, channels=16, inner_channels=24, blocks=2, n_fft=64, hop=16)


def random_spectrum(frames: int, n_fft: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, frames, n_fft // 2 + 1, dtype=torch.complex64)


@pytest.fixture(scope="module")
def decoder() -> IstftDecoder:
    torch.manual_seed(1)
    decoder = IstftDecoder(TINY).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return decoder


@pytest.mark.parametrize("n_fft", [64, 1024])
def test_matrix_products_equal_the_fast_fourier_transform(n_fft: int) -> None:
    spectrum = random_spectrum(5, n_fft)
    torch.testing.assert_close(
        inverse_dft(spectrum.real, spectrum.imag, n_fft),
        torch.fft.irfft(spectrum, n=n_fft),
        atol=1e-6,
        rtol=1e-5,
    )


def test_inverse_stft_equals_torch_istft_where_four_frames_overlap() -> None:
    n_fft, hop, frames = 64, 16, 11
    spectrum = random_spectrum(frames, n_fft)
    samples = inverse_stft(spectrum.real, spectrum.imag, n_fft, hop)
    assert samples.shape == (2, 1, frames * hop)
    # torch.istft cuts half a window from the start where this cuts one and a half hops.
    reference = torch.istft(spectrum.transpose(1, 2), n_fft, hop, window=torch.hann_window(n_fft))
    ours = samples[:, 0, n_fft // 2 - (n_fft - hop) // 2 :]
    whole = slice(n_fft // 2, (frames - 4) * hop)
    torch.testing.assert_close(ours[:, whole], reference[:, whole], atol=1e-5, rtol=1e-4)


def test_speech_survives_analysis_and_synthesis() -> None:
    """Frame t is centred on sample (t + 1/2) * hop: spectra taken there give the samples back."""
    n_fft, hop, frames = 64, 16, 20
    samples = torch.randn(1, frames * hop)
    trim = (n_fft - hop) // 2
    padded = torch.nn.functional.pad(samples, (trim, trim))
    spectrum = torch.stft(padded, n_fft, hop, window=torch.hann_window(n_fft), center=False, return_complex=True)
    frames_first = spectrum.transpose(1, 2)
    back = inverse_stft(frames_first.real, frames_first.imag, n_fft, hop)
    inner = slice(2 * n_fft, -2 * n_fft)
    torch.testing.assert_close(back[0, 0, inner], samples[0, inner], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_output_has_one_hop_of_samples_per_frame(decoder: IstftDecoder, frames: int) -> None:
    assert decoder(torch.randn(2, 12, frames)).shape == (2, 1, 16 * frames)


def test_onnx_says_the_same_at_any_length(decoder: IstftDecoder) -> None:
    session = open_session(export_decoder(decoder, 12))
    for frames in (3, 81):
        z = torch.randn(1, 12, frames)
        with torch.no_grad():
            expected = decoder(z).numpy()
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(np.asarray(session.run(None, {"z": z.numpy()})[0]), expected, atol=1e-4)


def test_the_transform_costs_no_file_size() -> None:
    decoder = IstftDecoder(IstftDecoderConfig(channels=16, inner_channels=16, blocks=1))
    weights = sum(parameter.numel() for parameter in decoder.parameters()) * 4
    stored_basis = 1026 * 1024 * 4
    assert len(export_decoder(decoder, 192)) < weights + stored_basis // 50


def test_speakers_sound_different_and_must_be_named() -> None:
    torch.manual_seed(0)
    decoder = IstftDecoder(IstftDecoderConfig(12, 16, 24, 2, n_fft=64, hop=16, speaker_channels=4)).eval()
    z = torch.randn(1, 12, 9)
    one, two = (decoder(z, g) for g in torch.randn(2, 1, 4, 1))
    assert (one - two).abs().max() > 1e-5
    with pytest.raises(ValueError, match="speaker embedding"):
        decoder(z)


def test_a_decoder_without_speakers_ignores_the_embedding(decoder: IstftDecoder) -> None:
    z = torch.randn(1, 12, 9)
    assert torch.equal(decoder(z), decoder(z, torch.randn(1, 4, 1)))


def test_a_hop_that_does_not_fit_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="4 \\* hop"):
        IstftDecoderConfig(n_fft=512, hop=256)


def test_multiply_accumulates_are_those_of_the_exported_graph(decoder: IstftDecoder) -> None:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(export_decoder(decoder, 12)))
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    counted = 0
    for node in model.graph.node:
        if node.op_type == "Conv" or node.op_type == "MatMul" and node.input[1] in weights:
            counted += int(np.prod(weights[node.input[1]]))
    transform = 2 * (TINY.n_fft // 2 + 1) * TINY.n_fft // 2  # its matrices are computed, not stored
    assert counted + transform == TINY.macs_per_frame
