"""Training after pruning: what remains of a decoder learns again to say what the whole one says.

It is the training of a decoder's student (`distill.train_decoder`), on the same kind of data and with the same losses,
but it begins with a decoder that already knows nearly everything. So there are no hints, and a few hundred steps of
spectral regression before the discriminators come in, at half a student's learning rate. The rate falls over the last
two fifths of the time, where most is gained.

What ships is a folder: `decoder.safetensors` (float16), `config.json` (the decoder's shape, and the channels that each
layer has left), `record.json` (what it was made from, and the curve) and `README.md`.
"""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ttsopt_lib.distill.decoder_speed import macs_per_frame
from ttsopt_lib.distill.distillation import accelerator_name, teacher_shards
from ttsopt_lib.distill.model_card import FLATTERED, LICENCES, UNKNOWN_LICENCE, change_words, machine_words
from ttsopt_lib.distill.settings import DecoderSettings, DistillSettings
from ttsopt_lib.distill.train_decoder import DecoderTrainer
from ttsopt_lib.distill.utterances import Utterances
from ttsopt_lib.distill.validation import Validation
from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_folder, file_sha256
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.channels import decoder_widths, prune_structured, share_gone, with_weights
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import PruneStructured
from ttsopt_lib.text_files import read_json
from ttsopt_lib.voices.piper import load_piper, open_piper

if TYPE_CHECKING:
    from ttsopt_lib.optimize.context import BuildContext

HOURS = 4.0  # of the voice's speech, where there is time to speak them
SETTINGS = DecoderSettings(
    batch=4,
    segment_frames=56,
    learning_rate=5e-4,
    adversarial_learning_rate=4e-4,
    warmup_steps=40,
    decay_steps=4_000,
    average=0.998,
    regression_steps=250,
    hint_steps=0,
    adversarial_steps=9_000,
    validate_every=400,
    save_every=50,
)


class FinetuneError(TtsoptError, ValueError):
    """A fine-tuned decoder that cannot be used. The message is one line: which file, what would be right."""


def prune_and_train(model: StagedVits, step: PruneStructured, context: BuildContext | None) -> None:
    """The recipe step, in place: put in a decoder that was fine-tuned before, or prune and train one.

    Args:
        model: the whole voice.
        step: what is wanted; with no `trained` folder, channels are removed and nothing is trained.
        context: None where there are no sentences, so that only a trained decoder can be put in.

    Raises:
        FinetuneError: the trained decoder is not whole, of another voice, or pruned less than the step asks for.
        PruningError: so much cannot be removed.
    """
    trained = None if step.trained is None else resolve(step.trained)
    whole = copy.deepcopy(model.decoder)
    if trained is None or not trained.exists():
        if context is None:
            raise FinetuneError("prune_structured: for PyTorch it needs a decoder trained before (key: trained)")
        pruned = prune_structured(model, step, context.calibration)
        if trained is None:
            return
        warnings.warn(
            f"prune_structured: {trained} is not there: the pruned decoder is being trained for {step.minutes:g} "
            "minutes, after the time that the voice takes to speak the corpus",
            stacklevel=2,
        )
        assert isinstance(model.decoder, HifiGanDecoder)
        how = step.model_dump(mode="json", include={"amount", "of", "round_to", "decoder_widths"}) | {
            "macs_gone": round(pruned.macs, 4)
        }
        voice, work = context.voice.path, context.folder.path / "training" / trained.name
        finetune_decoder(voice, model.decoder, resolve(step.corpus), work, trained, step.minutes, pruning=how)
    decoder, _ = load_pruned(trained)
    if not isinstance(whole, HifiGanDecoder) or whole.config != decoder.config:
        raise FinetuneError(f"prune_structured: trained: {step.trained} was pruned from the decoder of another voice")
    check_asked(step, whole, decoder)
    model.decoder = decoder


def check_asked(step: PruneStructured, whole: HifiGanDecoder, decoder: HifiGanDecoder) -> None:
    """Raises `FinetuneError` where the decoder in `trained` is not what the step asks for."""
    has = decoder_widths(decoder)
    if step.decoder_widths is not None and has != list(step.decoder_widths):
        raise FinetuneError(
            f"prune_structured: decoder_widths: {step.trained} has {has}: say so, or name another folder in 'trained'"
        )
    gone = share_gone(whole, decoder, step.of)
    if gone < step.amount:
        raise FinetuneError(
            f"prune_structured: trained: {step.trained} has lost only {gone:.1%} of its {step.of}, the recipe asks "
            f"for {step.amount:.0%}: name another folder, or lower 'amount'"
        )


def finetune_decoder(
    voice_onnx: Path, decoder: HifiGanDecoder, corpus: Path, run: Path, target: Path, minutes: float,
    settings: DecoderSettings = SETTINGS, pruning: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a pruned decoder for so many minutes, put the best of it where it ships, and return the record.

    Args:
        voice_onnx: the whole voice, which teaches.
        decoder: what is left of its decoder.
        corpus: text to speak, one sentence a line; the first shard is held out for validation.
        run: where the training keeps its state, so that it goes on where it was interrupted.
        target: folder that ships.
        minutes: wall time of the training, without the time the voice takes to speak the corpus.
        settings: losses and schedule.
        pruning: what the record says about how the decoder was pruned.
    """
    voice = open_piper(voice_onnx)
    teacher = load_piper(voice)
    run.mkdir(parents=True, exist_ok=True)
    shards = teacher_shards(voice_onnx, corpus, run, DistillSettings(hours=HOURS, decoder=settings), minutes / 4)
    if len(shards) < 2:
        raise FinetuneError(f"{corpus}: gives {len(shards)} shard of speech, and one is held out: use more lines")
    data = Utterances(shards[1:])
    validation = Validation(Utterances(shards[:1]), voice.config.sample_rate, settings.validation_utterances)
    origin = {
        "voice": voice.name,
        "voice_sha256": voice.onnx_sha256,
        "corpus_sha256": file_sha256(corpus),
        "pruning": pruning or {},
        "teacher_utterances": len(data),
        "teacher_hours": round(len(data.audio) / voice.config.sample_rate / 3600, 3),
        "teacher_data_sha256": data.sha256(),
        "held_out_utterances": len(validation.pairs),
        "machine": describe_system(accelerator_name()).model_dump(mode="json"),
        "torch_threads": torch.get_num_threads(),
    }
    decoder.requires_grad_(True)
    trainer = DecoderTrainer(teacher, data, validation, run, settings, origin, decoder)
    if (run / "state.pt").exists():
        trainer.load()
    trainer.run(minutes)
    return publish_pruned(voice_onnx, run, target)


def publish_pruned(voice_onnx: Path, run: Path, target: Path) -> dict[str, Any]:
    """Copy the best decoder of a run to where it ships, whole or not at all, and return its record."""
    for name in ("best.safetensors", "best.json", "record.json"):
        if not (run / name).is_file():
            raise FinetuneError(f"{run / name}: no such file; the run has not validated yet, train it for longer")
    teacher = load_piper(open_piper(voice_onnx)).decoder
    assert isinstance(teacher, HifiGanDecoder)
    best = load_file(run / "best.safetensors")
    weights = {name.removeprefix("decoder."): weight for name, weight in best.items()}
    decoder = with_weights(teacher.config, weights)
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    record["best"] = json.loads((run / "best.json").read_text(encoding="utf-8"))
    # The sizes of an inverse-STFT student, of which this run trained none.
    record["config"].pop("decoder", None)
    channels = teacher.config.latent_channels
    record["parameters"] = sum(weight.numel() for weight in weights.values())
    record["macs_per_frame"] = {
        "teacher": macs_per_frame(teacher, channels), "student": macs_per_frame(decoder, channels)
    }  # fmt: skip
    sizes = {"decoder": asdict(teacher.config), "channels": widths(decoder)}
    with atomic_folder(target) as folder:
        save_file(weights, folder / "decoder.safetensors")
        record["weights_sha256"] = file_sha256(folder / "decoder.safetensors")
        (folder / "config.json").write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
        (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(pruned_card(record, widths(teacher), widths(decoder)), encoding="utf-8")
        load_pruned(folder)
    return record


def load_pruned(folder: Path) -> tuple[HifiGanDecoder, dict[str, Any]]:
    """A fine-tuned pruned decoder, ready to decode, and its record.

    Raises:
        FinetuneError: if a file is missing, or weights and sizes do not belong together.
    """
    for name in ("decoder.safetensors", "config.json", "record.json"):
        if not (folder / name).is_file():
            raise FinetuneError(
                f"{folder / name}: no such file; a pruned decoder is a folder with weights, config.json and record.json"
            )
    sizes, record = (read_json(folder / name, FinetuneError) for name in ("config.json", "record.json"))
    try:
        shape = HifiGanConfig.from_lists(**sizes["decoder"])
        decoder = with_weights(shape, load_file(folder / "decoder.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise FinetuneError(
            f"{folder}: weights and config.json are not whole, or do not belong together ({str(error).splitlines()[0]})"
        ) from error
    if widths(decoder) != sizes.get("channels"):
        raise FinetuneError(f"{folder}: config.json: channels: not those of decoder.safetensors")
    return decoder.eval(), record


def widths(decoder: HifiGanDecoder) -> dict[str, int]:
    """Output channels of every layer."""
    layers = (nn.Conv1d, nn.ConvTranspose1d)
    return {name: layer.out_channels for name, layer in decoder.named_modules() if isinstance(layer, layers)}


def pruned_card(record: dict[str, Any], before: dict[str, int], after: dict[str, int]) -> str:
    """The model card, Markdown."""
    best, macs, machine = record["best"], record["macs_per_frame"], record["machine"]
    where = f"{record['torch_threads']} thread of {machine['cpu']}"
    where = machine_words(machine) if machine.get("accelerator") else where
    stages = [name for name in before if name == "conv_pre" or name.startswith("ups.")]
    sizes = "\n".join(f"| `{name}` | {before[name]} | {after[name]} |" for name in stages)
    above = ""
    if "level_above_8khz_change_db" in best:
        above = f"| level above 8 kHz against the whole decoder | {best['level_above_8khz_change_db']:+.1f} dB |\n"
    return f"""# Pruned decoder for {record["voice"]}

The HiFi-GAN decoder of the Piper voice `{record["voice"]}` with fewer channels, and trained to say the same:
{1 - macs["student"] / macs["teacher"]:.1%} of its multiply-accumulates are gone ({macs["student"] / 1e6:.2f} M a frame
instead of {macs["teacher"] / 1e6:.2f} M). {record["parameters"] / 1e6:.2f} M parameters, stored as float16.

| channels after | before | now |
|---|---|---|
{sizes}

## Data and training

{record["teacher_hours"]:.2f} hours that the whole voice itself spoke ({record["teacher_utterances"]} utterances): no
recording was used. Channels were chosen by Fisher information, the remaining weights fitted by least squares, then
trained for {best["step"]} steps, {best["minutes"]:.0f} minutes of wall time on
{where}, by the recipe in `docs/optimizing.md`. Hashes and the curve are in `record.json`.

## Results

On {record["held_out_utterances"]} utterances that were held out; both decoders were given the same latents.
{FLATTERED}

| | |
|---|---|
| predicted MOS of the whole decoder (DistillMOS) | {best["teacher_predicted_mos"]:.2f} |
| change of predicted MOS | {change_words(record, "predicted_mos_change")} |
| log-spectral distance | {best["log_spectral_distance_db"]:.1f} dB |
{above}
A predicted MOS is what a network guesses listeners would say; no listener rated this decoder.

## Licence

{LICENCES.get(record["voice"], UNKNOWN_LICENCE)}
"""
