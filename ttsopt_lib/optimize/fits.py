"""Whether what recipes take from elsewhere is of the study's voice: looked at before the first variant is made."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder
from ttsopt_lib.optimize.finetune import check_asked, load_pruned, share_gone, with_weights
from ttsopt_lib.optimize.structured import PruningError, refuse_widths
from ttsopt_lib.optimize.student_files import load_student
from ttsopt_lib.study import Distill, PruneStructured, Study, StudyError, TtsoptError, VoiceSource, resolve
from ttsopt_lib.voices.onnx_file import model_sha256
from ttsopt_lib.voices.piper import load_piper, open_piper, packaged_voice


def check_recipes(study: Study, names: Collection[str]) -> None:
    """Read the students and fine-tuned decoders that are there, and the widths that recipes of these variants give.

    Of a Hugging Face voice only what they are, not whose: its file is made first.

    Raises:
        StudyError: one line with the variant, the file and the key.
    """
    voice = None if study.voice.huggingface else _file_of(study.voice)
    for variant in (variant for variant in study.variants if variant.name in names):
        for step in variant.recipe:
            try:
                if isinstance(step, Distill) and any(resolve(step.student).glob("*.safetensors")):
                    folder, instead = resolve(step.student), "train students of this one (ttsopt distill)"
                    _check_teacher(folder, load_student(folder)[1], voice, instead)
                elif isinstance(step, PruneStructured):
                    _check_pruned(step, voice)
            except TtsoptError as error:
                raise StudyError(f"variant {variant.name!r}: {error}") from None


def _file_of(source: VoiceSource) -> Path:
    return packaged_voice(source.package) if source.package else resolve(source.path or Path())


def _check_teacher(folder: Path, record: dict[str, Any], voice: Path | None, instead: str) -> None:
    """What was trained for one voice makes another speak with two mouths, also where all sizes are the same."""
    teacher = record.get("voice_sha256")
    if voice and teacher and teacher != (own := model_sha256(voice)):
        raise StudyError(
            f"{folder / 'record.json'}: key voice_sha256: trained for the voice {record.get('voice')!r} "
            f"({teacher[:8]}...), and this study's is {voice.name} ({own[:8]}...): {instead}, or leave the variant out"
        )


def _check_pruned(step: PruneStructured, voice: Path | None) -> None:
    if step.trained is not None and resolve(step.trained).is_dir():
        decoder, record = load_pruned(resolve(step.trained))
        _check_teacher(resolve(step.trained), record, voice, "name a new folder in 'trained', to train one of this one")
        with torch.device("meta"):  # counts, and computes nothing
            check_asked(step, HifiGanDecoder(decoder.config), decoder.to("meta"))
    elif step.decoder_widths is not None and voice is not None:
        whole = load_piper(open_piper(voice)).decoder
        if isinstance(whole, HifiGanDecoder):  # a student is refused by the step itself
            refuse_widths(whole, step.decoder_widths)
            with torch.device("meta"):
                pruned = of_widths(whole.config, step.decoder_widths)
                share = share_gone(HifiGanDecoder(whole.config), pruned, step.of)
            if share < step.amount:
                raise PruningError(
                    f"prune_structured: decoder_widths remove {share:.1%} of the {step.of}, amount asks for "
                    f"{step.amount:.0%}: make them smaller, or lower 'amount'"
                )


def of_widths(config: HifiGanConfig, widths: tuple[int, ...]) -> HifiGanDecoder:
    """A decoder without values that has these channels after the first convolution and each upsampling."""
    whole = HifiGanDecoder(config)
    new = {layer.out_channels: width for layer, width in zip((whole.conv_pre, *whole.ups), widths, strict=True)}
    weights = {}
    for name, layer in whole.named_modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            into = layer.in_channels if name in ("conv_pre", "cond") else new[layer.in_channels]
            out = layer.out_channels if name == "conv_post" else new[layer.out_channels]
            shape = (into, out) if isinstance(layer, nn.ConvTranspose1d) else (out, into)
            weights[f"{name}.weight"] = torch.empty(*shape, *layer.kernel_size)
            if layer.bias is not None:
                weights[f"{name}.bias"] = torch.empty(out)
    return with_weights(config, weights)
