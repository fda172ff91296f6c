"""A student's spectra get their teacher's contrast by weights of the last layer alone."""

import copy

import numpy as np
import pytest
import torch

from ttsopt_lib.distill.contrast import bands_of, match_contrast, running_mean
from ttsopt_lib.distill.utterances import Utterance
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig

RATE = 16_000


@pytest.fixture
def decoder() -> IstftDecoder:
    torch.manual_seed(0)
    made = IstftDecoder(IstftDecoderConfig(latent_channels=8, channels=16, inner_channels=24, blocks=1)).eval()
    head = made.head
    with torch.no_grad():  # log magnitudes that move by a few nepers, as speech's do, and free factors that hardly move
        head.projection.weight[: head.bins] *= 20
        head.projection.weight[head.bins :] *= 0.1
        head.projection.bias[head.bins : 2 * head.bins] = 1.0
    return made.requires_grad_(False)


def spoken(decoder: IstftDecoder) -> list[Utterance]:
    rng = torch.Generator().manual_seed(1)
    found = []
    for _ in range(4):
        z = torch.randn(1, 8, 40, generator=rng)
        found.append(Utterance(z, z, decoder(z)[0, 0], torch.zeros(1, dtype=torch.long)))
    return found


def flattened(decoder: IstftDecoder, by: float) -> IstftDecoder:
    """The same with log magnitudes nearer to their running mean."""
    flat = copy.deepcopy(decoder)
    rows = decoder.head.projection.weight[: decoder.head.bins]
    flat.head.projection.weight[: decoder.head.bins] = rows - by * (rows - running_mean(decoder.head, RATE) @ rows)
    return flat


def test_a_flattened_student_gets_its_teachers_contrast_back(decoder: IstftDecoder) -> None:
    teacher = spoken(decoder)
    student = flattened(decoder, 0.2)
    others = {name: value.clone() for name, value in student.state_dict().items() if name != "head.projection.weight"}
    bands = match_contrast(student, lambda one: student(one.z), teacher, RATE)

    assert len(bands) == 8
    assert bands[-1]["up_to_hz"] == RATE / 2
    assert all(band["before"] < 0.93 for band in bands)
    assert all(abs(band["after"] - 1) < 0.01 for band in bands)
    assert all(band["stretch"] > 0.1 for band in bands)
    assert all(torch.equal(student.state_dict()[name], value) for name, value in others.items())
    bins = decoder.head.bins
    free = (head.projection.weight[bins:] for head in (student.head, decoder.head))
    assert torch.equal(*free)


def test_a_student_with_its_teachers_contrast_stays_as_it_is(decoder: IstftDecoder) -> None:
    student = copy.deepcopy(decoder)
    bands = match_contrast(student, lambda one: student(one.z), spoken(decoder), RATE)
    assert all(band["before"] == band["after"] == 1 and band["stretch"] == 0 for band in bands)
    assert torch.equal(student.head.projection.weight, decoder.head.projection.weight)


def test_a_broken_or_silent_pair_changes_nothing(decoder: IstftDecoder) -> None:
    teacher = spoken(decoder)
    broken = copy.deepcopy(decoder)
    broken.conv_pre.weight.fill_(torch.nan)
    kept = broken.head.projection.weight.clone()
    assert match_contrast(broken, lambda one: broken(one.z), teacher, RATE) == []
    assert torch.equal(broken.head.projection.weight, kept)

    silent = [Utterance(one.z_p, one.z, torch.zeros_like(one.samples), one.speaker) for one in teacher]
    student = copy.deepcopy(decoder)
    assert match_contrast(student, lambda one: student(one.z), silent, RATE) == []
    assert match_contrast(student, lambda one: student(one.z), [], RATE) == []
    assert torch.equal(student.head.projection.weight, decoder.head.projection.weight)


def test_bands_hold_every_bin_once(decoder: IstftDecoder) -> None:
    for rate in (RATE, 22_050, 1_500):
        assert np.array_equal(bands_of(decoder.head, rate).sum(axis=0), np.ones(decoder.head.bins))
