"""Magnitude pruning zeroes what it says, the smallest weights first, and nothing else."""

import pytest
import torch
from torch import nn

from ttsopt_lib.optimize.steps.prune_magnitude import prune_magnitude
from ttsopt_lib.step_settings import PruneMagnitude
from ttsopt_lib.voices.piper import load_piper, open_piper


def test_exactly_the_smallest_30_percent_of_all_weights_become_zero():
    torch.manual_seed(0)
    layers = nn.Conv1d(7, 11, 3), nn.ConvTranspose1d(11, 5, 4), nn.Linear(5, 13)
    model = nn.Sequential(*layers)
    before = torch.cat([layer.weight.detach().flatten() for layer in layers])
    count = prune_magnitude(model, 0.3)
    after = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert count == round(0.3 * before.numel())
    assert int((after == 0).sum()) == count
    assert before[after == 0].abs().max() <= before[after != 0].abs().min()
    assert torch.equal(after[after != 0], before[after != 0])


def test_the_threshold_is_one_for_the_whole_network():
    small, large = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1)
    with torch.no_grad():
        small.weight.fill_(0.001)
        large.weight.fill_(1.0)
    prune_magnitude(nn.Sequential(small, large), 0.5)
    assert not small.weight.any()
    assert large.weight.all()


def test_equal_weights_do_not_take_more_than_the_asked_share_with_them():
    model = nn.Linear(100, 100)
    with torch.no_grad():
        model.weight.fill_(0.5)
    prune_magnitude(model, 0.3)
    assert int((model.weight == 0).sum()) == 3000


def test_a_voice_keeps_its_embeddings_biases_and_norms(medium_voice):
    voice = load_piper(open_piper(medium_voice))
    before = {name: value.clone() for name, value in voice.state_dict().items()}
    prune_magnitude(voice, 0.3)
    changed = {name for name, value in voice.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.endswith(".weight") and ".emb." not in name and "norm" not in name for name in changed)


@pytest.mark.parametrize("amount", [0.0, 1.0, -0.1])
def test_an_amount_that_is_no_share_is_refused(amount):
    with pytest.raises(ValueError, match="amount\n.*(greater|less) than"):
        PruneMagnitude(step="prune_magnitude", amount=amount)


def test_a_model_without_weights_to_prune_is_refused():
    with pytest.raises(ValueError, match="no convolution, linear or recurrent layer"):
        prune_magnitude(nn.Sequential(nn.ReLU()), 0.3)
