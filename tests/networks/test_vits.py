"""The staged VITS model."""

import pytest
import torch
from torch import nn
from transformers.models.vits.modeling_vits import VitsAttention, _unconstrained_rational_quadratic_spline

from ttsopt_lib.networks.durations import inverse_spline
from ttsopt_lib.networks.text_encoder import band_to_square, square_to_band
from ttsopt_lib.voices.piper import load_piper, open_piper

QUIET = torch.tensor([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def model(medium_voice):
    return load_piper(open_piper(medium_voice))


def test_forward_is_its_stages(model):
    ids, lengths = torch.randint(0, 40, (1, 20)), torch.tensor([20])
    with torch.inference_mode():
        hidden, mean, log_std, mask = model.encode(ids, lengths)
        durations = model.durations(hidden, mask, noise_w=0.0)
        assert hidden.shape == (1, 32, 20)
        assert mean.shape == log_std.shape == (1, 24, 20)
        assert durations.shape == mask.shape == (1, 1, 20)
        assert torch.equal(durations, durations.round())
        mean, log_std, frame_mask = model.expand(mean, log_std, durations)
        frames = int(durations.sum())
        assert mean.shape == (1, 24, frames)
        waveform = model.decode(model.flow_inverse(mean, frame_mask))
        assert waveform.shape == (1, 1, 256 * frames)
        assert torch.equal(model(ids, lengths, QUIET)[:, 0], waveform)


def test_speech_without_frames_is_one_frame(model):
    ids = torch.randint(0, 40, (1, 3))
    with torch.inference_mode():
        waveform = model(ids, torch.tensor([3]), QUIET, durations=torch.zeros(1, 1, 3))
    assert waveform.shape == (1, 1, 1, 256)


def test_each_frame_has_its_phonemes_prior_and_those_behind_the_end_have_none(model):
    durations = torch.tensor([[[2.0, 0.0, 3.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])
    mean, log_std = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    found = model.expand(mean, log_std, durations)
    for row, frames in enumerate((6, 2)):
        for part, priors in zip(found, (mean, log_std), strict=False):
            expected = priors[row].repeat_interleave(durations[row, 0].long(), dim=-1)
            assert torch.equal(part[row, :, :frames], expected) and not part[row, :, frames:].any()
        assert found[2][row, 0].tolist() == [1.0] * frames + [0.0] * (6 - frames)


def test_batch_speaks_like_its_rows_alone(model):
    ids = torch.randint(1, 40, (2, 30))
    lengths = torch.tensor([30, 11])
    with torch.inference_mode():
        together = model(ids, lengths, QUIET)
        for row, length in enumerate(lengths.tolist()):
            alone = model(ids[row : row + 1, :length], torch.tensor([length]), QUIET)
            # The decoder looks a few frames ahead, into the padding of a shorter row, so its end may differ.
            end = alone.shape[-1] - 20 * 256 if row else alone.shape[-1]
            assert torch.allclose(together[row, ..., :end], alone[0, ..., :end], atol=1e-5)


def test_voice_with_speakers_asks_for_one(multi_speaker_voice):
    voice = load_piper(open_piper(multi_speaker_voice))
    with pytest.raises(ValueError, match="has 3 speakers: give sid, a number from 0 to 2"):
        voice(torch.tensor([[1]]), torch.tensor([1]), QUIET)


def test_decoder_can_be_replaced(medium_voice):
    class Student(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv1d(24, 256, 1)

        def forward(self, z, g=None):
            return self.head(z).transpose(1, 2).reshape(z.shape[0], 1, -1)

    voice = load_piper(open_piper(medium_voice))
    ids, lengths = torch.randint(0, 40, (1, 12)), torch.tensor([12])
    with torch.inference_mode():
        before = voice(ids, lengths, QUIET)
        voice.decoder = Student()
        assert voice(ids, lengths, QUIET).shape == before.shape


@pytest.mark.parametrize("time", [1, 2, 4, 5, 9])
def test_relative_positions_are_moved_as_transformers_moves_them(time):
    window = 3
    band = torch.randn(2, 4, time, 2 * window + 1)
    zeros = torch.zeros(2, 4, time, time)
    square = band_to_square(band, zeros, window)
    for i in range(time):
        for j in range(time):
            near = abs(i - j) <= window
            expected = band[:, :, i, j - i + window] if near else torch.zeros(2, 4)
            assert torch.equal(square[:, :, i, j], expected)
    # The way back keeps what lies within the text.
    kept = square_to_band(square, zeros, window)
    assert torch.equal(band_to_square(kept, zeros, window), square)
    theirs = VitsAttention._absolute_position_to_relative_position
    assert kept.abs().sum().isclose(theirs(None, square.flatten(0, 1)).abs().sum(), rtol=1e-5)  # type: ignore[arg-type]


def test_spline_equals_transformers_inside_and_outside_its_interval():
    torch.manual_seed(0)
    y = torch.cat([torch.linspace(-7, 7, 57), torch.tensor([-5.0, 5.0, 0.0])])[None, None]
    widths, heights, slopes = (torch.randn(1, 1, 60, bins) for bins in (10, 10, 9))
    expected, _ = _unconstrained_rational_quadratic_spline(y, widths, heights, slopes, reverse=True)
    assert torch.allclose(inverse_spline(y, widths, heights, slopes, 10, 5.0), expected, atol=1e-6)
