"""Students in place of every stage: trained one by one and together, and put into a voice."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import tiny_settings

from ttsopt_lib.distill.distillation import STAGES, Distillation, fit_to_voice
from ttsopt_lib.distill.published import DistillError, publish_student
from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.distill.teacher.reading import TextData, cut_short_texts, read_corpus
from ttsopt_lib.networks.students import (
    DurationStudent,
    DurationStudentConfig,
    TextEncoderStudent,
    TextEncoderStudentConfig,
)
from ttsopt_lib.optimize.export import export_piper
from ttsopt_lib.optimize.steps.distill import replace_stages
from ttsopt_lib.voices.paired import PairedSession, prior_noise
from ttsopt_lib.voices.piper import load_piper, open_piper


@pytest.fixture(scope="module")
def whole_run(medium_voice: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every stage was trained for a few steps."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ttsopt_lib.distill.validation.SHORTEST", 0.1)
        distillation = Distillation(medium_voice, corpus, out, tiny_settings())
        for stage in STAGES:
            distillation.train(stage)
    return out


@pytest.mark.slow
def test_a_voice_of_students_speaks_like_any_other(medium_voice: Path, whole_run: Path, tmp_path: Path) -> None:
    record = publish_student(medium_voice, whole_run, tmp_path / "student", measure_speed=False)
    assert record["students"] == ["text_encoder", "duration_predictor", "flow", "decoder"]
    assert set(record["trainings"]) == {"text_encoder", "flow", "decoder"}
    model = load_piper(open_piper(medium_voice))
    teacher_size = sum(parameter.numel() for parameter in model.parameters())
    replace_stages(model, tmp_path / "student")
    assert sum(parameter.numel() for parameter in model.parameters()) == record["parameters"] < teacher_size / 3
    voice = export_piper(model, open_piper(medium_voice).config, tmp_path / "voice.onnx")
    session = PairedSession(voice)
    ids = [1, 5, 9, 12, 7, 2]
    durations = np.array([3, 2, 4, 5, 1, 2])
    made, lasted = session.speak(ids, seed=0, durations=durations)
    assert lasted.reshape(-1).tolist() == durations.tolist() and made.size == 17 * 256
    with torch.no_grad():
        wanted = model(
            torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([0.667, 1.0, 0.8]),
            prior_noise=torch.from_numpy(prior_noise(0, 24, 17))[None],
            durations=torch.from_numpy(durations).float()[None, None],
        )  # fmt: skip
    assert np.abs(made.reshape(-1) - wanted.numpy().reshape(-1)).max() < 1e-4
    # Durations of its own, from the noise: more noise, other durations.
    still, moved = (session.speak(ids, seed=0, scales=(0.667, 1.0, scale))[1] for scale in (0.0, 40.0))
    assert still.reshape(-1).tolist() != moved.reshape(-1).tolist()


def test_padding_does_not_change_what_a_student_makes_of_a_sentence() -> None:
    torch.manual_seed(0)
    encoder = TextEncoderStudent(TextEncoderStudentConfig(channels=16, inner_channels=24, heads=2, layers="cac")).eval()
    durations = DurationStudent(
        DurationStudentConfig(hidden_channels=16, channels=16, inner_channels=24, blocks=2)
    ).eval()
    ids, noise = torch.randint(1, 50, (1, 9)), torch.randn(1, 2, 9)
    for network in (encoder, durations):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    padded = torch.cat([ids, torch.full((1, 5), 7)], dim=1)
    with torch.no_grad():
        alone = encoder(ids, torch.tensor([9]))
        beside = encoder(padded, torch.tensor([9]))
        lasts = durations(alone[0], alone[3], noise)
        lasts_beside = durations(beside[0], beside[3], torch.cat([noise, torch.randn(1, 2, 5)], dim=2))
    for one, other in zip((*alone, lasts), (*beside, lasts_beside), strict=True):
        torch.testing.assert_close(other[..., :9], one, atol=1e-5, rtol=1e-4)
        assert (other[..., 9:] == 0).all()


@pytest.mark.slow
def test_text_and_flow_come_nearer_to_the_teacher(medium_voice: Path, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_settings()
    changes = {"steps": 60, "learning_rate": 3e-3, "warmup_steps": 5, "batch": 4}
    settings = settings.model_copy(
        update={
            "text_encoder": settings.text_encoder.model_copy(update=changes),
            "flow": settings.flow.model_copy(update=changes),
        }
    )
    distillation = Distillation(medium_voice, corpus, tmp_path, settings)
    text = distillation.text_trainer(tmp_path)
    losses = [text.train_step() for _ in range(60)]
    for name in ("mean", "spread", "durations"):
        early, late = (np.mean([step[name] for step in part]) for part in (losses[:5], losses[-5:]))
        assert late < 0.9 * early, name
    flow = distillation.speech_trainer("flow", tmp_path, None)
    losses = [flow.train_step()["latent_error"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_best_so_far_is_judged_anew_where_a_run_goes_on_by_another_measure(
    medium_voice: Path, corpus: Path, tmp_path: Path
) -> None:
    def best_with(steps: int, **changes: float) -> dict[str, float]:
        text = tiny_settings().text_encoder.model_copy(update={"steps": steps, "validate_every": 2, **changes})
        settings = tiny_settings().model_copy(update={"text_encoder": text})
        Distillation(medium_voice, corpus, tmp_path, settings).train("text_encoder")
        return json.loads((tmp_path / "text_encoder" / "best.json").read_text(encoding="utf-8"))

    before = best_with(4)
    heavier = best_with(4, contour_weight=100.0)
    assert heavier["text_error"] > 2 * before["text_error"] and heavier["step"] == before["step"]
    same = best_with(4, contour_weight=100.0, learning_rate=1e-5)
    assert same == heavier


@pytest.mark.slow
def test_speech_needs_flow_and_decoder_first(medium_voice: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match="train the stages flow and decoder"):
        Distillation(medium_voice, corpus, tmp_path, tiny_settings()).train("speech")


@pytest.mark.slow
def test_students_that_were_trained_further_since_are_named(
    medium_voice: Path, corpus: Path, whole_run: Path, tmp_path: Path, listener: None
) -> None:
    run = Path(shutil.copytree(whole_run, tmp_path / "run"))
    best = run / "flow" / "best.safetensors"
    best.write_bytes(best.read_bytes() + b" ")
    with pytest.warns(UserWarning, match="speech: goes on .* those of flow were trained further since"):
        Distillation(medium_voice, corpus, run, tiny_settings()).train("speech")


def test_settings_take_the_sizes_of_the_voice(multi_speaker_voice: Path) -> None:
    teacher = load_piper(open_piper(multi_speaker_voice))
    settings = fit_to_voice(DistillSettings(), teacher)
    assert teacher.speaker_embedding is not None
    width = teacher.speaker_embedding.embedding_dim
    assert settings.text_encoder.durations.speaker_channels == settings.flow.flow.speaker_channels == width
    assert settings.speech.flow == settings.flow.flow and settings.speech.decoder == settings.decoder.decoder


def test_short_texts_are_cut_from_the_lines_of_their_own_shard(
    medium_voice: Path, corpus: Path, tmp_path: Path
) -> None:
    voice = open_piper(medium_voice)
    teacher = load_piper(voice)
    counts = {}
    for share in (0.0, 0.5):
        shards = read_corpus(voice, teacher, corpus, tmp_path / str(share), 40, 0, share)
        counts[share] = [TextData([shard]).lengths for shard in shards]
    for alone, with_short in zip(counts[0.0], counts[0.5], strict=True):
        assert with_short[: len(alone)].tolist() == alone.tolist()
        short = with_short[len(alone) :]
        assert len(short) >= 0.4 * len(alone)  # of lines with two sentences the short texts are fewer
        assert np.median(short) < np.median(alone)


def test_a_short_time_reads_less_and_a_run_goes_on_with_the_same(
    medium_voice: Path, corpus: Path, tmp_path: Path
) -> None:
    voice = open_piper(medium_voice)
    teacher = load_piper(voice)
    few = read_corpus(voice, teacher, corpus, tmp_path, 40, 0, minutes=0.0)
    assert len(few) == 2, "one to learn from, and one that is held out"
    assert read_corpus(voice, teacher, corpus, tmp_path, 40, 0) == few
    assert len(read_corpus(voice, teacher, corpus, tmp_path, 60, 0)) == 4, "more lines are another question"


def test_a_short_text_is_one_to_four_words_that_stand_side_by_side() -> None:
    line = "the quick, brown fox 'jumps' over it"
    texts = cut_short_texts([line, "Yes."], 200, np.random.default_rng(0))
    assert len(texts) == 200 and len(set(texts)) > 50
    bare = line.replace(",", "").replace("'", "")
    for text in texts:
        words = text.rstrip(".!?").replace(",", "").replace("'", "")
        assert 1 <= len(words.split()) <= 4
        assert words.lower() in bare or words == "Yes"
    assert {text[-1] for text in texts} >= set(".!?") and any(text[-1].isalpha() for text in texts)
