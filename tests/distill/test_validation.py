"""What a student's validation says of few utterances, without a voice."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ttsopt_lib.distill import validation
from ttsopt_lib.distill.model_card import change_words


@pytest.mark.parametrize("count", [1, 3])
def test_one_utterance_has_no_standard_error(count, monkeypatch):
    monkeypatch.setattr(validation, "missing_pitch_tracker", lambda: "not here")
    level = SimpleNamespace(score=lambda samples: float(np.abs(samples).mean()))
    monkeypatch.setattr(validation, "load_predictor", lambda name: level)
    judge: Any = object.__new__(validation.Validation)
    generator = torch.Generator().manual_seed(0)
    judge.pairs = [SimpleNamespace(samples=0.1 * torch.randn(22050, generator=generator)) for _ in range(count)]
    judge.sample_rate, judge.teacher_mos, judge.teacher_f0 = 22050, {}, []
    monkeypatch.setattr(judge, "outputs", lambda *_: [0.5 * pair.samples[None, None] for pair in judge.pairs])
    best = judge.score(lambda *_: torch.empty(0), SimpleNamespace())
    said = change_words({"best": best, "held_out_utterances": count}, "predicted_mos_change")
    assert ("predicted_mos_change_standard_error" in best) == ("standard error 0." in said) == (count > 1)
    assert ("of one utterance" in said) == (count == 1)
