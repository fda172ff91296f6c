"""A whole VITS voice, stage by stage: encode, durations, expand, flow, decode.

The stages are apart because everything here is done by stage: timing, pruning, quantizing, and putting a student in
the place of the decoder. Noise and durations can be handed in, so that two variants speak with the same of both and
differ only in what was done to them.

The layers are those of `transformers.VitsModel` (a test holds this model against it), under the names of the VITS
reference code, which are also the names in a Piper graph. The code is our own because `VitsModel` cannot be exported
at a dynamic text length, takes its sizes from a config and not from its layers (so a pruned one does not run), and has
no decoder for Piper's `low` and `medium` voices.
"""

import torch
from torch import Tensor, nn

from ttsopt_lib.networks.config import VitsConfig
from ttsopt_lib.networks.coupling import Flow
from ttsopt_lib.networks.durations import DurationPredictor, StochasticDurationPredictor
from ttsopt_lib.networks.hifigan import HifiGanDecoder
from ttsopt_lib.networks.text_encoder import TextEncoder


class StagedVits(nn.Module):
    """A VITS voice whose stages can be run, measured and replaced one by one.

    Attributes:
        text_encoder, duration_predictor, flow: the stages before the decoder.
        decoder: any module with `forward(z, g=None)` that turns latent frames [batch, latent_channels, frames] into
            a waveform [batch, 1, frames * hop_length].
        speaker_embedding: `nn.Embedding`, or None for a single-speaker voice.
        hop_length: samples per latent frame.
    """

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.hop_length = config.decoder.hop_length
        self.speaker_embedding = nn.Embedding(config.speakers, config.speaker_channels) if config.speakers > 1 else None
        self.text_encoder = TextEncoder(config)
        predictor = StochasticDurationPredictor if config.stochastic_durations else DurationPredictor
        self.duration_predictor: nn.Module = predictor(config)
        self.flow = Flow(config)
        self.decoder: nn.Module = HifiGanDecoder(config.decoder)

    def speaker(self, sid: Tensor | None) -> Tensor | None:
        """Speaker ids, int64 [batch], to embeddings [batch, speaker_channels, 1]; None for a single-speaker voice.

        Raises:
            ValueError: if the voice has speakers and none was given.
        """
        if self.speaker_embedding is None:
            return None
        if sid is None:
            count = self.speaker_embedding.num_embeddings
            raise ValueError(f"this voice has {count} speakers: give sid, a number from 0 to {count - 1}")
        return self.speaker_embedding(sid).unsqueeze(-1)

    def encode(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Phoneme ids, int64 [batch, time], and their counts, int64 [batch], to hidden states
        [batch, hidden_channels, time], the prior's mean and log standard deviation [batch, latent_channels, time]
        and the mask [batch, 1, time]."""
        return self.text_encoder(ids, lengths)

    def durations(
        self,
        hidden: Tensor,
        mask: Tensor,
        noise: Tensor | None = None,
        length_scale: float | Tensor = 1.0,
        noise_w: float | Tensor = 0.8,
        g: Tensor | None = None,
    ) -> Tensor:
        """Frames each phoneme lasts: whole numbers, as float32 [batch, 1, time].

        `noise` is standard normal, [batch, 2, time] (drawn here if None; a deterministic predictor uses none); it is
        multiplied by `noise_w`, and the durations by `length_scale` before rounding up."""
        if isinstance(self.duration_predictor, DurationPredictor):
            log_frames = self.duration_predictor(hidden, mask, g)
        else:
            if noise is None:
                noise = torch.randn_like(hidden[:, :2])
            log_frames = self.duration_predictor(hidden, mask, noise * noise_w, g)
        return torch.ceil(torch.exp(log_frames) * mask * length_scale)

    def expand(self, mean: Tensor, log_std: Tensor, durations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Repeat each phoneme's prior for as many frames as it lasts.

        Args:
            mean, log_std: [batch, latent_channels, time].
            durations: whole frames per phoneme, [batch, 1, time].

        Returns:
            mean and log_std per frame [batch, latent_channels, frames] and the frame mask [batch, 1, frames], where
            `frames` is the longest row's.
        """
        ends = torch.cumsum(durations, dim=-1)
        counts = durations.sum(dim=(1, 2)).clamp_min(1.0)
        # A tensor as the end of the range keeps it dynamic in an exported graph; an int would be baked in.
        longest = counts.max().to(torch.int64)
        frames = torch.arange(longest, device=durations.device).to(durations.dtype)  # type: ignore[call-overload]
        mask = (frames < counts[:, None, None]).to(mean.dtype)
        # Picking is as exact as a product with a matrix of zeros and ones, and takes no sum over phonemes per channel.
        ended = (frames[:, None] >= ends).to(mean.dtype).sum(dim=-1)[:, None]  # phonemes before a frame: its own number
        spoken = (frames < ends[..., -1:]).to(mean.dtype)
        picked = (ended * spoken).to(torch.int64).expand(-1, mean.shape[1], -1)
        mean, log_std = (torch.gather(part, 2, picked) * spoken for part in (mean, log_std))
        return mean, log_std, mask

    def flow_inverse(self, z_p: Tensor, frame_mask: Tensor, g: Tensor | None = None) -> Tensor:
        """Prior samples [batch, latent_channels, frames] to masked latent frames of the same shape."""
        return self.flow(z_p, frame_mask, g) * frame_mask

    def decode(self, z: Tensor, g: Tensor | None = None) -> Tensor:
        """Latent frames [batch, latent_channels, frames] to a waveform [batch, 1, frames * hop_length]."""
        return self.decoder(z, g)

    def latent(
        self,
        ids: Tensor,
        lengths: Tensor,
        scales: Tensor,
        sid: Tensor | None = None,
        *,
        duration_noise: Tensor | None = None,
        prior_noise: Tensor | None = None,
        durations: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Everything before the decoder: what a student decoder learns from.

        Takes what `forward` takes. Returns the latent frames `z` [batch, latent_channels, frames] and the speaker
        embedding `g`."""
        noise_scale, length_scale, noise_w = scales[0], scales[1], scales[2]
        g = self.speaker(sid)
        hidden, mean, log_std, mask = self.encode(ids, lengths)
        if durations is None:
            durations = self.durations(hidden, mask, duration_noise, length_scale, noise_w, g)
        mean, log_std, frame_mask = self.expand(mean, log_std, durations.to(mean.dtype))
        if prior_noise is None:
            prior_noise = torch.randn_like(mean)
        z_p = mean + prior_noise * torch.exp(log_std) * noise_scale
        return self.flow_inverse(z_p, frame_mask, g), g

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        scales: Tensor,
        sid: Tensor | None = None,
        *,
        duration_noise: Tensor | None = None,
        prior_noise: Tensor | None = None,
        durations: Tensor | None = None,
    ) -> Tensor:
        """Speak, with the inputs and the output of a Piper ONNX voice.

        Args:
            ids: phoneme ids, int64 [batch, time].
            lengths: phonemes in each row, int64 [batch].
            scales: float32 [3]: noise scale, length scale, duration noise scale.
            sid: speaker ids, int64 [batch], where the voice has speakers.
            duration_noise: standard normal [batch, 2, time]; drawn if None.
            prior_noise: standard normal [batch, latent_channels, frames]; drawn if None.
            durations: whole frames per phoneme [batch, 1, time]; predicted if None.

        Returns:
            waveform, float32 [batch, 1, 1, samples].
        """
        given = {"duration_noise": duration_noise, "prior_noise": prior_noise, "durations": durations}
        z, g = self.latent(ids, lengths, scales, sid, **given)
        return self.decode(z, g).unsqueeze(1)
