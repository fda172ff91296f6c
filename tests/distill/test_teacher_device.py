"""The teacher on a GPU that is pretended: the same speech and the same reading, each part where it belongs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_device import pretended_gpu
from safetensors.numpy import load_file

from ttsopt_lib.distill.distillation import fit_to_voice
from ttsopt_lib.distill.estimate import estimate_training
from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.distill.teacher.device import in_float32, speaking_teacher, speaking_workers
from ttsopt_lib.distill.teacher.reading import TextData, encoded, read_corpus
from ttsopt_lib.distill.teacher.speech import sentences_of, speak, speak_corpus, write_shard
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.voices.piper import load_piper, open_piper

GPU = torch.device("cuda")


@pytest.mark.parametrize("kind", ["medium_voice", "multi_speaker_voice", "plain_voice"])
def test_a_processor_speaks_what_the_formula_says_bit_for_bit(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    voice = open_piper(request.getfixturevalue(kind))
    lines = {4: "the cat was red and lost again. A road!", 9: "yes."}
    write_shard(voice.path, voice.onnx_sha256, lines, 3, tmp_path / "shard.safetensors")
    network, rows = load_piper(voice), []
    noise_scale, length_scale, noise_w = voice.config.inference.scales
    for number, line in lines.items():
        for part, ids in enumerate(sentences_of(voice, line)):
            rng = np.random.default_rng([3, number, part])
            speaker = int(rng.integers(voice.config.num_speakers)) if voice.config.num_speakers > 1 else 0
            duration_noise = torch.from_numpy(rng.standard_normal((1, 2, len(ids)), dtype=np.float32))
            with torch.inference_mode():
                g = network.speaker(torch.tensor([speaker]))
                hidden, mean, log_std, mask = network.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
                lasting = network.durations(hidden, mask, duration_noise, length_scale, noise_w, g)
                mean, log_std, mask = network.expand(mean, log_std, lasting)
                noise = torch.from_numpy(rng.standard_normal(tuple(mean.shape), dtype=np.float32))
                z_p = mean + noise * log_std.exp() * noise_scale
                z = network.flow_inverse(z_p, mask, g)
                rows.append((z_p, z, network.decode(z, g)[0, 0].numpy(), speaker))
    found = load_file(tmp_path / "shard.safetensors")
    assert len(rows) == 3 and found["speaker"].tolist() == [speaker for *_, speaker in rows]
    assert found["frames"].tolist() == [z.shape[-1] for _, z, _, _ in rows]
    for place, name in enumerate(("z_p", "z")):
        wanted = np.concatenate([row[place][0].T.numpy().astype(np.float16) for row in rows])
        assert found[name].tobytes() == np.ascontiguousarray(wanted).tobytes(), name
    samples = np.concatenate([row[2] for row in rows])
    assert found["audio"].tobytes() == np.clip(np.round(samples * 32767), -32767, 32767).astype(np.int16).tobytes()


@pytest.mark.parametrize("kind", ["medium_voice", "multi_speaker_voice"])
def test_on_a_gpu_the_same_is_said(kind: str, request: pytest.FixtureRequest, corpus: Path, tmp_path: Path) -> None:
    """Byte for byte, because what is pretended rounds as a processor does."""
    voice = request.getfixturevalue(kind)
    wanted = speak_corpus(voice, corpus, tmp_path / "here", hours=1e-6, workers=1)
    with pretended_gpu() as gpu:
        found = speak_corpus(voice, corpus, tmp_path / "there", hours=1e-6, workers=1)
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in wanted]
    assert gpu.launched["conv_transpose1d"] > 20, "the decoder is there"
    assert not gpu.launched.keys() & {"embedding", "layer_norm", "ceil"}, "what decides the durations is not"


def test_flow_and_decoder_alone_are_on_the_gpu(multi_speaker_voice: Path) -> None:
    voice = open_piper(multi_speaker_voice)
    with pretended_gpu() as gpu:
        teacher = speaking_teacher(voice, GPU)
        there = {name.partition(".")[0] for name, value in teacher.named_parameters() if value.device == GPU}
        gpu.launched.clear()
        made = speak(voice, teacher, sentences_of(voice, "the cat was red.")[0], np.random.default_rng(0))
    assert there == {"flow", "decoder"}
    assert gpu.launched["conv1d"] > 10 and all(isinstance(array, np.ndarray) for array in made.values())


def test_on_a_gpu_the_same_is_read_in_batches(
    medium_voice: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the rounding of float16: sums over a batch may run in another order."""
    monkeypatch.setattr("ttsopt_lib.distill.teacher.reading.READ_TOGETHER", 5)
    voice = open_piper(medium_voice)
    wanted = TextData(read_corpus(voice, load_piper(voice), corpus, tmp_path / "here", 60, 0, 0.5))
    teacher = load_piper(voice)
    with pretended_gpu() as gpu:
        shards = read_corpus(voice, teacher, corpus, tmp_path / "there", 60, 0, 0.5)
        assert {value.device for value in teacher.parameters()} == {GPU}
    found = TextData(shards)
    assert len(wanted) / 5 <= gpu.launched["embedding"] <= len(wanted) / 5 + len(shards)
    assert found.lengths.tolist() == wanted.lengths.tolist() and len(set(found.lengths.tolist())) > 5
    assert found.columns["ids"].tolist() == wanted.columns["ids"].tolist()
    for name in ("hidden", "mean", "log_std"):
        one, other = (data.columns[name].astype(np.float32) for data in (found, wanted))
        assert (np.abs(one - other) <= 2**-10 * np.abs(other) + 1e-5).all(), name
    assert not any(value.is_inference() for value in teacher.parameters()), "what comes next trains with it"


def test_a_processor_reads_bit_for_bit_as_it_did_one_by_one(medium_voice: Path) -> None:
    voice = open_piper(medium_voice)
    teacher = load_piper(voice)
    lines = ("the cat was red and lost again.", "yes.", "the road was old.")
    sentences = [ids for line in lines for ids in sentences_of(voice, line)]
    for ids, found in zip(sentences, encoded(teacher, sentences), strict=True):
        with torch.inference_mode():
            hidden, mean, log_std, _ = teacher.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
        for name, value in (("hidden", hidden), ("mean", mean), ("log_std", log_std)):
            wanted = value[0].T.numpy().astype(np.float16)
            assert found[name].shape == wanted.shape and found[name].tobytes() == np.ascontiguousarray(wanted).tobytes()


@pytest.mark.parametrize("before", ["highest", "high"])
def test_tf32_is_off_while_the_teacher_computes_and_then_as_before(before: str) -> None:
    def state() -> tuple:
        backends = torch.backends
        matmul, conv = backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
        return matmul, conv, backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()

    try:
        torch.set_float32_matmul_precision(before)
        at_first = state()
        with in_float32(torch.device("cpu")):
            assert state() == at_first
        with pytest.raises(ZeroDivisionError), in_float32(GPU):
            assert state() == ("ieee", "ieee", False, "highest")
            _ = 1 / 0
        assert state() == at_first and at_first[1] == "tf32", "PyTorch's own default for convolutions"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_on_a_gpu_half_of_the_cores_speak(multi_speaker_voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttsopt_lib.distill.teacher.device.cpu_count", lambda: 16)
    nothing_asked = fit_to_voice(DistillSettings(hours=1.0), load_piper(open_piper(multi_speaker_voice)))
    two = DistillSettings(workers=2)
    assert speaking_workers(nothing_asked) == speaking_workers(two) == 2
    with pretended_gpu():
        assert speaking_workers(nothing_asked) == 8 and speaking_workers(two) == 2
    with pretended_gpu(free_gb=5.0):
        assert speaking_workers(nothing_asked) == 3
    with pretended_gpu(free_gb=0.5):
        assert speaking_workers(nothing_asked) == 1
    monkeypatch.setattr("ttsopt_lib.distill.teacher.device.cpu_count", lambda: 2)
    with pretended_gpu():
        assert speaking_workers(nothing_asked) == 2


def test_the_estimate_lets_the_teacher_speak_where_it_will(medium_voice: Path, corpus: Path, tmp_path: Path) -> None:
    sentences = {"file": str(corpus), "start": 0, "count": 2}
    study = Study.model_validate(
        {
            "name": "random",
            "voice": {"path": str(medium_voice)},
            "variants": [{"name": "fp32"}],
            "sentences": {
                "evaluation": sentences,
                "calibration": sentences | {"start": 4},
                "timing": {"short": ["Yes."]},
                "listening": ["Yes."],
            },
            "evaluate": {"wer_sentences": 2},
            "training": {"student": tmp_path / "student", "corpus": corpus, "minutes": 1.0},
        }
    )
    with pretended_gpu() as gpu:
        found = estimate_training(study, StudyFolder(study, tmp_path / "reports"))
    assert found.accelerator == "pretended GPU" and found.expected is None and found.hours > 0
    assert gpu.launched["conv_transpose1d"] > 0


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    with pretended_gpu():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        linear = torch.nn.Linear(3, 2).to("cuda")
        assert linear(there).device == GPU and (there + torch.tensor(1.0)).cpu().numpy().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="same device"):
            linear(here)
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([there, here])
        with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\) first"):
            there.numpy()
