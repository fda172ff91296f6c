"""Hints: the student also foresees what the teacher's decoder holds after its first upsampling stage.

There the teacher has already decided pitch and phase, at a few samples per frame. Regressing those
activations is a smooth problem, while phase learned from the waveform alone starts on a plateau where silence
is as good as any guess (Romero et al. 2014, FitNets, https://arxiv.org/abs/1412.6550). The projection that
makes the hint is thrown away with the training state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.networks.istft import IstftDecoder
from ttsopt_lib.networks.vits import StagedVits


class TeacherError(TtsoptError, ValueError):
    """A voice whose decoder cannot teach. The message says what would."""


def hifigan_decoder(teacher: StagedVits) -> HifiGanDecoder:
    """The teacher's own decoder. Raises `TeacherError` where a student is already in its place."""
    if not isinstance(teacher.decoder, HifiGanDecoder):
        raise TeacherError(
            f"a {type(teacher.decoder).__name__} cannot teach: start from a voice with a HiFi-GAN decoder"
        )
    return teacher.decoder


class Hints(nn.Module):
    """Projects a student's features [B, T, C] to the teacher's first-stage activations [B, T, channels * rate]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, student: IstftDecoder, teacher: HifiGanDecoder, z: Tensor, g: Tensor | None):
        super().__init__()
        self.block = len(student.blocks) * 5 // 8  # the blocks after it turn phase into spectra
        self.teacher = [teacher.eval().requires_grad_(False)]  # in a list: not a part of what trains or is saved
        target = self.first_stage(z, g)
        self.register_buffer("mean", target.mean((0, 1)))
        # One scale for all: a channel that hardly moves hardly matters.
        self.register_buffer("scale", target.std((0, 1)).square().mean().sqrt())
        self.projection = nn.Linear(student.config.channels, target.shape[-1])

    @torch.no_grad()
    def first_stage(self, z: Tensor, g: Tensor | None) -> Tensor:
        """Latents [B, C, T] to first-stage activations, those of one frame side by side: [B, T, channels * rate]."""
        teacher = self.teacher[0]
        x = teacher.conv_pre(z)
        if g is not None:
            x = x + teacher.cond(g)
        x = teacher.ups[0](F.leaky_relu(x, teacher.config.slope))
        blocks = teacher.resblocks[: len(teacher.resblocks) // len(teacher.ups)]
        x = torch.stack([block(x) for block in blocks]).mean(0)
        return x.transpose(1, 2).reshape(z.shape[0], z.shape[2], -1)

    def forward(self, features: Tensor, z: Tensor, g: Tensor | None, margin: int) -> Tensor:
        """The part of the activations' variance that the features do not explain, away from the cut edges."""
        wanted = (self.first_stage(z, g).float() - self.mean) / self.scale
        made = self.projection(features).float()
        return (made - wanted)[:, margin:-margin].square().mean()
