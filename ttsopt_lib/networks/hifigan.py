"""HiFi-GAN: latent frames to waveform, the decoder of every VITS voice.

Both residual blocks of the paper are here (Kong et al. 2020, https://arxiv.org/abs/2010.05646): type 1, which Piper's
`high` quality and every Hugging Face VITS use, and type 2, which Piper's `low` and `medium` use and
`transformers.VitsModel` does not know. Attribute names are those of the VITS paper's code, so a layer here has the
name of the layer in a Piper graph. No weight norm: it is a training device, and these weights are finished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class HifiGanConfig:
    """Shape of a HiFi-GAN decoder.

    Attributes:
        latent_channels: channels of the latent frames that come in.
        initial_channels: channels after the first convolution; each upsampling stage halves them.
        upsample_rates: samples out per sample in, stage by stage; their product is the hop length.
        upsample_kernels: kernel of each stage's transposed convolution.
        block_type: 1 (two convolutions per dilation) or 2 (one).
        block_kernels: kernel of each residual block of a stage; the stage's output is their mean.
        block_dilations: dilations of each residual block of a stage.
        speaker_channels: width of the speaker embedding, 0 for a single-speaker voice.
        slope: negative slope of the leaky ReLU (the last one, before `conv_post`, is always 0.01).
    """

    latent_channels: int
    initial_channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    block_type: Literal[1, 2]
    block_kernels: tuple[int, ...]
    block_dilations: tuple[tuple[int, ...], ...]
    speaker_channels: int = 0
    slope: float = 0.1

    @classmethod
    def from_lists(cls, **shape: Any) -> HifiGanConfig:
        """From what JSON made of one: lists, and lists of lists, where there were tuples."""
        shape = {name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()}
        shape["block_dilations"] = tuple(map(tuple, shape["block_dilations"]))
        return cls(**shape)

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return math.prod(self.upsample_rates)


def _same_conv(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)


class ResBlock1(nn.Module):
    """Residual block with two convolutions per dilation: one dilated, one not."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], slope: float):
        super().__init__()
        self.slope = slope
        self.convs1 = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same_conv(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time] to the same shape."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, self.slope)), self.slope))
        return x


class ResBlock2(nn.Module):
    """Residual block with one convolution per dilation."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], slope: float):
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList(_same_conv(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time] to the same shape."""
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, self.slope))
        return x


class HifiGanDecoder(nn.Module):
    """Latent frames to waveform by transposed convolutions, each followed by a mean of residual blocks."""

    def __init__(self, config: HifiGanConfig):
        super().__init__()
        self.config = config
        channels = config.initial_channels
        self.conv_pre = nn.Conv1d(config.latent_channels, channels, 7, padding=3)
        if config.speaker_channels:
            self.cond = nn.Conv1d(config.speaker_channels, channels, 1)

        block = ResBlock1 if config.block_type == 1 else ResBlock2
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernels, strict=True):
            self.ups.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2))
            channels //= 2
            for block_kernel, dilations in zip(config.block_kernels, config.block_dilations, strict=True):
                self.resblocks.append(block(channels, block_kernel, dilations, config.slope))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        """Latent frames `z` [batch, latent_channels, frames] and, where the voice has speakers, `g`
        [batch, speaker_channels, 1] to a waveform [batch, 1, frames * hop_length] within [-1, 1]."""
        x = self.conv_pre(z)
        if g is not None:
            x = x + self.cond(g)
        blocks_per_stage = len(self.resblocks) // len(self.ups)
        for stage, upsample in enumerate(self.ups):
            x = upsample(F.leaky_relu(x, self.config.slope))
            first = stage * blocks_per_stage
            total = self.resblocks[first](x)
            for index in range(first + 1, first + blocks_per_stage):
                total = total + self.resblocks[index](x)
            x = total / blocks_per_stage
        return torch.tanh(self.conv_post(F.leaky_relu(x)))
