"""The text encoder of VITS: phoneme ids to hidden states and the prior of the latent frames.

A transformer with relative positions (Shaw et al. 2018, https://arxiv.org/abs/1803.02155) and convolutional
feed-forward layers. `transformers.VitsModel` computes the same; this one reads every size from its own layers when it
runs, so that it survives pruning, and stays traceable at any text length: the relative terms are computed for the
2 * window + 1 distances that have an embedding, then moved into place by reshaping.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ttsopt_lib.networks.config import VitsConfig


def band_to_square(band: Tensor, zeros: Tensor, window: int) -> Tensor:
    """Spread per-distance scores over all pairs of positions.

    Args:
        band: [batch, heads, time, 2 * window + 1], entry k of row i belongs to position i + k - window.
        zeros: [batch, heads, time, time].
        window: the largest distance that has a score.

    Returns:
        [batch, heads, time, time], zero where the distance exceeds the window.
    """
    batch, _, time, _ = zeros.shape
    # Rows that are one element too long, laid end to end and cut again at the right length, slide one step per row.
    width = time + 2 * window
    rows = torch.cat([band, zeros], dim=-1).reshape(batch, -1, time * (width + 1))
    return rows[..., : time * width].reshape(batch, -1, time, width)[..., window : window + time]


def square_to_band(square: Tensor, zeros: Tensor, window: int) -> Tensor:
    """The inverse: the entries of `square` (the shape of `zeros`) that lie within the window,
    [batch, heads, time, 2 * window + 1]."""
    batch, _, time, _ = zeros.shape
    width = time + 2 * window
    rows = F.pad(square, (window, window, 0, 1)).reshape(batch, -1, (time + 1) * width)
    return rows[..., : time * (width + 1)].reshape(batch, -1, time, width + 1)[..., : 2 * window + 1]


class RelativeAttention(nn.Module):
    """Self-attention with an embedding for each distance up to `window`, for keys and for values."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.head_channels = config.head_channels
        self.window = config.window
        channels, inner, bias = config.hidden_channels, config.heads * config.head_channels, config.attention_bias
        self.conv_q = nn.Linear(channels, inner, bias=bias)
        self.conv_k = nn.Linear(channels, inner, bias=bias)
        self.conv_v = nn.Linear(channels, inner, bias=bias)
        self.conv_o = nn.Linear(inner, channels, bias=bias)
        self.emb_rel_k = nn.Parameter(torch.zeros(1, 2 * self.window + 1, self.head_channels))
        self.emb_rel_v = nn.Parameter(torch.zeros(1, 2 * self.window + 1, self.head_channels))

    def forward(self, x: Tensor, key_bias: Tensor) -> Tensor:
        """`x` [batch, time, channels] to the same shape; `key_bias` [batch, 1, 1, time] is added to every score."""
        # Every layer is given the same `key_bias`: an ONNX runtime works out sizes that come from it once for all.
        batch, _, _, time = key_bias.shape
        heads = self.conv_q.out_features // self.head_channels
        zeros = x.new_zeros((batch, heads, time, time))

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, time, heads, self.head_channels).transpose(1, 2)

        query = split(self.conv_q(x)) * self.head_channels**-0.5
        scores = torch.matmul(query, split(self.conv_k(x)).transpose(-2, -1))
        near = torch.matmul(query, self.emb_rel_k.transpose(-2, -1))
        weights = torch.softmax(scores + band_to_square(near, zeros, self.window) + key_bias, dim=-1)

        mixed = torch.matmul(weights, split(self.conv_v(x)))
        mixed = mixed + torch.matmul(square_to_band(weights, zeros, self.window), self.emb_rel_v)
        return self.conv_o(mixed.transpose(1, 2).reshape(batch, time, -1))


class FeedForward(nn.Module):
    """Two convolutions over time with a ReLU between."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        channels, inner, kernel = config.hidden_channels, config.encoder_inner, config.encoder_kernel
        # "same" also serves even kernels, but odd ones, which is all there is in practice, need no string at export.
        padding = "same" if kernel % 2 == 0 else kernel // 2
        self.conv_1 = nn.Conv1d(channels, inner, kernel, padding=padding)
        self.conv_2 = nn.Conv1d(inner, channels, kernel, padding=padding)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [batch, time, channels] to the same shape; `mask` [batch, 1, time] is 1 on real phonemes."""
        x = torch.relu(self.conv_1(x.transpose(1, 2) * mask))
        return (self.conv_2(x * mask) * mask).transpose(1, 2)


class Transformer(nn.Module):
    """Layers of attention and feed-forward, each followed by a sum and a layer norm."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        layers = range(config.encoder_layers)
        self.attn_layers = nn.ModuleList(RelativeAttention(config) for _ in layers)
        self.norm_layers_1 = nn.ModuleList(nn.LayerNorm(config.hidden_channels) for _ in layers)
        self.ffn_layers = nn.ModuleList(FeedForward(config) for _ in layers)
        self.norm_layers_2 = nn.ModuleList(nn.LayerNorm(config.hidden_channels) for _ in layers)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [batch, time, channels], `mask` [batch, 1, time] to [batch, time, channels]."""
        key_bias = ((mask - 1.0) * 1e4).unsqueeze(1)
        for attention, norm_1, feed_forward, norm_2 in zip(
            self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True
        ):
            x = norm_1(x + attention(x, key_bias))
            x = norm_2(x + feed_forward(x, mask))
        return x


class TextEncoder(nn.Module):
    """Phoneme ids to hidden states, and mean and log standard deviation of the prior."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.embedding_scale = math.sqrt(config.hidden_channels)
        self.emb = nn.Embedding(config.symbols, config.hidden_channels)
        self.encoder = Transformer(config)
        self.proj = nn.Conv1d(config.hidden_channels, 2 * config.latent_channels, 1)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode phonemes.

        Args:
            ids: phoneme ids, int64 [batch, time].
            lengths: real phonemes in each row, int64 [batch].

        Returns:
            hidden [batch, channels, time], prior mean and log standard deviation [batch, latent_channels, time], and
            the mask [batch, 1, time] that is 1 on real phonemes.
        """
        positions = torch.arange(ids.shape[1], device=ids.device)
        mask = (positions.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(1).to(self.proj.weight.dtype)
        x = self.encoder(self.emb(ids) * self.embedding_scale, mask)
        hidden = x.transpose(1, 2) * mask
        mean, log_std = (self.proj(hidden) * mask).split(self.proj.out_channels // 2, dim=1)
        return hidden, mean, log_std, mask
