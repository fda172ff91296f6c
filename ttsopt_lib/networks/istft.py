"""A decoder at frame rate: ConvNeXt blocks, then one inverse short-time Fourier transform.

A HiFi-GAN decoder spends its time at sample rate. This one keeps every convolution at frame rate (one column
per `hop` samples) and lets the inverse transform make the samples, as in Vocos (Siuzdak 2023,
https://arxiv.org/abs/2306.00814). Unlike Vocos the head predicts no phase angle: each bin is exp(log
magnitude) times a free complex number, which needs neither sine nor cosine and has no wrap-around to learn
across.

The inverse transform runs as a fast Fourier transform in PyTorch and as matrix products in ONNX, whose basis
the graph computes by itself (Range, Mul, Cos), so that it costs no file size. What is not done: the window's
overlap is divided by its steady-state sum everywhere, so the outer 1.5 hops at both ends of an utterance fade
instead of being exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttsopt_lib.networks.convnext import ConvNeXtBlock, check_sizes, small_linear_weights

# Beyond the 16-bit floor and any full-scale tone: exp() can neither vanish nor overflow.
LOG_MAGNITUDE_RANGE = (-14.0, 6.0)


@dataclass(frozen=True)
class IstftDecoderConfig:
    """Sizes of an `IstftDecoder`. `hop` is samples per latent frame; `n_fft` must be four hops."""

    latent_channels: int = 192
    channels: int = 256
    inner_channels: int = 512
    blocks: int = 8
    kernel_size: int = 7
    n_fft: int = 1024
    hop: int = 256
    speaker_channels: int = 0

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.n_fft != 4 * self.hop:
            raise ValueError(f"n_fft must be 4 * hop (the window overlap needs it), got {self.n_fft} and {self.hop}")

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates for one latent frame, as the exported graph does them."""
        bins = self.n_fft // 2 + 1
        first = 7 * self.latent_channels * self.channels
        block = self.kernel_size * self.channels + 2 * self.channels * self.inner_channels
        head = 3 * bins * self.channels
        transform = 2 * bins * self.n_fft // 2
        return first + self.blocks * block + head + transform


class IstftHead(nn.Module):
    """Features to samples: log magnitude and a free complex factor per bin, then the inverse transform.

    [B, T, C] -> [B, 1, T * hop]
    """

    def __init__(self, channels: int, n_fft: int, hop: int):
        super().__init__()
        self.n_fft, self.hop, self.bins = n_fft, hop, n_fft // 2 + 1
        self.projection = nn.Linear(channels, 3 * self.bins)

    def forward(self, x: Tensor) -> Tensor:
        # Magnitudes span 80 dB: the projection and everything after it stay in full precision under autocast.
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, real, imaginary = self.projection(x.float()).split(self.bins, dim=-1)
            magnitude = log_magnitude.clamp(*LOG_MAGNITUDE_RANGE).exp()
            return inverse_stft(magnitude * real, magnitude * imaginary, self.n_fft, self.hop)


class IstftDecoder(nn.Module):
    """Drop-in replacement for a VITS voice's HiFi-GAN decoder.

    `z`: [B, latent_channels, T], already masked; `g`: [B, speaker_channels, 1] for multi-speaker voices
    (ignored where the configuration has no speakers). Returns the waveform [B, 1, T * hop].
    """

    def __init__(self, config: IstftDecoderConfig):
        super().__init__()
        self.config = config
        self.conv_pre = nn.Conv1d(config.latent_channels, config.channels, 7, padding=3)
        self.cond = nn.Conv1d(config.speaker_channels, config.channels, 1) if config.speaker_channels else None
        self.norm_pre = nn.LayerNorm(config.channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.inner_channels, config.kernel_size, 1 / config.blocks)
            for _ in range(config.blocks)
        )
        self.norm_post = nn.LayerNorm(config.channels, eps=1e-6)
        self.head = IstftHead(config.channels, config.n_fft, config.hop)
        small_linear_weights(self)

    def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        x = self.conv_pre(z)
        if self.cond is not None:
            if g is None:
                raise ValueError("this decoder is for a multi-speaker voice: pass the speaker embedding g")
            x = x + self.cond(g)
        x = self.norm_pre(x.transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm_post(x))


def inverse_stft(real: Tensor, imaginary: Tensor, n_fft: int, hop: int) -> Tensor:
    """Half spectra [B, T, n_fft/2 + 1] to samples [B, 1, T * hop].

    Equals `torch.istft` with a periodic Hann window where four frames overlap; frame t is centred on sample
    (t + 1/2) * hop.
    """
    if torch.onnx.is_in_onnx_export():
        frames = inverse_dft(real, imaginary, n_fft) * SynthesisWindow.apply(n_fft)
    else:  # its window is made on the device: a copy to a GPU would wait for it, and no CUDA graph captures one
        window = synthesis_window(n_fft, real.device)
        frames = torch.fft.irfft(torch.complex(real, imaginary), n=n_fft) * window
    overlap = n_fft // hop
    # Overlap-add without a loop over frames: piece k of every frame lands k hops later.
    pieces = [
        F.pad(piece, (0, 0, k, overlap - 1 - k)) for k, piece in enumerate(frames.split(hop, dim=-1))
    ]  # [B, T + 3, hop] each
    samples = torch.stack(pieces).sum(0) if not torch.onnx.is_in_onnx_export() else sum(pieces[1:], pieces[0])
    samples = samples.reshape(samples.shape[0], 1, -1)
    trim = (n_fft - hop) // 2
    return samples[..., trim:-trim]


def inverse_dft(real: Tensor, imaginary: Tensor, n_fft: int) -> Tensor:
    """The inverse real Fourier transform as matrix products, with a basis that an exported graph computes.

    Even and odd bins are transformed apart into the first half of a frame: their sum is that half and their
    difference the second, because bin k turns by k half circles over half a frame. That halves the
    multiplications.
    """
    halves = [
        real[..., first::2] @ InverseBasis.apply(n_fft, first, True)
        - imaginary[..., first::2] @ InverseBasis.apply(n_fft, first, False)
        for first in (0, 1)
    ]
    return torch.cat([halves[0] + halves[1], halves[0] - halves[1]], dim=-1)


class InverseBasis(torch.autograd.Function):
    """Rows k = first, first + 2, ... of the inverse transform's cosines or sines, over half a frame.

    An exporter would store the finished matrix (megabytes); `symbolic` writes the few operators that make it,
    which a runtime evaluates once when it loads the graph.
    """

    @staticmethod
    def forward(ctx, n_fft: int, first: int, cosine: bool) -> Tensor:
        bins, steps = torch.arange(first, n_fft // 2 + 1, 2), torch.arange(n_fft // 2)
        # The angle is reduced to one circle while it is still an exact integer.
        angle = (bins[:, None] * steps[None, :] % n_fft).float() * (2 * math.pi / n_fft)
        # Every bin but the first and the last stands for its mirror image too.
        weight = torch.where((bins == 0) | (bins == n_fft // 2), 1.0, 2.0)[:, None] / n_fft
        return weight * (angle.cos() if cosine else angle.sin())

    @staticmethod
    def symbolic(g, n_fft: int, first: int, cosine: bool):
        bins = g.op("Unsqueeze", counted(g, first, n_fft // 2 + 1, 2), constant(g, [1]))
        turns = g.op("Mod", g.op("Mul", bins, counted(g, 0, n_fft // 2, 1)), constant(g, n_fft))
        angle = g.op("Mul", g.op("Cast", turns, to_i=1), constant(g, 2 * math.pi / n_fft))
        inner = g.op("Mod", bins, constant(g, n_fft // 2))  # 0 for the first and the last bin only
        doubled = g.op("Cast", g.op("Cast", inner, to_i=9), to_i=1)
        weight = g.op("Div", g.op("Add", doubled, constant(g, 1.0)), constant(g, float(n_fft)))
        return g.op("Mul", weight, g.op("Cos" if cosine else "Sin", angle))


def synthesis_window(n_fft: int, device: torch.device | None = None) -> Tensor:
    """[n_fft]: four squared Hann windows at a quarter-window hop add up to 1.5."""
    return torch.hann_window(n_fft, device=device) / 1.5


class SynthesisWindow(torch.autograd.Function):
    """The periodic Hann window over its overlap-added square: [n_fft]. In ONNX the operators that make it."""

    @staticmethod
    def forward(ctx, n_fft: int) -> Tensor:
        return synthesis_window(n_fft)

    @staticmethod
    def symbolic(g, n_fft: int):
        angle = g.op("Mul", g.op("Cast", counted(g, 0, n_fft, 1), to_i=1), constant(g, 2 * math.pi / n_fft))
        return g.op("Mul", g.op("Sub", constant(g, 1.0), g.op("Cos", angle)), constant(g, 0.5 / 1.5))


def constant(g, value):
    """A constant in an exported graph."""
    return g.op("Constant", value_t=torch.tensor(value))


def counted(g, start: int, end: int, step: int):
    """The numbers from `start` to below `end` in an exported graph.

    The exporter works constants out before it writes them, but takes no remainders: this Mod changes no value and
    keeps all that is made of these numbers out of the file.
    """
    kept = g.op("Mod", constant(g, end), constant(g, end + 1))
    return g.op("Range", constant(g, start), kept, constant(g, step))
