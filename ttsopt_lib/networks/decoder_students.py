"""The roads to a decoder that costs little, as students of a HiFi-GAN decoder.

All end in an inverse Fourier transform, and differ in how much they must find out by themselves:

- `IstftDecoder` (`ttsopt_lib.networks.istft`) works at frame rate and has to find pitch and phase;
- `KeptStageDecoder` keeps the teacher's first upsampling stage, in which pitch and phase are decided, and replaces what
  comes after it (the idea of iSTFTNet, Kaneko et al. 2022, https://arxiv.org/abs/2203.02395);
- `SourceFilterDecoder` predicts the pitch, is given pulses at it, and shapes their spectrum; a free part is added to it
  (as in a harmonic-plus-noise vocoder, Wang et al. 2019, https://arxiv.org/abs/1904.12088).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ttsopt_lib.networks.convnext import ConvNeXtBlock, small_linear_weights
from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder
from ttsopt_lib.networks.istft import (
    LOG_MAGNITUDE_RANGE,
    InverseBasis,
    IstftDecoder,
    IstftDecoderConfig,
    IstftHead,
    SynthesisWindow,
    inverse_stft,
)

CYCLES_RANGE = (0.0015, 0.025)  # of the pitch, per sample: 33 to 551 Hz at 22 050 Hz
COMMON_CYCLES = 0.005  # where a pitch begins to learn: 110 Hz at 22 050 Hz
PULSE_WIDTH = 0.2  # cycles per sample at which a pulse's harmonics have fallen to exp(-1/2): 4.4 kHz at 22 050 Hz


PIPER_MEDIUM = HifiGanConfig(
    latent_channels=192,
    initial_channels=256,
    upsample_rates=(8, 8, 4),
    upsample_kernels=(16, 16, 8),
    block_type=2,
    block_kernels=(3, 5, 7),
    block_dilations=((1, 2), (2, 6), (3, 12)),
)


@dataclass(frozen=True)
class KeptStageConfig:
    """Sizes of a `KeptStageDecoder`: the teacher's first stage, and what follows it at that stage's rate.

    `stage` describes the teacher, of which one upsampling is kept (by default a Piper `medium` voice's); `hop` is
    samples per row after it.
    """

    stage: HifiGanConfig = PIPER_MEDIUM
    inner_channels: int = 256
    blocks: int = 4
    kernel_size: int = 7
    road: Literal["kept_stage"] = "kept_stage"

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd to keep the number of rows, got {self.kernel_size}")

    @property
    def latent_channels(self) -> int:
        return self.stage.latent_channels

    @property
    def channels(self) -> int:
        """After the stage that is kept."""
        return self.stage.initial_channels // 2

    @property
    def hop(self) -> int:
        return self.stage.hop_length // self.stage.upsample_rates[0]

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates for one latent frame, as the exported graph does them."""
        stage, rate, bins = self.stage, self.stage.upsample_rates[0], 2 * self.hop + 1
        before = 7 * stage.latent_channels * stage.initial_channels
        upsampling = stage.initial_channels * self.channels * stage.upsample_kernels[0]
        kernels = sum(
            kernel * len(dilations)
            for kernel, dilations in zip(stage.block_kernels, stage.block_dilations, strict=True)
        )
        residual = kernels * (2 if stage.block_type == 1 else 1) * self.channels**2
        block = self.kernel_size * self.channels + 2 * self.channels * self.inner_channels
        head = 3 * bins * self.channels + 2 * bins * 2 * self.hop
        return before + upsampling + rate * (residual + self.blocks * block + head)


class KeptStageDecoder(nn.Module):
    """Drop-in for a HiFi-GAN decoder: its own first stage, ConvNeXt blocks at that rate, one inverse transform.

    `z`: [B, latent_channels, T]; `g`: [B, speaker_channels, 1] where the voice has speakers. Returns [B, 1, T * hop].
    """

    def __init__(self, config: KeptStageConfig):
        super().__init__()
        self.config = config
        whole = HifiGanDecoder(config.stage)
        self.conv_pre = whole.conv_pre
        self.cond = whole.cond if config.stage.speaker_channels else None
        self.ups = whole.ups[:1]
        self.resblocks = whole.resblocks[: len(whole.resblocks) // len(whole.ups)]
        self.norm_pre = nn.LayerNorm(config.channels, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.channels, config.inner_channels, config.kernel_size, 1 / config.blocks)
            for _ in range(config.blocks)
        )
        self.norm_post = nn.LayerNorm(config.channels, eps=1e-6)
        self.head = IstftHead(config.channels, 4 * config.hop, config.hop)
        small_linear_weights(self)

    def forward(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        x = self.conv_pre(z)
        if self.cond is not None:
            if g is None:
                raise ValueError("this decoder is for a multi-speaker voice: pass the speaker embedding g")
            x = x + self.cond(g)
        x = self.ups[0](F.leaky_relu(x, self.config.stage.slope))
        total = self.resblocks[0](x)
        for block in self.resblocks[1:]:
            total = total + block(x)
        x = self.norm_pre((total / len(self.resblocks)).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm_post(x))


@dataclass(frozen=True)
class SourceFilterConfig(IstftDecoderConfig):
    """Sizes of a `SourceFilterDecoder`."""

    blocks: int = 7
    road: Literal["source_filter"] = "source_filter"

    @property
    def macs_per_frame(self) -> int:
        bins = self.n_fft // 2 + 1
        return super().macs_per_frame + (3 * bins + 1) * self.channels + bins * self.n_fft


class PulseHead(IstftHead):
    """An `IstftHead` that is given a pulse for every period of the voice and learns to shape their spectrum.

    A spectrum is `free + filter * pulses`: `free` is what an `IstftHead` makes, `filter` a magnitude and a free
    complex factor per bin, `pulses` the spectrum of a pulse train at the pitch that `pitch` predicts. Nothing is
    learned through the pulses' positions: the pitch learns from pitch alone.
    """

    def __init__(self, channels: int, n_fft: int, hop: int):
        super().__init__(channels, n_fft, hop)
        self.pitch = nn.Linear(channels, 1)
        self.filter = nn.Linear(channels, 3 * self.bins)

    def forward(self, x: Tensor) -> Tensor:
        return self.speak(x)[0]

    def speak(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] to the waveform [B, 1, T * hop] and the logarithm of the pitch in cycles per sample [B, T]."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            log_pitch = (self.pitch(x)[..., 0] + math.log(COMMON_CYCLES)).clamp(*map(math.log, CYCLES_RANGE))
            source_real, source_imaginary = spectra(
                pulse_train(log_pitch.detach().exp(), self.hop), self.n_fft, self.hop
            )
            level, real, imaginary = self.filter(x).split(self.bins, dim=-1)
            gain = level.clamp(*LOG_MAGNITUDE_RANGE).exp()
            real, imaginary = gain * (1 + real), gain * imaginary
            free_real, free_imaginary = self.spectrum(x)
            samples = inverse_stft(
                free_real + real * source_real - imaginary * source_imaginary,
                free_imaginary + real * source_imaginary + imaginary * source_real,
                self.n_fft,
                self.hop,
            )
        return samples, log_pitch

    def pulse_level(self) -> Tensor:
        """Mean log magnitude of the pulses' spectra at a common pitch, smoothed over harmonics: [bins]."""
        cycles = torch.full((1, 50), COMMON_CYCLES, device=self.pitch.weight.device)
        real, imaginary = spectra(pulse_train(cycles, self.hop), self.n_fft, self.hop)
        power = (real.square() + imaginary.square())[:, 5:-5].mean((0, 1))
        apart = 2 * round(COMMON_CYCLES * self.n_fft) + 1
        return 0.5 * F.avg_pool1d(power[None], apart, 1, apart // 2, count_include_pad=False)[0].clamp_min(1e-6).log()


class SourceFilterDecoder(IstftDecoder):
    """An `IstftDecoder` whose spectra are those of pulses at the pitch, shaped, and a free part. Same interface."""

    head: PulseHead

    def __init__(self, config: SourceFilterConfig):
        super().__init__(config)
        self.head = PulseHead(config.channels, config.n_fft, config.hop)
        small_linear_weights(self.head)


def pulse_train(cycles: Tensor, hop: int) -> Tensor:
    """One smooth pulse a period. `cycles` per sample [B, T] at the middle of each frame -> [B, T * hop], of unit power
    where the pitch is steady.

    The phase runs on over unvoiced speech, so no pulse is ever cut.
    """
    # Linear between the middles of frames: half a hop is held at both ends.
    rise = (torch.arange(hop, device=cycles.device, dtype=cycles.dtype) + 0.5) / hop
    before = torch.cat([cycles[:, :1], cycles], dim=1).unsqueeze(-1)
    after = torch.cat([cycles, cycles[:, -1:]], dim=1).unsqueeze(-1)
    between = (before + (after - before) * rise).reshape(cycles.shape[0], -1)
    speed = between[:, hop // 2 : -(hop - hop // 2)]
    # Within frames first: a sum over a minute of samples would lose the pitch's last digits in float32.
    within = speed.reshape(cycles.shape[0], -1, hop).cumsum(2)
    whole = within[..., -1].cumsum(1) - within[..., -1]
    phase = (within + (whole - whole.floor()).unsqueeze(-1)).flatten(1)
    sharpness = (PULSE_WIDTH / speed).square()  # of a von Mises pulse: its harmonics fall as a Gaussian
    # cos(2a) - 1 as -2 sin(a)^2: near a pulse's middle the difference would have few digits left.
    pulse = (-2 * sharpness * (math.pi * phase).sin().square()).exp()
    return pulse * (4 * math.pi * sharpness).pow(0.25)


def spectra(samples: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary half spectra [B, T, n_fft / 2 + 1] of samples [B, T * hop].

    With a periodic Hann window; frame t is centred on sample (t + 1/2) * hop, as for `inverse_stft`. The basis is that
    of the inverse transform turned round, in which the first and the last bin count half: so they do here.
    """
    trim = (n_fft - hop) // 2
    pieces = F.pad(samples, (trim, trim)).reshape(samples.shape[0], -1, hop // 2)
    count = samples.shape[1] // hop
    parts = n_fft // (hop // 2)
    frames = torch.cat([pieces[:, k : k + 2 * count : 2] for k in range(parts)], dim=-1)
    if not torch.onnx.is_in_onnx_export():
        spectrum = torch.fft.rfft(frames * torch.hann_window(n_fft, device=samples.device))
        ends = spectrum[..., :1] / 2, spectrum[..., -1:] / 2
        spectrum = torch.cat([ends[0], spectrum[..., 1:-1], ends[1]], dim=-1)
        return spectrum.real, spectrum.imag
    frames = frames * (SynthesisWindow.apply(n_fft) * (1.5 * n_fft / 2))
    first, second = frames.chunk(2, dim=-1)
    # Even bins see the sum of both halves of a frame, odd bins the difference: the transform of `inverse_dft`, turned.
    halves = first + second, first - second
    real, imaginary = (
        [half @ InverseBasis.apply(n_fft, start, cosine).transpose(0, 1) for start, half in enumerate(halves)]
        for cosine in (True, False)
    )
    return interleaved(*real), -interleaved(*imaginary)


def interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """[B, T, n + 1] and [B, T, n] to [B, T, 2 n + 1], one after the other."""
    pairs = torch.stack([even[..., :-1], odd], dim=-1).flatten(-2)
    return torch.cat([pairs, even[..., -1:]], dim=-1)


DecoderStudent = IstftDecoder | KeptStageDecoder
DecoderStudentConfig = IstftDecoderConfig | SourceFilterConfig | KeptStageConfig


def new_decoder(config: DecoderStudentConfig) -> DecoderStudent:
    """A decoder of these sizes with fresh weights."""
    if isinstance(config, KeptStageConfig):
        return KeptStageDecoder(config)
    return SourceFilterDecoder(config) if isinstance(config, SourceFilterConfig) else IstftDecoder(config)
