"""The flow of VITS: samples of the text's prior to the latent frames the decoder speaks.

Affine couplings (mean only) whose means come from small WaveNets. A voice only ever runs them backwards, so that is
the direction of `forward` here.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ttsopt_lib.networks.config import VitsConfig


class WaveNet(nn.Module):
    """Gated dilated convolutions with residual and skip paths (van den Oord et al. 2016)."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        channels, kernel, dilations = config.flow_channels, config.flow_kernel, config.flow_dilations
        layers = len(dilations)
        if config.speaker_channels:
            self.cond_layer = nn.Conv1d(config.speaker_channels, 2 * channels * layers, 1)
        self.in_layers = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, kernel, dilation=d, padding=(kernel - 1) * d // 2) for d in dilations
        )
        # The last layer feeds no other, so it has a skip path only.
        self.res_skip_layers = nn.ModuleList(
            nn.Conv1d(channels, channels if layer == layers - 1 else 2 * channels, 1) for layer in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None = None) -> Tensor:
        """`x` [batch, channels, frames], `mask` [batch, 1, frames] to the sum of the skip paths, masked."""
        # Widths come from the layers, not from how the network was made: pruning changes them.
        layers = cast(list[nn.Conv1d], list(self.in_layers))
        *inner, last = cast(list[nn.Conv1d], list(self.res_skip_layers))
        gates = [layer.out_channels for layer in layers]
        conditions = None if g is None else self.cond_layer(g).split(gates, dim=1)
        skipped = None
        for index, layer in enumerate(layers):
            h = layer(x)
            if conditions is not None:
                h = h + conditions[index]
            signal, gate = h.split(layer.out_channels // 2, dim=1)
            h = torch.tanh(signal) * torch.sigmoid(gate)
            if index < len(inner):
                out = inner[index](h)
                residual, skip = out.split([inner[index].out_channels - last.out_channels, last.out_channels], dim=1)
                x = (x + residual) * mask
            else:
                skip = last(h)
            skipped = skip if skipped is None else skipped + skip
        assert skipped is not None, "a WaveNet has at least one layer"
        return skipped * mask


class Coupling(nn.Module):
    """Inverse of one coupling: the first half of the channels says what to subtract from the second."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.pre = nn.Conv1d(config.latent_channels // 2, config.flow_channels, 1)
        self.enc = WaveNet(config)
        self.post = nn.Conv1d(config.flow_channels, config.latent_channels // 2, 1)

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None = None) -> Tensor:
        """[batch, latent_channels, frames] to the same shape."""
        first, second = x.split([self.pre.in_channels, self.post.out_channels], dim=1)
        mean = self.post(self.enc(self.pre(first) * mask, mask, g)) * mask
        return torch.cat([first, (second - mean) * mask], dim=1)


class Flip(nn.Module):
    """Reverses the channels, so that the next coupling changes the other half."""

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None = None) -> Tensor:
        """[batch, latent_channels, frames] to the same shape."""
        return x.flip(1)


class Flow(nn.Module):
    """Couplings with flips between them, run from the last to the first."""

    def __init__(self, config: VitsConfig):
        super().__init__()
        self.flows = nn.ModuleList()
        for _ in range(config.flow_couplings):
            self.flows.extend([Coupling(config), Flip()])

    def forward(self, z_p: Tensor, mask: Tensor, g: Tensor | None = None) -> Tensor:
        """Prior samples `z_p` [batch, latent_channels, frames] to latent frames of the same shape."""
        for layer in reversed(self.flows):
            z_p = layer(z_p, mask, g)
        return z_p
