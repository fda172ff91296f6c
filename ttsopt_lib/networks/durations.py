"""How long each phoneme lasts: the two duration predictors of VITS.

The stochastic one (Kim et al. 2021, https://arxiv.org/abs/2106.06103, section 2.2.2) turns noise into log durations by
inverting neural spline flows (Durkan et al. 2019, https://arxiv.org/abs/1906.04032). Only that direction is here, and
only the parts of the network it uses: the posterior flows and the one coupling that the reference code skips at
inference are not in a Piper voice either.

The spline is computed for every element and selected afterwards. The reference code picks the elements inside the
interval with a boolean mask; that is the same numbers, but costs an ONNX graph some 600 nodes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ttsopt_lib.networks.config import VitsConfig

_MIN_BIN = 1e-3
_MIN_DERIVATIVE = 1e-3


def _edges(unnormalized: Tensor, bins: int, bound: float) -> tuple[Tensor, Tensor]:
    """Bin edges over [-bound, bound] and bin sizes, from [..., bins] to [..., bins + 1] and [..., bins]."""
    sizes = _MIN_BIN + (1 - _MIN_BIN * bins) * torch.softmax(unnormalized, dim=-1)
    inner = 2 * bound * torch.cumsum(sizes, dim=-1)[..., :-1] - bound
    edges = F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)
    return edges, edges[..., 1:] - edges[..., :-1]


def inverse_spline(y: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, bins: int, bound: float) -> Tensor:
    """Invert a monotonic rational-quadratic spline; the identity outside [-bound, bound].

    Args:
        y: values to invert, any shape.
        widths, heights: unnormalized bin sizes, [*y.shape, bins].
        derivatives: unnormalized slopes at the inner edges, [*y.shape, bins - 1].
        bins: number of bins.
        bound: half the length of the interval.

    Returns:
        x with spline(x) = y, the shape of `y`.
    """
    inside = (y >= -bound) & (y <= bound)
    clamped = y.clamp(-bound, bound)

    x_edges, x_sizes = _edges(widths, bins, bound)
    y_edges, y_sizes = _edges(heights, bins, bound)
    # The slope at both ends is 1, so that the spline joins the identity smoothly.
    edge_slope = math.log(math.exp(1 - _MIN_DERIVATIVE) - 1)
    slopes = _MIN_DERIVATIVE + F.softplus(F.pad(derivatives, (1, 1), value=edge_slope))
    chords = y_sizes / x_sizes

    lower_edges = y_edges[..., :-1]
    index = (clamped.unsqueeze(-1) >= lower_edges).sum(-1, keepdim=True) - 1

    def in_bin(table: Tensor) -> Tensor:
        return torch.gather(table, -1, index).squeeze(-1)

    x_left, x_size = in_bin(x_edges[..., :-1]), in_bin(x_sizes)
    y_left, y_size = in_bin(lower_edges), in_bin(y_sizes)
    chord, slope_left, slope_right = in_bin(chords), in_bin(slopes[..., :-1]), in_bin(slopes[..., 1:])

    above = clamped - y_left
    bend = slope_left + slope_right - 2 * chord
    a = above * bend + y_size * (chord - slope_left)
    b = y_size * slope_left - above * bend
    c = -chord * above
    root = 2 * c / (-b - torch.sqrt(b * b - 4 * a * c))
    return torch.where(inside, root * x_size + x_left, y)


class DilatedSeparable(nn.Module):
    """Depthwise convolutions with growing dilation, each with a pointwise one, layer norms, GELU and a residual."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        channels, kernel = config.hidden_channels, config.duration_kernel
        dilations = [kernel**layer for layer in range(config.duration_layers)]
        self.convs_sep = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, groups=channels, dilation=d, padding=(kernel - 1) * d // 2)
            for d in dilations
        )
        self.convs_1x1 = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in dilations)
        self.norms_1 = nn.ModuleList(nn.LayerNorm(channels) for _ in dilations)
        self.norms_2 = nn.ModuleList(nn.LayerNorm(channels) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x` [batch, channels, time], `mask` [batch, 1, time] to the shape of `x`."""
        for separable, pointwise, norm_1, norm_2 in zip(
            self.convs_sep, self.convs_1x1, self.norms_1, self.norms_2, strict=True
        ):
            y = F.gelu(norm_1(separable(x * mask).transpose(1, 2))).transpose(1, 2)
            x = x + F.gelu(norm_2(pointwise(y).transpose(1, 2))).transpose(1, 2)
        return x * mask


class SplineCoupling(nn.Module):
    """Inverse of one spline coupling: the first half of the pair says how to bend the second."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.bins = config.duration_bins
        self.bound = config.duration_bound
        self.bin_scale = math.sqrt(config.hidden_channels)
        self.pre = nn.Conv1d(1, config.hidden_channels, 1)
        self.convs = DilatedSeparable(config)
        self.proj = nn.Conv1d(config.hidden_channels, 3 * self.bins - 1, 1)

    def forward(self, first: Tensor, second: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """`first`, `second`, `mask` [batch, 1, time], `condition` [batch, channels, time]; returns the new second."""
        h = self.convs(self.pre(first) + condition, mask)
        h = (self.proj(h) * mask).transpose(1, 2).unsqueeze(1)
        widths, heights, derivatives = h.split([self.bins, self.bins, self.bins - 1], dim=-1)
        bent = inverse_spline(
            second, widths / self.bin_scale, heights / self.bin_scale, derivatives, self.bins, self.bound
        )
        return bent * mask


class InverseAffine(nn.Module):
    """Inverse of the elementwise affine layer: (x - m) * scale, where scale = exp(-log scale)."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(2, 1))
        self.scale = nn.Parameter(torch.ones(2, 1))

    def forward(self, first: Tensor) -> Tensor:
        """The first half of the pair, [batch, 1, time]; the second is not needed any more."""
        return (first - self.m[0]) * self.scale[0]


class StochasticDurationPredictor(nn.Module):
    """Noise to log durations, given the text."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        channels = config.hidden_channels
        self.pre = nn.Conv1d(channels, channels, 1)
        if config.speaker_channels:
            self.cond = nn.Conv1d(config.speaker_channels, channels, 1)
        self.convs = DilatedSeparable(config)
        self.proj = nn.Conv1d(channels, channels, 1)
        self.flows = nn.ModuleDict({"0": InverseAffine()})
        for position in sorted(config.duration_couplings):
            self.flows[str(position)] = SplineCoupling(config)

    def forward(self, hidden: Tensor, mask: Tensor, noise: Tensor, g: Tensor | None = None) -> Tensor:
        """Predict log durations.

        Args:
            hidden: the encoder's hidden states [batch, channels, time].
            mask: [batch, 1, time].
            noise: [batch, 2, time], already scaled.
            g: speaker embedding [batch, speaker_channels, 1], where there are speakers.

        Returns:
            log of the frames each phoneme lasts, [batch, 1, time].
        """
        x = self.pre(hidden)
        if g is not None:
            x = x + self.cond(g)
        condition = self.proj(self.convs(x, mask)) * mask
        first, second = noise.split(1, dim=1)
        affine, *couplings = self.flows.values()
        for coupling in reversed(couplings):
            first, second = second, coupling(second, first, condition, mask)
        return affine(second) * mask


class DurationPredictor(nn.Module):
    """Log durations by two convolutions, without noise."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        channels, inner, kernel = config.hidden_channels, config.duration_inner, config.duration_kernel
        if config.speaker_channels:
            self.cond = nn.Conv1d(config.speaker_channels, channels, 1)
        self.conv_1 = nn.Conv1d(channels, inner, kernel, padding=kernel // 2)
        self.norm_1 = nn.LayerNorm(inner)
        self.conv_2 = nn.Conv1d(inner, inner, kernel, padding=kernel // 2)
        self.norm_2 = nn.LayerNorm(inner)
        self.proj = nn.Conv1d(inner, 1, 1)

    def forward(self, hidden: Tensor, mask: Tensor, g: Tensor | None = None) -> Tensor:
        """`hidden` [batch, channels, time], `mask` [batch, 1, time] to log frames per phoneme, [batch, 1, time]."""
        x = hidden if g is None else hidden + self.cond(g)
        x = self.norm_1(torch.relu(self.conv_1(x * mask)).transpose(1, 2)).transpose(1, 2)
        x = self.norm_2(torch.relu(self.conv_2(x * mask)).transpose(1, 2)).transpose(1, 2)
        return self.proj(x * mask) * mask
