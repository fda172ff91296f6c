"""The step `distill`: trained students in their teachers' places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ttsopt_lib.distill.published import load_student
from ttsopt_lib.errors import StudyError
from ttsopt_lib.optimize.steps.step import NetworkWork, file_hashes, refuse_other_teacher
from ttsopt_lib.paths import resolve
from ttsopt_lib.step_settings import Distill
from ttsopt_lib.text_files import read_json

if TYPE_CHECKING:
    from ttsopt_lib.networks.vits import StagedVits
    from ttsopt_lib.optimize.context import BuildContext
    from ttsopt_lib.optimize.inventory import Inventory, Layer


class DistillWork(NetworkWork[Distill]):
    settings = Distill
    label = "distillation"
    family = "distilled"
    kind = "student"
    remedy = "train its student longer (docs/distillation.md)"

    def files(self, step: Distill) -> dict[str, str]:
        """Of the student's weights and record; its model card may be edited freely."""
        root = resolve(step.student)
        hashes = file_hashes(root, ".safetensors", ".json")
        if not hashes:
            raise StudyError(
                f"distill: student: {root} holds no trained student (a folder with .safetensors and .json files)"
            )
        return hashes

    def check(self, step: Distill, voice: Path | None) -> None:
        folder = resolve(step.student)
        if any(folder.glob("*.safetensors")):  # else it is trained first
            instead = "train students of this one (ttsopt distill)"
            refuse_other_teacher(folder, load_student(folder)[1], voice, instead)

    def apply(self, model: StagedVits, step: Distill, context: BuildContext | None) -> None:
        replace_stages(model, step.student)

    def stages(self, step: Distill) -> list[str]:
        """As the student's folder says. Raises `StudyError` where it is not whole."""
        sizes = resolve(step.student) / "config.json"
        if not sizes.is_file():
            raise StudyError(f"{sizes}: no such file; a student's folder says there what sizes it has")
        return list(read_json(sizes, StudyError))

    def reaches(self, step: Distill, layer: Layer) -> tuple[int, bool]:
        inside = layer.in_stages(self.stages(step))
        return layer.parameters if inside else 0, inside

    def note(self, step: Distill, after: Inventory, layers: int) -> str:
        stages = [stage.replace("_", " ") for stage in self.stages(step)]
        return f"{', '.join(stages)} replaced by the student {step.student.name}"


def replace_stages(model: StagedVits, student: Path) -> None:
    """Put trained students in their teachers' places. Raises `StudyError` where they are of another voice."""
    students, _ = load_student(resolve(student))
    before = model.hop_length, model.text_encoder.proj.out_channels, model.text_encoder.emb.num_embeddings
    for stage, network in students.items():
        setattr(model, stage, network)
    encoder = model.text_encoder
    if (encoder.proj.out_channels, encoder.emb.num_embeddings) != before[1:]:
        raise StudyError(
            f"distill: student {student} is for other phonemes or latents: it was trained for another voice"
        )
    speaker = model.speaker_embedding
    g = None if speaker is None else torch.zeros(1, speaker.embedding_dim, 1)
    z_p, frames = torch.zeros(1, before[1] // 2, 16), 16  # mean and log standard deviation
    try:
        with torch.no_grad():
            samples = model.decode(model.flow_inverse(z_p, torch.ones(1, 1, frames), g), g).shape[-1]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(f"distill: student {student} does not fit this voice: {reason}") from None
    if samples != frames * model.hop_length:
        raise StudyError(
            f"distill: student {student} makes {samples // frames} samples a frame, "
            f"the voice {model.hop_length}: it was trained for another voice"
        )
