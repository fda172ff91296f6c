"""What a training will take and bring, said before its first minute: time, speech, memory, disk and quality."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttsopt_lib.distill.distillation import (
    LEAST_SHARE,
    STAGES,
    Stage,
    accelerator_name,
    fit_to_voice,
    fresh_students,
    of_same_sizes,
)
from ttsopt_lib.distill.published import load_student
from ttsopt_lib.distill.settings import DistillSettings
from ttsopt_lib.distill.study import SHARES, SHIPPED, SPEAKING, training_plan, training_settings
from ttsopt_lib.distill.teacher.device import speaking_teacher, speaking_workers, training_device
from ttsopt_lib.distill.teacher.speech import speak
from ttsopt_lib.networks.vits import StagedVits
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.voices.piper import PiperVoice
from ttsopt_lib.voices.source import source_model
from ttsopt_lib.voices.text import phoneme_ids, read_sentences

GB_PER_HOUR = 0.4  # of the teacher's speech: latents and samples, in memory while a training hears it, and on disk
GB_PER_LINE = 2 / 8000  # of what the teacher's text encoder reads
GB_OF_TRAINING = 1.5  # the process itself: PyTorch, teacher, student, discriminators
LINES_TIMED = 3  # spoken to find out how fast the teacher is here
MEASURED = {
    15: "0.00 [-0.03, +0.03] after 15 min of one core",
    60: "+0.02 [-0.01, +0.05] after 60 min of one core",
    158: "+0.02 [-0.01, +0.05] after 158 min of two cores",
}
"""Minutes, and the change of predicted MOS (DistillMOS) after them: a test voice of joe's sizes, begun with
the students that ship (docs/distillation.md)."""


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training will take.

    Attributes:
        minutes: by stage.
        speaking_minutes: in which the teacher speaks, at most.
        hours: of speech that it makes in that time here, or that the settings ask for.
        memory_gb: at the highest, 10^9 bytes.
        disk_gb: of the run folder.
        free_gb: on the disk of the run folder.
        accelerator: what trains where that is no processor.
        expected: what became of the test voice in as much time or less, in words; None where nothing was measured that
            this training could be compared with.
    """

    minutes: dict[Stage, float]
    speaking_minutes: float
    hours: float
    memory_gb: float
    disk_gb: float
    free_gb: float
    accelerator: str | None
    expected: str | None


def estimate_training(
    study: Study, folder: StudyFolder, minutes: float | None = None, stages: Sequence[Stage] = STAGES
) -> TrainingEstimate:
    """What `train_students` will take for these `stages`, with so many `minutes` together (None: what the study says).

    The teacher speaks some lines for it; nothing is written.

    Raises:
        StudyError: the study says nothing of training, or its settings are not sound.
        VoiceError: the study's voice cannot be opened.
    """
    plan = training_plan(study)
    settings, total = training_settings(plan), plan.minutes if minutes is None else minutes
    whole = sum(SHARES[stage] for stage in stages)
    speaks = any(stage != "text_encoder" for stage in stages)
    speaking = SPEAKING * total if speaks else 0.0
    voice = source_model(study, folder).vits("training")
    network, lines = speaking_teacher(voice, training_device()), read_sentences(resolve(plan.corpus))
    said = phoneme_ids(voice.config, " ".join(lines[:LINES_TIMED]))
    speak(voice, network, said[0], np.random.default_rng(0))  # the first sentence takes longer
    began, samples = time.perf_counter(), 0
    for ids in said:
        samples += len(speak(voice, network, ids, np.random.default_rng(0))["audio"])
    spoken = samples / voice.config.sample_rate
    pace = speaking_workers(settings) * spoken / (time.perf_counter() - began)  # seconds of speech a second
    hours = min(settings.hours, pace * speaking / 60)
    read = min(len(lines), settings.text_encoder.lines) * (1 + settings.text_encoder.short_texts)
    text = GB_PER_LINE * read if "text_encoder" in stages else 0.0
    there = next(path for path in (folder.training, *folder.training.parents) if path.exists())
    return TrainingEstimate(
        minutes={stage: total * SHARES[stage] / whole for stage in stages},
        speaking_minutes=speaking,
        hours=hours,
        memory_gb=GB_OF_TRAINING + max(text, GB_PER_HOUR * hours),  # one training after another
        disk_gb=text + GB_PER_HOUR * hours,
        free_gb=shutil.disk_usage(there).free / 1e9,
        accelerator=accelerator_name(),
        expected=_expected(voice, settings, network, total) if set(stages) == set(STAGES) else None,
    )


def _expected(voice: PiperVoice, settings: DistillSettings, network: StagedVits, minutes: float) -> str | None:
    """The last of `MEASURED` that is not longer, for a voice that begins with the students that ship."""
    measured = [limit for limit in MEASURED if limit <= minutes]
    if not measured or accelerator_name():
        return None
    fresh = fresh_students(fit_to_voice(settings, network))
    students, record = load_student(resolve(SHIPPED))
    if record["voice_sha256"] == voice.onnx_sha256 or of_same_sizes(students, fresh.state_dict())[1] < LEAST_SHARE:
        return None
    return MEASURED[measured[-1]]
