"""The students of a study: which are missing, and one call that trains them all and publishes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from pydantic import ValidationError

from ttsopt_lib.distill.distillation import STAGES, Distillation, Stage
from ttsopt_lib.distill.published import WEIGHTS, has_students, publish_student, refuse_others
from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.distill.teacher.short_sentences import with_short_sentences
from ttsopt_lib.errors import StudyError
from ttsopt_lib.files import file_sha256
from ttsopt_lib.paths import own_path, resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.step_settings import Distill
from ttsopt_lib.study import Study, Training
from ttsopt_lib.voices.huggingface import weights_of
from ttsopt_lib.voices.language import refuse_other_language
from ttsopt_lib.voices.source import source_model
from ttsopt_lib.workers import cluster_workers

SHARES: dict[Stage, float] = {"text_encoder": 0.25, "flow": 0.15, "decoder": 0.35, "speech": 0.25}
"""Of the time. The decoder is the hardest to learn; flow and text encoder are near their teachers within minutes."""
SHIPPED = Path("models/en_US-joe-medium/students")
"""Students that a new voice begins with, where its sizes are theirs."""
SPEAKING = 0.12
"""Of the whole time, for the teacher to speak at most: students that hear too little learn it by heart."""


def missing_students(study: Study, only: Sequence[str] | None = None) -> list[Path]:
    """Folders that recipes of a study name and that hold no trained student.

    Raises:
        StudyError: one is missing that the study does not say how to train.
    """
    named = {
        step.student
        for variant in study.variants
        if only is None or variant.name in only
        for step in variant.recipe
        if isinstance(step, Distill)
    }
    missing = sorted(path for path in named if not any(resolve(path).glob("*.safetensors")))
    for path in missing:
        if study.training is None or study.training.student != path:
            raise StudyError(
                f"distill: student: {resolve(path)} holds no trained student ({WEIGHTS}); train it: add "
                f"'training: {{student: {path}, corpus: params/sentences/corpus_en.txt}}' to the study and run "
                "ttsopt distill"
            )
    return missing


def train_students(
    study: Study,
    folder: StudyFolder,
    minutes: float | None = None,
    stages: Sequence[Stage] = STAGES,
    dask: str | None = None,
    start: Path | None = None,
    anew: bool = False,
    random_weights: bool = False,
) -> dict[str, Any]:
    """Train a study's students stage by stage, publish the best of them, and return their record.

    A run that was stopped goes on where it was; one that has used its time gets `minutes` more of it. Several processes
    that call this together (`torchrun`) train one student; the first of them publishes it.

    Args:
        study: its `training` says with what text and where the students go.
        folder: the run's files lie in `training/` there.
        minutes: for all stages together; None for what the study says, 0 to train and publish nothing.
        stages: which to train now; the others are taken as they are.
        dask: address of a Dask scheduler whose workers speak the corpus in place of this machine's cores; they must see
            the same files and packages.
        start: folder of published students that a new run begins with.
        anew: begin new runs of these stages, with the teacher's speech that is there.
        random_weights: begin new runs with random weights, and not with those of the students that ship (`SHIPPED`).

    Returns:
        the record of what was published; nothing where no student makes samples yet.

    Raises:
        StudyError: the study says nothing of training, or its settings are not sound.
        VoiceError: the study's voice cannot be opened, or does not speak the language of the study's texts.
        DistillError: the run is of another voice or corpus, the students published already are better, or something
            else lies where they go.
        ClusterError: no Dask scheduler answers at the address, or the package is missing.
    """
    plan = training_plan(study)
    total = plan.minutes if minutes is None else minutes
    if total == 0:
        return {}
    refuse_others(own_path(plan.student))
    if dask:
        with cluster_workers(dask):  # before hours of work that needs none
            pass
    voice = source_model(study, folder).vits("training")
    refuse_other_language(voice.config, study.language, plan.corpus)
    settings = training_settings(plan)
    corpus = resolve(plan.corpus)
    if plan.short_sentences:
        corpus = with_short_sentences(corpus, plan.short_sentences, folder.training / "corpus.txt")
    distillation = Distillation(voice.path, corpus, folder.training, settings, SPEAKING * total, dask)
    if start is not None:
        distillation.check_start(start, stages, resume=not anew)
    whole = sum(SHARES[stage] for stage in stages)
    ends = time.monotonic() + 60 * total
    for number, stage in enumerate(stages):
        # What the earlier stages took too much or left over is shared by the later ones.
        left = max((ends - time.monotonic()) / 60, 0.1 * total * SHARES[stage])
        share = left * SHARES[stage] / whole if number < len(stages) - 1 else left
        distillation.train(stage, share, resume=not anew, start=start, similar=None if random_weights else SHIPPED)
        whole -= SHARES[stage]
    record = {}
    if PartialState().is_main_process and has_students(folder.training):
        source = study.voice.huggingface
        exported = None if source is None else file_sha256(weights_of(resolve(source)))
        record = publish_student(voice.path, folder.training, own_path(plan.student), source_sha256=exported)
    (record,) = broadcast_object_list([record])
    return record


def training_plan(study: Study) -> Training:
    """Raises `StudyError` where the study has none."""
    if study.training is None:
        raise StudyError(
            f"study {study.name!r} says nothing of training: add "
            "'training: {student: models/MY-VOICE/student, corpus: params/sentences/corpus_en.txt}'"
        )
    return study.training


def training_settings(plan: Training) -> DistillSettings:
    """The settings of a study's trainings. Raises `StudyError`, which names the key."""
    try:
        return DistillSettings.model_validate(plan.settings)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise StudyError(f"training.settings.{'.'.join(map(str, first['loc']))}: {message}") from error
