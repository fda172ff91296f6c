"""Distillation of a voice: the teacher speaks and reads, students of its stages train on it.

One run folder holds all of it: `teacher/` (what the teacher said), `text/` (what its text encoder made of the
corpus) and one folder for each training, which can be stopped and goes on from its `state.pt`:

- `text_encoder`: students of the text encoder and the duration predictor;
- `flow`: a student of the flow;
- `decoder`: a student of the decoder, given the teacher's latents;
- `speech`: flow and decoder together, from where the two trainings above left them, given samples of the prior.

All are given what the teacher's own earlier stages made: what the teacher said is a function of that,
and of nothing that a student of an earlier stage makes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import PartialState
from safetensors.torch import load_file

from ttsopt_lib.distill.published import KINDS, WEIGHTS, DistillError, load_student
from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.distill.teacher.device import speaking_workers
from ttsopt_lib.distill.teacher.hints import hifigan_decoder
from ttsopt_lib.distill.teacher.reading import TextData, read_corpus
from ttsopt_lib.distill.teacher.speech import claim_folder, shard_name, speak_corpus
from ttsopt_lib.distill.train_decoder import DecoderTrainer
from ttsopt_lib.distill.train_flow import FlowTrainer
from ttsopt_lib.distill.train_text import TextTrainer
from ttsopt_lib.distill.training_run import TrainingRun
from ttsopt_lib.distill.utterances import Utterances
from ttsopt_lib.distill.validation import Validation
from ttsopt_lib.files import atomic_path, file_sha256
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.networks.coupling import Flip
from ttsopt_lib.networks.durations import DurationPredictor
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.paths import resolve
from ttsopt_lib.voices.piper import PiperVoice, load_piper, open_piper

Stage = Literal["text_encoder", "flow", "decoder", "speech"]
STAGES: tuple[Stage, ...] = get_args(Stage)
STUDENTS: dict[Stage, tuple[str, ...]] = {
    "text_encoder": ("text_encoder", "duration_predictor"),
    "flow": ("flow",),
    "decoder": ("decoder",),
    "speech": ("flow", "decoder"),
}
"""Whose weights each training ships."""

LONGEST_WAIT = timedelta(hours=12)  # of the processes that wait for the one that speaks
LEAST_SHARE = 0.5
"""Of a new student's weights, which another voice's students must have in its sizes to be a better beginning."""


class Distillation:
    """A voice, a corpus and a run folder. Each training is a method's work; what is complete is not done again."""

    def __init__(
        self,
        voice_onnx: Path,
        corpus: Path,
        out: Path,
        settings: DistillSettings | None = None,
        speaking_minutes: float | None = None,
        dask: str | None = None,
    ):
        """`speaking_minutes`: how long the teacher may speak before the first training that hears it; None for a
        quarter of that training's own time. `dask`: a scheduler whose workers speak in place of this machine's cores.
        """
        self.voice_onnx, self.corpus, self.out = voice_onnx, corpus, out
        self.speaking_minutes, self.dask = speaking_minutes, dask
        self.voice: PiperVoice = open_piper(voice_onnx)
        self.teacher = load_piper(self.voice)
        self.settings = fit_to_voice(settings or DistillSettings(), self.teacher)
        out.mkdir(parents=True, exist_ok=True)

    def train(
        self,
        stage: Stage,
        minutes: float | None = None,
        resume: bool = True,
        start: Path | None = None,
        similar: Path | None = None,
    ) -> dict[str, Any]:
        """Train the students of one stage and return the training record.

        Args:
            stage: which.
            minutes: train for about so long, on a schedule that fits (the run can go on later); None trains to the
                last step.
            resume: go on from `state.pt`, on a processor bit for bit; False begins anew with the same teacher data.
            start: a published student to begin a new run with, where its run folder is gone; None begins from the
                teacher (`speech`: from the best of the run's own `flow` and `decoder`).
            similar: published students of another voice. A new run of the text encoder, the flow or the decoder begins
                with those of their weights that have its own sizes.

        Raises:
            DistillError: if the folder's run was for another voice, corpus or student, or the corpus is too short.
        """
        folder = self.out / stage
        folder.mkdir(exist_ok=True)
        if not resume:
            for name in ("state.pt", "best.safetensors", "best.json", "record.json"):
                (folder / name).unlink(missing_ok=True)
        trainer = (
            self.text_trainer(folder, minutes)
            if stage == "text_encoder"
            else self.speech_trainer(stage, folder, minutes)
        )
        if (folder / "state.pt").exists():
            path = folder / "record.json"
            before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            check_same_run(before, trainer)
            trainer.load()
            began = ("started_from", "started_from_minutes", "began_with")
            trainer.origin |= {key: before[key] for key in began if key in before}
            warn_of_later_students(before, trainer, self.out)
        elif start is not None:
            trainer.origin |= start_from_student(trainer, start)
        elif stage == "speech":
            trainer.origin["started_from"] = start_from_stages(trainer, self.out)
        elif similar is not None:
            trainer.origin |= start_from_similar(trainer, similar)
        trainer.run(minutes)
        return trainer.record()

    def check_start(self, start: Path, stages: Sequence[Stage], resume: bool = True) -> None:
        """Find out, before the teacher speaks, whether these trainings can begin with a published student.

        Raises:
            DistillError: as `train` would.
        """
        fresh = fresh_students(self.settings)
        for stage in stages:
            if not (resume and (self.out / stage / "state.pt").exists()):
                students, _ = published_students(start, STUDENTS[stage])
                if any(shapes(student) != shapes(fresh[name]) for name, student in students.items()):
                    raise other_sizes(start)

    def origin(self) -> dict[str, Any]:
        """What every record says of where it comes from."""
        return {
            "voice": self.voice.name,
            "voice_sha256": self.voice.onnx_sha256,
            "corpus_sha256": file_sha256(self.corpus),
            "machine": describe_system(accelerator_name()).model_dump(mode="json"),
            "torch_threads": torch.get_num_threads(),
        }

    def config_for(self, stage: Stage, folder: Path) -> Any:
        """The settings of a training.

        Where the study sets nothing else, a run in `folder` goes on with those that it began with, on whatever machine,
        and a new one takes the defaults of this machine; `speech` takes the size of the discriminators that the
        decoder's training left behind.

        Raises:
            DistillError: the run's discriminators are of another size than the study sets.
        """
        config = getattr(self.settings, stage)
        before = settings_of_run(folder)
        if before is None:
            defaults = config.on_gpu() if torch.cuda.is_available() else {}
            decoder = settings_of_run(self.out / "decoder") if stage == "speech" else None
            return config.with_defaults(defaults | size_of_discriminators(decoder))
        kept = {name: before[name] for name in config.on_gpu() if name in before}
        config = config.with_defaults(kept)
        check_discriminators(config, before, folder)
        return config

    def text_trainer(self, folder: Path, minutes: float | None = None) -> TextTrainer:
        """The trainer of the text encoder; the teacher reads for a quarter of the `minutes` at most."""
        config = self.config_for("text_encoder", folder)
        with one_process_first():
            shards = read_corpus(
                self.voice,
                self.teacher,
                self.corpus,
                self.out / "text",
                config.lines,
                config.seed,
                config.short_texts,
                None if minutes is None else minutes / 4,
            )
        if len(shards) < 2:
            raise DistillError(f"{self.corpus}: {config.lines} lines are too few: one part of the text is held out")
        data, held_out = TextData(shards[1:]), TextData(shards[:1])
        origin = self.origin() | {
            "teacher_sentences": len(data),
            "teacher_data_sha256": data.sha256(),
            "held_out_utterances": len(held_out),
        }
        return TextTrainer(self.teacher, data, held_out, folder, config, origin)

    def speech_trainer(self, stage: Stage, folder: Path, minutes: float | None) -> FlowTrainer | DecoderTrainer:
        settings = self.settings
        with one_process_first():
            speaking = self.speaking_minutes
            if speaking is None and minutes is not None:
                speaking = minutes / 4
            shards = teacher_shards(self.voice_onnx, self.corpus, self.out, settings, speaking, self.dask)
        if len(shards) < 2:
            raise DistillError(
                f"{self.corpus}: gives {len(shards)} shard of speech, and one is held out: use more lines or more hours"
            )
        data, held_out = Utterances(shards[1:]), Utterances(shards[:1])
        config = self.config_for(stage, folder)
        validation = Validation(held_out, self.voice.config.sample_rate, config.validation_utterances)
        origin = self.origin() | {
            "teacher_utterances": len(data),
            "teacher_hours": round(len(data.audio) / self.voice.config.sample_rate / 3600, 3),
            "teacher_data_sha256": data.sha256(),
            "held_out_utterances": len(validation.pairs),
        }
        kind = FlowTrainer if stage == "flow" else DecoderTrainer
        return kind(self.teacher, data, validation, folder, config, origin)


def settings_of_run(folder: Path) -> dict[str, Any] | None:
    """What the state of a run was saved with; None where there is none."""
    path = folder / "state.pt"
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["settings"]


def size_of_discriminators(settings: dict[str, Any] | None) -> dict[str, int]:
    """The part of a decoder's settings that says it; nothing of other settings."""
    return {name: value for name, value in (settings or {}).items() if name == "discriminator_channels"}


def check_discriminators(config: Any, before: dict[str, Any], folder: Path) -> None:
    """Raises `DistillError` where a training would go on with discriminators of another size than they have."""
    have, asked = size_of_discriminators(before), size_of_discriminators(config.model_dump())
    if have != asked:
        raise DistillError(
            f"{folder}: discriminator_channels: the settings ask for {asked['discriminator_channels']}, and the "
            f"discriminators that go on there have {have['discriminator_channels']}: set that, or nothing, or train "
            "the decoder anew (--anew)"
        )


def one_process_first():
    """One process speaks or reads; the others wait and find everything done."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT).main_process_first()


def teacher_shards(
    voice_onnx: Path, corpus: Path, out: Path, settings: DistillSettings, minutes: float | None, dask: str | None = None
) -> list[Path]:
    """What this run trains on, spoken in `minutes` at most: noted when it begins, so that it goes on with the same."""
    note, folder, seed = out / "data.json", out / "teacher", settings.decoder.seed
    if note.exists():
        count = json.loads(note.read_text(encoding="utf-8"))["shards"]
        shards = [folder / shard_name(number) for number in range(count)]
        if all(path.exists() for path in shards):
            claim_folder(folder, open_piper(voice_onnx), corpus, seed)
            return shards
    workers = speaking_workers(settings)
    shards = speak_corpus(voice_onnx, corpus, folder, settings.hours, seed, workers, minutes, dask)
    with atomic_path(note) as partial:
        partial.write_text(json.dumps({"shards": len(shards)}) + "\n", encoding="utf-8")
    return shards


def accelerator_name() -> str | None:
    """What trains where that is no processor; None where it is."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def fit_to_voice(settings: DistillSettings, teacher: StagedVits) -> DistillSettings:
    """The settings with the sizes that the voice decides: its symbols, latents, hop and speakers."""
    shape = hifigan_decoder(teacher).config
    speakers = 0 if teacher.speaker_embedding is None else teacher.speaker_embedding.embedding_dim
    random = not isinstance(teacher.duration_predictor, DurationPredictor)
    text, flow = settings.text_encoder, settings.flow
    encoder = replace(
        text.text_encoder,
        symbols=teacher.text_encoder.emb.num_embeddings,
        latent_channels=teacher.text_encoder.proj.out_channels // 2,
    )
    durations = replace(
        text.durations,
        hidden_channels=encoder.channels,
        noise_channels=2 if random else 0,
        speaker_channels=speakers,
    )
    flips = sum(isinstance(layer, Flip) for layer in teacher.flow.flows)
    flow_student = replace(
        flow.flow, latent_channels=encoder.latent_channels, speaker_channels=speakers, mirrored=flips % 2 == 1
    )
    decoder = replace(
        settings.decoder.decoder,
        latent_channels=shape.latent_channels,
        hop=shape.hop_length,
        n_fft=4 * shape.hop_length,
        speaker_channels=shape.speaker_channels,
    )
    return settings.model_copy(
        update={
            "text_encoder": text.model_copy(update={"text_encoder": encoder, "durations": durations}),
            "flow": flow.model_copy(update={"flow": flow_student}),
            "decoder": settings.decoder.model_copy(update={"decoder": decoder}),
            "speech": settings.speech.model_copy(update={"decoder": decoder, "flow": flow_student}),
        }
    )


def trained_minutes(record: dict[str, Any]) -> float:
    """How long published students were trained, with those that they began with."""
    whole = record.get("total_minutes", record["wall_minutes"])
    return round(whole + record.get("started_from_minutes", 0.0), 1)


def start_from_student(trainer: TrainingRun, folder: Path) -> dict[str, Any]:
    """Put a published student's weights into a fresh trainer; returns their hash and how long they were trained."""
    names = sorted({name.partition(".")[0] for name in trainer.shipping.state_dict()})
    students, record = published_students(folder, names)
    weights = {f"{name}.{key}": value for name, one in students.items() for key, value in one.state_dict().items()}
    put_weights(trainer, weights, folder)
    return {"started_from": record["weights_sha256"], "started_from_minutes": trained_minutes(record)}


def published_students(folder: Path, names: Sequence[str]) -> tuple[dict[str, torch.nn.Module], dict[str, Any]]:
    """Those of the published students in a folder, and their record. Raises `DistillError` where one is not there."""
    students, record = load_student(folder)
    for name in names:
        if name not in students:
            raise DistillError(f"{folder}: holds no student of the {name.replace('_', ' ')}")
    return {name: students[name] for name in names}, record


def fresh_students(settings: DistillSettings) -> torch.nn.ModuleDict:
    """The students of all stages that settings, fitted to a voice, ask for: their sizes alone, without memory."""
    sizes: dict[str, Any] = {
        "text_encoder": settings.text_encoder.text_encoder,
        "duration_predictor": settings.text_encoder.durations,
        "flow": settings.flow.flow,
        "decoder": settings.decoder.decoder,
    }
    with torch.device("meta"):
        return torch.nn.ModuleDict({name: KINDS[name][0](of) for name, of in sizes.items()})


def start_from_similar(trainer: TrainingRun, folder: Path) -> dict[str, Any]:
    """Put those weights of another voice's students into a fresh trainer that have its sizes, if they are most of it.

    Returns:
        What the record says of it; nothing where the trainer keeps its fresh weights: there are no such students, they
        are of other sizes, or of this very voice, whose held-out sentences they may have learned.
    """
    if not (resolve(folder) / WEIGHTS).is_file():
        return {}
    students, record = load_student(resolve(folder))
    if record.get("voice_sha256") == trainer.origin.get("voice_sha256", ""):
        return {}
    own = trainer.shipping.state_dict()
    taken, share = of_same_sizes(students, own)
    if share < LEAST_SHARE:
        return {}
    put_weights(trainer, own | taken, folder)
    return {
        "began_with": {
            "students": folder.as_posix(),
            "voice": record["voice"],
            "weights_sha256": record["weights_sha256"],
            "minutes": trained_minutes(record),
            "share": round(share, 4),
        }
    }


def of_same_sizes(
    students: dict[str, torch.nn.Module], own: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], float]:
    """The students' weights that have the sizes of `own`, by stage and name, and which share of `own` they are."""
    theirs = {f"{stage}.{key}": value for stage, one in students.items() for key, value in one.state_dict().items()}
    taken = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    return taken, sum(value.numel() for value in taken.values()) / sum(value.numel() for value in own.values())


def start_from_stages(trainer: TrainingRun, out: Path) -> dict[str, str]:
    """Begin the training of flow and decoder together with the best that each came to alone; returns their hashes.

    The decoder's discriminators go on with it: fresh ones would have to learn first what is left to hear.
    """
    state = out / "decoder" / "state.pt"
    weights, hashes = {}, {}
    for stage in ("flow", "decoder"):
        best = out / stage / "best.safetensors"
        for path in (best, state):
            if not path.exists():
                raise DistillError(f"{path}: no such file; train the stages flow and decoder before speech")
        weights |= load_file(best)
        hashes[stage] = file_sha256(best)
    discriminators = torch.load(state, map_location="cpu", weights_only=True)
    check_discriminators(trainer.config, discriminators["settings"], state.parent)
    put_weights(trainer, weights, out)
    trainer.load_other_state(discriminators)
    return hashes


def warn_of_later_students(before: dict[str, Any], trainer: TrainingRun, out: Path) -> None:
    """Warn where a training that goes on had begun with students that have been trained further since."""
    began = before.get("started_from")
    if not isinstance(began, dict):
        return
    later = [stage for stage, sha in began.items() if file_sha256(out / stage / "best.safetensors") != sha]
    if later:
        warnings.warn(
            f"{trainer.out.name}: goes on with the students that it began with; those of {' and '.join(later)} were "
            "trained further since: --anew begins with them",
            stacklevel=2,
        )


def put_weights(trainer: TrainingRun, weights: dict[str, torch.Tensor], source: Path) -> None:
    """Give them to what trains and to its average. Raises `DistillError` where sizes differ."""
    weights = {name: value.float() for name, value in weights.items()}
    try:
        trainer.shipping.load_state_dict(weights)
        trainer.average.load_state_dict(weights)
    except RuntimeError as error:
        raise other_sizes(source) from error


def shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    """The size of each of its weights."""
    return {name: value.shape for name, value in network.state_dict().items()}


def other_sizes(source: Path) -> DistillError:
    return DistillError(f"{source}: holds a student of other sizes than this run's settings")


def check_same_run(before: dict[str, Any], trainer: TrainingRun) -> None:
    """A run goes on with the student and data of its record from before; the schedule may change."""
    if not before:
        return
    after = trainer.record()
    sizes = [
        {name: value for name, value in record["config"].items() if isinstance(value, dict)}
        for record in (before, after)
    ]
    same_student = sizes[0] == sizes[1]
    same_data = before.get("teacher_data_sha256") == after.get("teacher_data_sha256")
    if not same_student or not same_data:
        what = "with other teacher data" if same_student else "for a student of other sizes"
        raise DistillError(f"{trainer.out}: this run began {what}; delete it to begin anew, or name another")
