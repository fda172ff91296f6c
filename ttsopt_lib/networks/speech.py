"""From latents to samples: a decoder, with the student of the flow before it where there is one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ttsopt_lib.networks.students import FlowStudent


class SpeechStudent(nn.Module):
    """The stages of a voice that run at frame rate, as one network to train."""

    def __init__(self, decoder: nn.Module, flow: FlowStudent | None = None):
        super().__init__()
        self.decoder = decoder
        if flow is not None:
            self.flow = flow

    @property
    def has_flow(self) -> bool:
        """Whether it begins before the flow: then it is given `z_p`, otherwise `z`."""
        return hasattr(self, "flow")

    def forward(self, latents: Tensor, g: Tensor | None = None) -> Tensor:
        """Latents [B, C, T] before the flow (after it, where there is no student of the flow) and a speaker embedding
        [B, speaker_channels, 1] to a waveform [B, 1, T * hop]."""
        return self.decoder(self.decoded_latents(latents, g), g)

    def decoded_latents(self, latents: Tensor, g: Tensor | None = None) -> Tensor:
        """What its decoder is given [B, C, T]: the latents, or what the student of the flow makes of them."""
        return self.flow(latents, torch.ones_like(latents[:, :1]), g) if self.has_flow else latents
