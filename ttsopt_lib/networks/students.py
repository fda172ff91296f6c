"""Students for the stages of a VITS voice that come before its decoder.

Each takes the place of its teacher in a `StagedVits` and has its interface, so a voice with students is exported,
measured and spoken with like any other. All are ConvNeXt blocks at phoneme or frame rate:

- the text encoder mixes them with a few layers of attention and makes the prior's statistics;
- the duration predictor learns the teacher's as a function of text *and noise*, without the splines that the
  teacher inverts, so that `noise_w` keeps its meaning;
- the flow learns the sum of what the teacher's couplings subtract.

The text encoder's hidden states are its own: its duration predictor goes with it, and no other does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ttsopt_lib.networks.convnext import ConvNeXtBlock, SelfAttention, check_sizes, small_linear_weights


@dataclass(frozen=True)
class TextEncoderStudentConfig:
    """Sizes of a `TextEncoderStudent`. `layers` is its order of blocks: c for ConvNeXt, a for attention."""

    symbols: int = 256
    latent_channels: int = 192
    channels: int = 192
    inner_channels: int = 384
    kernel_size: int = 7
    heads: int = 3
    layers: str = "ccaccacc"

    def __post_init__(self) -> None:
        check_sizes(self)
        if not self.layers or set(self.layers) - {"c", "a"}:
            raise ValueError(f"layers must be a word of c (ConvNeXt) and a (attention), got {self.layers!r}")
        if self.channels % self.heads:
            raise ValueError(f"channels {self.channels} must be a multiple of heads {self.heads}")


@dataclass(frozen=True)
class DurationStudentConfig:
    """Sizes of a `DurationStudent`. `noise_channels` is 0 where the teacher's durations are not random."""

    hidden_channels: int = 192
    noise_channels: int = 2
    channels: int = 128
    inner_channels: int = 256
    kernel_size: int = 5
    blocks: int = 3
    speaker_channels: int = 0

    def __post_init__(self) -> None:
        check_sizes(self)


@dataclass(frozen=True)
class FlowStudentConfig:
    """Sizes of a `FlowStudent`. `mirrored`: the teacher has an odd number of flips, so its output lies reversed.

    Six kernels of 13 rows see 36 frames to both sides. A VITS flow, of four couplings with four kernels of five rows
    each, sees 32: what a student does not see it can only guess.
    """

    latent_channels: int = 192
    channels: int = 192
    inner_channels: int = 512
    kernel_size: int = 13
    blocks: int = 6
    speaker_channels: int = 0
    mirrored: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)


class TextEncoderStudent(nn.Module):
    """Phoneme ids to hidden states, and mean and log standard deviation of the prior, as `TextEncoder`."""

    def __init__(self, config: TextEncoderStudentConfig):
        super().__init__()
        self.config = config
        self.emb = nn.Embedding(config.symbols, config.channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.inner_channels, config.kernel_size, 1 / len(config.layers))
            if kind == "c"
            else SelfAttention(config.channels, config.heads)
            for kind in config.layers
        )
        self.norm = nn.LayerNorm(config.channels, eps=1e-6)
        self.proj = nn.Conv1d(config.channels, 2 * config.latent_channels, 1)
        small_linear_weights(self)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `TextEncoder.forward`."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        mask = (positions.unsqueeze(0) < lengths.unsqueeze(1)).to(self.proj.weight.dtype)
        rows = mask.unsqueeze(-1)
        key_bias = ((mask - 1.0) * 1e4)[:, None, None]
        x = self.emb(ids)
        for block in self.blocks:
            x = block(x, rows if isinstance(block, ConvNeXtBlock) else key_bias)
        hidden = (self.norm(x) * rows).transpose(1, 2)
        mean, log_std = (self.proj(hidden) * mask.unsqueeze(1)).split(self.config.latent_channels, dim=1)
        return hidden, mean, log_std, mask.unsqueeze(1)


class RowStudent(nn.Module):
    """A stack of ConvNeXt blocks between two projections, which knows the speaker where there are several."""

    def __init__(self, config: DurationStudentConfig | FlowStudentConfig, in_channels: int, out_channels: int):
        super().__init__()
        self.pre = nn.Linear(in_channels, config.channels)
        self.cond = nn.Linear(config.speaker_channels, config.channels) if config.speaker_channels else None
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.inner_channels, config.kernel_size, 1 / config.blocks)
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.channels, eps=1e-6)
        self.proj = nn.Linear(config.channels, out_channels)
        small_linear_weights(self)

    def stack(self, x: Tensor, rows: Tensor | None, g: Tensor | None) -> Tensor:
        """All behind `pre`: `x` [batch, time, channels], `rows` [batch, time, 1] (0 on padding), speaker embedding `g`
        [batch, speaker_channels, 1] to [batch, time, out_channels]."""
        if g is not None and self.cond is not None:
            x = x + self.cond(g.transpose(1, 2))
        for block in self.blocks:
            x = block(x, rows)
        return self.proj(self.norm(x))


class DurationStudent(RowStudent):
    """Log durations from the student encoder's hidden states and noise."""

    def __init__(self, config: DurationStudentConfig):
        super().__init__(config, config.hidden_channels + config.noise_channels, 1)
        self.config = config

    def forward(self, hidden: Tensor, mask: Tensor, noise: Tensor, g: Tensor | None = None) -> Tensor:
        """`hidden` [batch, hidden_channels, time], `mask` [batch, 1, time], `noise` [batch, 2, time] (already scaled;
        not used where the teacher's durations are not random), speaker embedding `g` [batch, speaker_channels, 1] to
        log frames per phoneme [batch, 1, time]."""
        x = torch.cat([hidden, noise[:, : self.config.noise_channels]], dim=1) if self.config.noise_channels else hidden
        x, rows = self.pre(x.transpose(1, 2)), mask.transpose(1, 2)
        return self.stack(x, rows, g).transpose(1, 2) * mask


class FlowStudent(RowStudent):
    """Prior samples to latent frames, as the `Flow` it learned from."""

    def __init__(self, config: FlowStudentConfig):
        super().__init__(config, config.latent_channels, config.latent_channels)
        self.config = config
        nn.init.xavier_uniform_(self.pre.weight)

    def forward(self, z_p: Tensor, mask: Tensor | None = None, g: Tensor | None = None) -> Tensor:
        """`z_p` [batch, latent_channels, frames], `mask` [batch, 1, frames] (None: nothing is padding) to latent frames
        of the same shape."""
        base = (z_p.flip(1) if self.config.mirrored else z_p).transpose(1, 2)
        rows = None if mask is None else mask.transpose(1, 2)
        latents = base + self.stack(self.pre(base), rows, g)
        return (latents if rows is None else latents * rows).transpose(1, 2)


class SpeechStudent(nn.Module):
    """The stages of a voice that run at frame rate, as one network to train: a decoder, and a flow where it has one.

    With a flow it is given the latents before it (`z_p`), otherwise those after it (`z`).
    """

    def __init__(self, decoder: nn.Module, flow: FlowStudent | None = None):
        super().__init__()
        self.decoder = decoder
        self.flow = flow

    def forward(self, latents: Tensor, g: Tensor | None = None) -> Tensor:
        """Latents [B, C, T] and a speaker embedding [B, speaker_channels, 1] to a waveform [B, 1, T * hop]."""
        return self.decoder(self.decoded_latents(latents, g), g)

    def decoded_latents(self, latents: Tensor, g: Tensor | None = None) -> Tensor:
        """What its decoder is given [B, C, T]: the latents, or what the student of the flow makes of them."""
        return latents if self.flow is None else self.flow(latents, g=g)
