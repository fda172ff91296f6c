"""Structured pruning removes what it says, keeps a voice a voice, and fits what remains."""

import copy
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from ttsopt_lib.distill.decoder_speed import macs_per_frame
from ttsopt_lib.distill.settings import DecoderSettings
from ttsopt_lib.optimize import finetune
from ttsopt_lib.optimize.channels import (
    PruningError,
    channel_sets,
    decoder_widths,
    latents,
    prune_structured,
    share_gone,
    times_multiplied,
    with_weights,
)
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.optimize.finetune import FinetuneError, finetune_decoder, load_pruned, prune_and_train
from ttsopt_lib.optimize.refit import refit_decoder
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import PruneStructured
from ttsopt_lib.voices.adapters.piper import voice_feed
from ttsopt_lib.voices.piper import load_piper, open_piper


def step(**settings) -> PruneStructured:
    return PruneStructured.model_validate({"step": "prune_structured", "round_to": 2, **settings})


def loaded(path) -> Any:
    """The voice in PyTorch; of type Any because its layers have no types of their own."""
    return load_piper(open_piper(path))


def feeds(path):
    return [voice_feed(open_piper(path).config, range(3, 20))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["medium", "high", "speakers"])
def test_the_asked_share_of_the_decoders_products_is_gone_and_the_voice_still_speaks(name, random_voice, tmp_path):
    path = random_voice(name)
    voice = open_piper(path)
    model = loaded(path)
    channels = model.decoder.config.latent_channels
    before = macs_per_frame(model.decoder, channels)
    pruned = prune_structured(model, step(amount=0.3), feeds(path))
    assert 1 - macs_per_frame(model.decoder, channels) / before == pytest.approx(pruned.macs, abs=1e-3)
    assert 0.3 <= pruned.macs < 0.5
    assert pruned.widths
    exported = export_piper(model, voice.config, tmp_path / "pruned.onnx")
    feed = feeds(path)[0]
    audio: Any = onnxruntime.InferenceSession(exported).run(None, feed)[0]
    assert audio.size % model.hop_length == 0 and audio.size
    again = loaded(exported)  # a pruned voice loads like any other
    assert macs_per_frame(again.decoder, channels) == macs_per_frame(model.decoder, channels)


def test_flow_and_text_encoder_lose_parameters_and_keep_what_they_hand_on(medium_voice):
    model = loaded(medium_voice)
    stages = (model.flow, model.text_encoder)
    before = sum(p.numel() for stage in stages for p in stage.parameters())
    wanted = step(stages=["flow", "text_encoder"], amount=0.2, of="parameters")
    pruned = prune_structured(model, wanted, feeds(medium_voice))
    after = sum(p.numel() for stage in stages for p in stage.parameters())
    assert 1 - after / before >= 0.2 and pruned.parameters >= 0.2
    z, _ = latents(model, feeds(medium_voice)[0], 0)
    assert z.shape[1] == model.decoder.config.latent_channels


def test_products_are_counted_as_an_utterance_is_spoken_once(plain_voice):
    model, (feed,) = loaded(plain_voice), feeds(plain_voice)
    first, last = model.text_encoder.proj, model.decoder.conv_post
    counted = times_multiplied(model, feed, [first, last])
    assert counted[first] == feed["input"].size
    assert counted[last] % model.hop_length == 0 and counted[last] > 0


def test_a_decoders_stage_is_one_set_of_channels(medium_voice):
    decoder = loaded(medium_voice).decoder.requires_grad_(True)
    sets = channel_sets(decoder)
    assert sorted(one.count for one in sets) == [4, 8, 16, 32]  # conv_pre and three stages
    names = {layer: name for name, layer in decoder.named_modules()}
    stage = next(one for one in sets if one.count == 16)
    made_by = {names[layer] for layer in stage.outputs}
    assert made_by == {"ups.0"} | {f"resblocks.{block}.convs.{conv}" for block in range(3) for conv in range(2)}


def test_the_widths_are_multiples_where_they_changed(medium_voice):
    model = loaded(medium_voice)
    pruned = prune_structured(model, step(round_to=4), feeds(medium_voice))
    assert all(after % 4 == 0 and 4 <= after < before for before, after in pruned.widths.values())


def test_given_widths_are_what_is_left_and_have_to_remove_enough(medium_voice):
    model = loaded(medium_voice)
    pruned = prune_structured(model, step(amount=0.2, decoder_widths=[32, 16, 8, 2]), feeds(medium_voice))
    assert decoder_widths(model.decoder) == [32, 16, 8, 2]
    assert all("ups.2" in name or "resblocks" in name for name in pruned.widths)
    with pytest.raises(PruningError, match="amount asks for 90%"):
        prune_structured(loaded(medium_voice), step(amount=0.9, decoder_widths=[32, 16, 8, 2]), feeds(medium_voice))


def test_more_than_can_go_is_refused(medium_voice):
    model = loaded(medium_voice)
    with pytest.raises(PruningError, match="ask for a smaller amount"):
        prune_structured(model, step(amount=0.9, round_to=16), feeds(medium_voice))


def test_channels_that_say_nothing_new_are_fitted_away(medium_voice):
    """A stage whose second half repeats its first loses the half without a trace: the rest can say all of it."""
    whole = loaded(medium_voice).decoder
    half = whole.ups[-1].out_channels // 2
    blocks = [whole.resblocks[index] for index in range(len(whole.resblocks) - 3, len(whole.resblocks))]
    with torch.no_grad():
        whole.ups[-1].weight[:, half:] = whole.ups[-1].weight[:, :half]
        whole.ups[-1].bias[half:] = whole.ups[-1].bias[:half]
        for conv in (conv for block in blocks for conv in block.convs):
            conv.weight[half:], conv.bias[half:] = conv.weight[:half], conv.bias[:half]
    weights = {name: value.clone() for name, value in whole.state_dict().items()}
    last, in_blocks = f"ups.{len(whole.ups) - 1}", tuple(f"resblocks.{number}." for number in range(6, 9))
    for name, value in weights.items():
        if name in (f"{last}.weight", "conv_post.weight"):
            weights[name] = value[:, :half]
        elif name == f"{last}.bias" or (name.startswith(in_blocks) and name.endswith("bias")):
            weights[name] = value[:half]
        elif name.startswith(in_blocks):
            weights[name] = value[:half, :half]
    student = with_weights(whole.config, weights)
    z = [torch.randn(1, whole.config.latent_channels, 40, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    kept = {f"ups.{n}": torch.arange(up.out_channels) for n, up in enumerate(whole.ups)} | {last: torch.arange(half)}
    with torch.no_grad():
        wanted = whole(z[1])
        before = (student(z[1]) - wanted).abs().max()
        refit_decoder(student, whole, kept, z[:1], [None])
        after = (student(z[1]) - wanted).abs().max()
    assert after < 0.1 * before  # half of it observed: single precision and the ridge leave that much


@pytest.mark.slow
def test_a_trained_decoder_is_put_in_and_one_that_lost_too_little_is_refused(medium_voice, tmp_path):
    model = loaded(medium_voice)
    whole = copy.deepcopy(model.decoder)
    prune_structured(model, step(), feeds(medium_voice))
    gone = share_gone(whole, model.decoder, "macs")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"a longer line number {number} of many words" for number in range(60)))
    settings = DecoderSettings(
        batch=1, segment_frames=24, margin_frames=2, precision="no", regression_steps=1,
        adversarial_steps=22, hint_steps=0, adversarial_batch=1, adversarial_frames=16, warmup_steps=1,
        validation_utterances=1, validate_every=23, save_every=23, decay_steps=0,
    )  # fmt: skip
    record = finetune_decoder(
        medium_voice, model.decoder, corpus, tmp_path / "run", tmp_path / "trained", 10.0, settings
    )
    assert record["steps"] == 23 and record["macs_per_frame"]["student"] < record["macs_per_frame"]["teacher"]
    assert "multiply-accumulates are gone" in (tmp_path / "trained" / "README.md").read_text()
    shipped, _ = load_pruned(tmp_path / "trained")
    fresh = loaded(medium_voice)
    prune_and_train(fresh, step(trained=tmp_path / "trained"), None)
    assert share_gone(whole, fresh.decoder, "macs") == pytest.approx(gone)
    z = torch.randn(1, whole.config.latent_channels, 8)
    with torch.no_grad():
        assert torch.equal(fresh.decoder(z), shipped(z))
    with pytest.raises(FinetuneError, match="decoder_widths"):
        other = step(trained=tmp_path / "trained", decoder_widths=[32, 16, 8, 3])
        prune_and_train(loaded(medium_voice), other, None)
    with pytest.raises(FinetuneError, match="lost only"):
        prune_and_train(loaded(medium_voice), step(amount=0.8, trained=tmp_path / "trained"), None)


def test_the_record_and_the_card_of_a_decoder_that_a_gpu_trained_name_the_gpu(medium_voice, tmp_path, monkeypatch):
    began = {}

    class Stopped(Exception):
        pass

    def begin(teacher, data, validation, run, settings, origin, decoder):
        began.update(origin)
        raise Stopped

    class Spoken:
        audio, pairs = range(22_050), range(1)

        def __len__(self):
            return 1

        def sha256(self):
            return "data"

    monkeypatch.setattr(finetune, "teacher_shards", lambda *_: [tmp_path, tmp_path])
    monkeypatch.setattr(finetune, "Utterances", lambda shards: Spoken())
    monkeypatch.setattr(finetune, "Validation", lambda held_out, *_: held_out)
    monkeypatch.setattr(finetune, "DecoderTrainer", begin)
    monkeypatch.setattr(finetune, "accelerator_name", lambda: "NVIDIA T4")
    with pytest.raises(Stopped):
        finetune_decoder(medium_voice, loaded(medium_voice).decoder, medium_voice, tmp_path, tmp_path / "trained", 1.0)
    assert began["machine"]["accelerator"] == "NVIDIA T4"
    figures = {"step": 1, "minutes": 1.0, "teacher_predicted_mos": 4.0, "predicted_mos_change": 0.0}
    best = figures | {"log_spectral_distance_db": 1.0}
    record = began | {"best": best, "macs_per_frame": {"teacher": 2, "student": 1}, "parameters": 1}
    assert "on\nNVIDIA T4 with " in finetune.pruned_card(record, {}, {})
    record["machine"]["accelerator"] = None
    assert f"on\n{began['torch_threads']} thread of " in finetune.pruned_card(record, {}, {})


def test_without_sentences_only_a_trained_decoder_can_be_put_in(medium_voice):
    with pytest.raises(FinetuneError, match="key: trained"):
        prune_and_train(loaded(medium_voice), step(), None)


def test_only_a_decoder_can_be_fine_tuned():
    with pytest.raises(ValueError, match="only the decoder"):
        step(stages=["flow"], trained="models/somewhere")


@pytest.mark.parametrize("name", ["record.json", "config.json"])
def test_a_damaged_file_of_a_pruned_decoder_is_one_line(name, tmp_path):
    folder = tmp_path / "pruned"
    shutil.copytree(resolve(Path("models/en_US-joe-medium/pruned-48x24")), folder)
    (folder / name).write_text("{", encoding="utf-8")
    with pytest.raises(FinetuneError, match=f"{name}: not valid JSON"):
        load_pruned(folder)
    (folder / name).write_text("{}", encoding="utf-8")
    if name == "config.json":
        with pytest.raises(FinetuneError, match="do not belong together"):
            load_pruned(folder)
