"""What a student's errors cost: spectra, bands, durations."""

import math

import pytest
import torch
from torch import Tensor

from ttsopt_lib.distill.losses import band_edges, power_loss, spectral_loss
from ttsopt_lib.distill.settings import TextSettings
from ttsopt_lib.distill.teacher.reading import Sentences
from ttsopt_lib.distill.train_text import CONTOUR_PHONEMES, text_error, text_losses


def test_spectral_loss_is_zero_only_for_the_same_samples_and_hears_phase() -> None:
    torch.manual_seed(0)
    teacher = 0.1 * torch.randn(2, 8192)
    same = spectral_loss(teacher.clone(), teacher)
    assert same["log_magnitude"] < 1e-5 and same["complex"] < 1e-5
    flipped = spectral_loss(-teacher, teacher)
    assert flipped["log_magnitude"] < 1e-5 and flipped["complex"] > 1


def test_digital_silence_has_finite_gradients() -> None:
    student = torch.zeros(1, 8192, requires_grad=True)
    terms = spectral_loss(student, torch.zeros(1, 8192))
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), student)
    assert torch.isfinite(gradient).all()


def test_power_is_right_at_the_teachers_level_whatever_the_samples() -> None:
    """Where a student cannot foresee the samples: complex spectra are nearest too quiet, powers at the same level."""
    torch.manual_seed(0)
    teacher, student = 0.1 * torch.randn(2, 4, 40_000)
    powers, complexes = (
        [float(loss(level * student, teacher)) for level in (0.5, 0.8, 1.0, 1.25, 2.0)]
        for loss in (power_loss, lambda s, t: spectral_loss(s, t)["complex"])
    )
    assert powers.index(min(powers)) == 2 and complexes.index(min(complexes)) == 0
    assert powers[4] == pytest.approx(math.log(2), rel=0.1)
    assert float(power_loss(teacher, teacher)) == 0


@pytest.mark.parametrize("bins", [33, 257])
def test_bands_share_out_all_bins(bins: int) -> None:
    bands = band_edges(bins, 24)
    assert bands.shape == (24, bins) and (bands.sum(0) == 1).all() and (bands.sum(1) >= 1).all()


ZERO = torch.zeros(2, 3, 40)


def two_sentences(frames: float) -> tuple[Sentences, Tensor, Tensor]:
    """A batch whose second sentence is padded, the log frames [2, 1, 40] that its teacher wants, and its mask."""
    lengths = torch.tensor([40, 25])
    batch = Sentences(torch.ones(2, 40, dtype=torch.int64), lengths, ZERO, ZERO, ZERO)
    mask = (torch.arange(40) < lengths[:, None]).float()[:, None]
    return batch, torch.full((2, 1, 40), math.log(frames)), mask


def test_an_error_that_a_phrase_shares_costs_more_than_the_same_here_and_there() -> None:
    batch, wanted, mask = two_sentences(frames=3.0)
    signs = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0).expand(2, 3, 40)
    shared, scattered = (
        text_losses(batch, wanted, mean * mask, ZERO, wanted, mask)
        for mean in (torch.full_like(ZERO, 0.1), 0.1 * signs)
    )
    torch.testing.assert_close(shared["mean"], scattered["mean"])
    assert shared["mean"] == pytest.approx(0.01)
    # An average over n frames has a standard deviation of one n-th root: 0.1 over 15 phonemes of 3 frames is 0.45.
    assert 0.3 < shared["contour"] <= 0.01 * CONTOUR_PHONEMES * 3
    assert scattered["contour"] < 0.01
    assert text_error(shared, TextSettings()) > text_error(scattered, TextSettings())
    assert text_error(shared, TextSettings(contour_weight=0)) == pytest.approx(
        float(text_error(scattered, TextSettings(contour_weight=0)))
    )


def test_padding_costs_nothing() -> None:
    batch, wanted, mask = two_sentences(frames=3.0)
    for terms in (
        text_losses(batch, wanted, (ZERO + 1) * (1 - mask), ZERO, wanted, mask),
        text_losses(batch, wanted, ZERO, ZERO, wanted * mask, mask),
    ):
        assert {name: float(value) for name, value in terms.items()} == dict.fromkeys(terms, 0.0)


def test_length_is_counted_in_whole_frames_and_can_be_learned() -> None:
    batch, wanted, mask = two_sentences(frames=1.2)  # spoken as two
    same = text_losses(batch, wanted, ZERO, ZERO, torch.full_like(wanted, math.log(1.9)), mask)
    assert same["length"] == 0 and same["durations"] > 0
    shorter = torch.full_like(wanted, math.log(0.9)).requires_grad_(True)
    length = text_losses(batch, wanted, ZERO, ZERO, shorter, mask)["length"]
    assert float(length.detach()) == pytest.approx(0.25)  # one frame for two
    (gradient,) = torch.autograd.grad(length, shorter)
    assert (gradient[mask > 0] < 0).all() and (gradient[mask == 0] == 0).all()
