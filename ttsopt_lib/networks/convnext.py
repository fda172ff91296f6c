"""The blocks that students are built from: ConvNeXt over time, and attention over a sentence.

ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545) in one dimension, as Vocos uses it (Siuzdak 2023,
https://arxiv.org/abs/2306.00814). Almost all of its arithmetic is two matrix products per row, which every runtime
does fast and quantizes well. Rows are frames or phonemes and lie in memory as [B, T, C].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAY_BE_NONE = ("speaker_channels", "noise_channels")  # sizes


def check_sizes(config: Any) -> None:
    """Raises ValueError where a network cannot have a size, or where a kernel would change the number of rows."""
    for name, size in vars(config).items():
        least = 0 if name in MAY_BE_NONE else 1
        if isinstance(size, int) and not isinstance(size, bool) and size < least:
            raise ValueError(f"{name} must be {least} or more, got {size}")
    if config.kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd to keep the number of rows, got {config.kernel_size}")


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer perceptron per row, added to the input.

    `x` [B, T, C] to the same shape; `mask` [B, T, 1], where given, is 0 on rows that are padding.
    """

    def __init__(self, channels: int, inner_channels: int, kernel_size: int, scale: float):
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, inner_channels)
        self.contract = nn.Linear(inner_channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = F.gelu(self.expand(self.norm(self.convolve(x if mask is None else x * mask))))
        if torch.onnx.is_in_onnx_export():
            # The same with the scale worked into the weights: the exporter multiplies these out.
            scale = self.scale
            return x + F.linear(y, scale[:, None] * self.contract.weight, scale * self.contract.bias)
        return x + self.scale * self.contract(y)

    def convolve(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        # The same convolution as a 2-D one over [B, C, T, 1] whose memory order is already [B, T, C]: no copies.
        weight = self.depthwise.weight.unsqueeze(-1)
        y = F.conv2d(
            x.transpose(1, 2).unsqueeze(-1), weight, self.depthwise.bias,
            padding=(weight.shape[2] // 2, 0), groups=x.shape[-1],
        )  # fmt: skip
        return y.squeeze(-1).transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head attention over a sentence after a layer norm, added to the input.

    It is told no positions: the convolutions around it know them. `x` [B, T, C] to the same shape; `key_bias`
    [B, 1, 1, T] is added to every score (0 on real rows, very negative on padding).
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, key_bias: Tensor) -> Tensor:
        batch, time, channels = x.shape
        heads = self.query_key_value(self.norm(x)).reshape(batch, time, 3, self.heads, channels // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) * (channels // self.heads) ** -0.5
        mixed = torch.softmax(scores + key_bias, dim=-1) @ value
        return x + self.out(mixed.transpose(1, 2).reshape(batch, time, channels))


def small_linear_weights(network: nn.Module) -> None:
    """Start every linear layer of a student small, with no bias."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
