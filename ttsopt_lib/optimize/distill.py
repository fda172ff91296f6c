"""Distillation of a voice's decoder: the teacher speaks, a student trains on it, is published, is loaded.

One run folder holds all of it: `teacher/` (what the teacher said), `state.pt` (to go on from),
`best.safetensors` with `best.json` (the best student so far) and `record.json`. `publish_student` turns it
into what ships: weights as safetensors, sizes, record and a model card, nothing pickled. What is not done
here: the encoder, flow and duration predictor keep their teacher's weights.

    python -m ttsopt_lib.optimize.distill train VOICE.onnx CORPUS.txt RUN_FOLDER
    python -m ttsopt_lib.optimize.distill publish VOICE.onnx RUN_FOLDER models/VOICE/STUDENT
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from ttsopt_lib.measure.system import describe_system
from ttsopt_lib.networks.istft import IstftDecoder, IstftDecoderConfig
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.optimize.distill_config import DistillConfig
from ttsopt_lib.optimize.student_card import model_card
from ttsopt_lib.optimize.student_speed import decoder_speed, macs_per_frame
from ttsopt_lib.optimize.student_training import Trainer
from ttsopt_lib.optimize.student_validation import Validation
from ttsopt_lib.optimize.teacher_data import claim_folder, shard_name, speak_corpus
from ttsopt_lib.optimize.teacher_hints import hifigan_decoder
from ttsopt_lib.optimize.utterances import Utterances
from ttsopt_lib.records import atomic_folder, atomic_path, file_sha256
from ttsopt_lib.study import TtsoptError
from ttsopt_lib.voices.piper import load_piper, open_piper


class DistillError(TtsoptError, ValueError):
    """A run or a student that cannot be used. The message is one line: which file, what would be right."""


def train_decoder(
    voice_onnx: Path,
    corpus: Path,
    out: Path,
    config: DistillConfig,
    minutes: float | None = None,
    resume: bool = True,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train a student decoder for a Piper voice and return the training record.

    Args:
        voice_onnx: the teacher, with its `.onnx.json` beside it.
        corpus: text to speak, one sentence a line; the first shard of what is spoken is held out for validation.
        out: the run folder. What is complete in it is not done again.
        config: sizes, losses and schedule; the sizes that the voice decides are taken from it.
        minutes: train for about so long, on a schedule that fits (the run can go on later), and let the teacher
            speak for a quarter of it at most; None trains to the last step.
        resume: go on from the folder's `state.pt`, bit for bit; False begins anew with the same teacher data.
        start: a published student to begin a new run with, where its run folder is gone; None begins from the teacher.

    Raises:
        DistillError: if the folder's run was for another voice, corpus or student, or the corpus is too short.
    """
    voice = open_piper(voice_onnx)
    teacher = load_piper(voice)
    config = fit_to_voice(config, teacher)
    out.mkdir(parents=True, exist_ok=True)
    # One process speaks; the others wait and find everything spoken.
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        shards = teacher_shards(voice_onnx, corpus, out, config, minutes)
    if len(shards) < 2:
        raise DistillError(
            f"{corpus}: gives {len(shards)} shard of speech, and one is held out: use more lines or more hours"
        )
    data, held_out = Utterances(shards[1:]), Utterances(shards[:1])
    validation = Validation(held_out, voice.config.sample_rate, config.validation_utterances)
    origin = {
        "voice": voice.name,
        "voice_sha256": voice.onnx_sha256,
        "corpus_sha256": file_sha256(corpus),
        "teacher_utterances": len(data),
        "teacher_hours": round(len(data.audio) / voice.config.sample_rate / 3600, 3),
        "teacher_data_sha256": data.sha256(),
        "held_out_utterances": len(validation.pairs),
        "machine": describe_system().model_dump(mode="json"),
        "torch_threads": torch.get_num_threads(),
    }
    if not resume:
        for name in ("state.pt", "best.safetensors", "best.json", "record.json"):
            (out / name).unlink(missing_ok=True)
    trainer = Trainer(teacher, data, validation, out, config, origin)
    if start is not None:
        origin["started_from"] = start_from_student(trainer, start)
    if (out / "state.pt").exists():
        check_same_run(out, trainer)
        trainer.load()
    trainer.run(minutes)
    return trainer.record()


def teacher_shards(
    voice_onnx: Path, corpus: Path, out: Path, config: DistillConfig, minutes: float | None
) -> list[Path]:
    """What this run trains on: noted when it begins, so that it goes on with the same."""
    note, folder = out / "data.json", out / "teacher"
    if note.exists():
        count = json.loads(note.read_text(encoding="utf-8"))["shards"]
        shards = [folder / shard_name(number) for number in range(count)]
        if all(path.exists() for path in shards):
            claim_folder(folder, open_piper(voice_onnx), corpus, config.seed)
            return shards
    shards = speak_corpus(
        voice_onnx, corpus, folder, config.hours, config.seed, config.workers, None if minutes is None else minutes / 4
    )
    with atomic_path(note) as partial:
        partial.write_text(json.dumps({"shards": len(shards)}) + "\n", encoding="utf-8")
    return shards


def fit_to_voice(config: DistillConfig, teacher: StagedVits) -> DistillConfig:
    """The configuration with the sizes that the voice decides: its latents, its hop, its speakers."""
    shape = hifigan_decoder(teacher).config
    decoder = replace(
        config.decoder,
        latent_channels=shape.latent_channels,
        hop=shape.hop_length,
        n_fft=4 * shape.hop_length,
        speaker_channels=shape.speaker_channels,
    )
    return config.model_copy(update={"decoder": decoder})


def start_from_student(trainer: Trainer, folder: Path) -> str:
    """Put a published student's weights into a fresh trainer; returns their hash."""
    student, record = load_student(folder)
    if student.config != trainer.config.decoder:
        raise DistillError(f"{folder}: holds a student of other sizes than this run's decoder")
    trainer.student["decoder"].load_state_dict(student.state_dict())
    trainer.average.load_state_dict(student.state_dict())
    return record["weights_sha256"]


def check_same_run(out: Path, trainer: Trainer) -> None:
    """A run goes on with the student and data it began with; the schedule may change."""
    path = out / "record.json"
    if not path.exists():
        return
    before, after = json.loads(path.read_text(encoding="utf-8")), trainer.record()
    same_student = before["config"]["decoder"] == after["config"]["decoder"]
    if not same_student or before["teacher_data_sha256"] != after["teacher_data_sha256"]:
        what = "with other teacher data" if same_student else "for a student of other sizes"
        raise DistillError(f"{out}: this run began {what}; name another folder, or begin anew (--anew)")


def load_student(folder: Path) -> tuple[IstftDecoder, dict[str, Any]]:
    """A published student, ready to decode, and its training record.

    Raises:
        DistillError: if a file is missing, or weights and sizes do not belong together.
    """
    folder = Path(folder)
    for name in ("decoder.safetensors", "config.json", "record.json"):
        if not (folder / name).is_file():
            raise DistillError(
                f"{folder / name}: no such file; a student is a folder with its weights, config.json and record.json"
            )
    try:
        decoder = IstftDecoder(IstftDecoderConfig.from_json((folder / "config.json").read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise DistillError(f"{folder / 'config.json'}: {error}") from error
    try:
        weights = load_file(folder / "decoder.safetensors")
        decoder.load_state_dict({name: value.float() for name, value in weights.items()})
    except (RuntimeError, SafetensorError) as error:
        raise DistillError(
            f"{folder / 'decoder.safetensors'}: is not whole, or not of the sizes in config.json "
            f"({str(error).splitlines()[0]})"
        ) from error
    return decoder.eval(), json.loads((folder / "record.json").read_text(encoding="utf-8"))


def publish_student(voice_onnx: Path, run: Path, target: Path, measure_speed: bool = True) -> dict[str, Any]:
    """Copy the best student of a run to where it ships, whole or not at all, and return its record.

    Refuses to replace a published student of the same teacher data that validated better.
    """
    for name in ("best.safetensors", "best.json", "record.json"):
        if not (run / name).is_file():
            raise DistillError(f"{run / name}: no such file; the run has not validated yet, train it for longer")
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    record["best"] = json.loads((run / "best.json").read_text(encoding="utf-8"))
    if (target / "record.json").is_file():
        shipped = json.loads((target / "record.json").read_text(encoding="utf-8"))
        same_data = shipped["teacher_data_sha256"] == record["teacher_data_sha256"]
        if same_data and shipped["best"]["predicted_mos_change"] > record["best"]["predicted_mos_change"]:
            raise DistillError(
                f"{target}: holds a better student ({shipped['best']['predicted_mos_change']:+.3f} predicted MOS); "
                "delete it first"
            )
    decoder_config = IstftDecoderConfig(**record["config"]["decoder"])
    with atomic_folder(target) as folder:
        shutil.copyfile(run / "best.safetensors", folder / "decoder.safetensors")
        (folder / "config.json").write_text(decoder_config.to_json() + "\n", encoding="utf-8")
        (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        student, _ = load_student(folder)
        # What to expect of the speed, and (below) what came of it.
        teacher, channels = load_piper(open_piper(voice_onnx)).decoder, decoder_config.latent_channels
        record["macs_per_frame"] = {
            "teacher": macs_per_frame(teacher, channels),
            "student": decoder_config.macs_per_frame,
        }
        if measure_speed:
            record["speed"] = decoder_speed(teacher, student, channels)
        record["weights_sha256"] = file_sha256(folder / "decoder.safetensors")
        (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(record, student), encoding="utf-8")
    return record


def read_config(path: Path) -> DistillConfig:
    """A training configuration from JSON. Raises :class:`DistillError`, which names the file and the key."""
    try:
        return DistillConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DistillError(
            f"{path}: cannot be read ({error.strerror}); it should be a JSON file of settings"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "file"
        raise DistillError(f"{path}: {key}: {first['msg']}") from error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ttsopt_lib.optimize.distill", description="Distil a voice's decoder."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a student decoder, or go on with one")
    train.add_argument("voice", type=Path)
    train.add_argument("corpus", type=Path)
    train.add_argument("run", type=Path)
    train.add_argument("--config", type=Path, help="JSON file with the training configuration")
    train.add_argument("--minutes", type=float)
    train.add_argument("--threads", type=int, default=2)
    train.add_argument("--start", type=Path, help="folder of a published student to begin a new run with")
    train.add_argument("--anew", action="store_true", help="begin anew instead of going on")
    publish = commands.add_parser("publish", help="copy the best student so far to where it ships")
    publish.add_argument("voice", type=Path)
    publish.add_argument("run", type=Path)
    publish.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "train":
            torch.set_num_threads(arguments.threads)
            config = read_config(arguments.config) if arguments.config else DistillConfig()
            train_decoder(
                arguments.voice,
                arguments.corpus,
                arguments.run,
                config,
                arguments.minutes,
                not arguments.anew,
                arguments.start,
            )
        else:
            publish_student(arguments.voice, arguments.run, arguments.target)
    except TtsoptError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
