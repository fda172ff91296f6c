"""Trainings that take seconds: small students, few steps, a corpus of a few words."""

from collections.abc import Callable
from pathlib import Path

from ttsopt_lib.distill.distillation import Distillation
from ttsopt_lib.distill.settings import DecoderSettings, DistillSettings
from ttsopt_lib.distill.train_decoder import DecoderTrainer
from ttsopt_lib.networks.istft import IstftDecoderConfig

NewTrainer = Callable[..., DecoderTrainer]

NOUNS = ["cat", "dog", "house", "tree", "boat", "river", "road", "hill"]


SENTENCES = [
    f"the {noun} was {state} and {end} again."
    for noun in NOUNS
    for state in ("red", "cold", "old", "wet")
    for end in ("lost", "found")
]


def tiny_config(**changes) -> DecoderSettings:
    decoder = IstftDecoderConfig(latent_channels=24, channels=16, inner_channels=24, blocks=2)
    settings = {
        "decoder": decoder, "batch": 2, "segment_frames": 24, "margin_frames": 4,
        "precision": "no", "warmup_steps": 2, "decay_steps": 2, "regression_steps": 2, "hint_steps": 3,
        "adversarial_steps": 4, "adversarial_batch": 2, "adversarial_frames": 8, "discriminator_channels": 2,
        "validation_utterances": 2, "validate_every": 3, "save_every": 2,
    }  # fmt: skip
    return DecoderSettings(**settings | changes)


def tiny_settings(**changes) -> DistillSettings:
    blocks = {"channels": 16, "inner_channels": 24}
    regression = {
        "steps": 6, "batch": 2, "precision": "no", "warmup_steps": 2, "decay_steps": 2, "validation_utterances": 2,
        "validate_every": 3, "save_every": 2,
    }  # fmt: skip
    text = {"lines": 40, "text_encoder": blocks | {"heads": 2, "layers": "cac"}, "durations": blocks | {"blocks": 1}}
    flow = {"segment_frames": 24, "margin_frames": 4, "flow": blocks | {"blocks": 2}}
    settings = {
        "hours": 0.02, "workers": 1, "text_encoder": regression | text, "flow": regression | flow,
        "decoder": tiny_config(), "speech": tiny_config(hint_steps=0).model_dump(),
    }  # fmt: skip
    return DistillSettings.model_validate(settings | changes)


def train_decoder(voice: Path, corpus: Path, out: Path, config: DecoderSettings, start: Path | None = None) -> dict:
    return Distillation(voice, corpus, out, tiny_settings(decoder=config)).train("decoder", start=start)
