"""The HiFi-GAN decoder."""

import pytest
import torch
from piper.train.vits.models import Generator

from ttsopt_lib.networks.hifigan import HifiGanConfig, HifiGanDecoder

CONFIGS = {
    "type 1": HifiGanConfig(12, 32, (8, 8, 2, 2), (16, 16, 4, 4), 1, (3, 7, 11), ((1, 3, 5),) * 3),
    "type 2": HifiGanConfig(12, 32, (8, 8, 4), (16, 16, 8), 2, (3, 5, 7), ((1, 2), (2, 6), (3, 12))),
    "type 2 with speakers": HifiGanConfig(
        12, 32, (8, 8, 4), (16, 16, 8), 2, (3, 5, 7), ((1, 2), (2, 6), (3, 12)), speaker_channels=6
    ),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_decoder_speaks_what_pipers_own_generator_speaks(kind):
    config = CONFIGS[kind]
    torch.manual_seed(0)
    theirs = Generator(
        config.latent_channels,
        str(config.block_type),
        config.block_kernels,
        config.block_dilations,
        config.upsample_rates,
        config.initial_channels,
        config.upsample_kernels,
        config.speaker_channels,
    ).eval()
    theirs.remove_weight_norm()
    ours = HifiGanDecoder(config).eval()
    # Layer names are the same, so the weights fit without translation.
    ours.load_state_dict(theirs.state_dict())
    z = torch.randn(2, config.latent_channels, 9)
    g = torch.randn(2, config.speaker_channels, 1) if config.speaker_channels else None
    with torch.inference_mode():
        waveform = ours(z, g)
        assert waveform.shape == (2, 1, 9 * config.hop_length) and config.hop_length == 256
        assert torch.allclose(waveform, theirs(z, g), atol=1e-6)
