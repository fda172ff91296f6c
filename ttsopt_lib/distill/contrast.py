"""Gives a student's spectra the contrast of its teacher's, by changing the last layer's weights: nothing is trained.

What a student cannot foresee it smooths: its log spectra lie nearer to their running mean over frequency than the
teacher's do (joe's between 1 and 4 kHz by 4 %), so that harmonics stand out less. Parametric synthesis knows this fault
as over-smoothing, and mends it by matching the variance. The log magnitudes of the student's head are a linear function
of the features before them. So their distance from the running mean can be stretched by weights alone, and the voice
costs as much as before.

How far is measured and not chosen: contrast is the root mean square of a frame's log spectrum about its running mean,
over loud frames, in bands of a kilohertz. Each band is stretched until the student's equals the teacher's on the same
latents. No predictor of quality is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ttsopt_lib.distill.losses import POWER_FLOOR, unit_gain_stft
from ttsopt_lib.distill.utterances import Utterance
from ttsopt_lib.networks.istft import IstftDecoder, IstftHead

MEAN_HZ = 450.0  # width of the running mean: a few harmonics
BAND_HZ = 1000.0
LOUD = 1e-2  # power of a frame against the loudest: what is softer is mostly noise, which has a contrast of its own
TRIAL = 0.3  # first stretch, to see how much of the contrast the log magnitudes decide
LEAST_SLOPE = 0.03  # contrast per stretch below which they decide nothing
STRETCHES = (-0.3, 0.6)  # the least and the most
ROUNDS = 2  # of the secant method; the first comes within a hundredth

Speak = Callable[[Utterance], Tensor]


def match_contrast(
    decoder: IstftDecoder, speak: Speak, utterances: Sequence[Utterance], sample_rate: int
) -> list[dict[str, float]]:
    """Stretch a decoder's log magnitudes, in place, until its spectra have its teacher's contrast.

    Args:
        decoder: the student.
        speak: makes the waveform [1, 1, samples] of an utterance with that decoder.
        utterances: what the teacher said.
        sample_rate: Hz.

    Returns:
        for each band: its upper end in Hz (`up_to_hz`), the student's contrast over the teacher's before and after, and
        the stretch. Nothing, and nothing is changed, where there is no sound to compare.
    """
    head = decoder.head
    bands = bands_of(head, sample_rate)
    mean = running_mean(head, sample_rate)
    plain = head.projection.weight.detach()[: head.bins].clone()
    fine = plain - mean.to(plain) @ plain
    teacher = contrast([one.samples for one in utterances], utterances, head, bands, mean)
    if not teacher.all():
        return []
    width = sample_rate / head.n_fft
    centres = np.array([width * (np.flatnonzero(band).mean()) for band in bands])

    def measured(stretch: np.ndarray) -> np.ndarray:
        by_bin = np.interp(width * np.arange(head.bins), centres, stretch)
        with torch.no_grad():
            head.projection.weight[: head.bins] = plain + torch.from_numpy(by_bin).to(plain)[:, None] * fine
            made = [speak(one)[0, 0] for one in utterances]
        return contrast(made, utterances, head, bands, mean) / teacher

    stretch = np.zeros(len(bands))
    before = now = measured(stretch)
    if not np.isfinite(before).all():
        return []
    slope = (measured(stretch + TRIAL) - before) / TRIAL
    decides = slope > LEAST_SLOPE
    for _ in range(ROUNDS):
        step = np.divide(1 - now, slope, out=np.zeros_like(slope), where=decides)
        stretch = np.clip(stretch + step, *STRETCHES)
        now = measured(stretch)
    if not np.isfinite(now).all():
        with torch.no_grad():
            head.projection.weight[: head.bins] = plain
        return []
    last = [width * np.flatnonzero(band)[-1] for band in bands]
    return [
        {"up_to_hz": round(float(hz)), "before": round(float(was), 4), "after": round(float(become), 4),
         "stretch": round(float(by), 4)}
        for hz, was, become, by in zip(last, before, now, stretch, strict=True)
    ]  # fmt: skip


def contrast(
    waveforms: Sequence[Tensor], utterances: Sequence[Utterance], head: IstftHead, bands: np.ndarray, mean: Tensor
) -> np.ndarray:
    """Root mean square of log spectra about their running mean, band by band, in the teacher's loud frames."""
    squares, frames = np.zeros(len(bands)), 0
    per_bin = bands / bands.sum(axis=1, keepdims=True)
    for waveform, utterance in zip(waveforms, utterances, strict=True):
        heard, said = (
            unit_gain_stft(samples[None].float(), head.n_fft, head.hop)[0].abs().square().T
            for samples in (waveform, utterance.samples.to(waveform.device))
        )
        power = said.sum(1)
        log = (heard[power > LOUD * power.max()] + POWER_FLOOR).log() / 2
        squares += per_bin @ (log - log @ mean.to(log).T).square().sum(0).cpu().numpy()
        frames += len(log)
    return np.sqrt(squares / max(frames, 1))


def bands_of(head: IstftHead, sample_rate: int) -> np.ndarray:
    """[bands, bins] of zeros and ones: which bins are in each band; what is left above whole ones joins the last."""
    hz = np.arange(head.bins) * sample_rate / head.n_fft
    count = max(1, int(sample_rate / 2 // BAND_HZ))
    number = np.minimum(hz // BAND_HZ, count - 1)
    return (number == np.arange(count)[:, None]).astype(float)


def running_mean(head: IstftHead, sample_rate: int) -> Tensor:
    """[bins, bins]: each row has the mean of the bins that are within half of `MEAN_HZ`."""
    reach = max(1, round(MEAN_HZ / 2 * head.n_fft / sample_rate))
    bins = torch.arange(head.bins)
    near = ((bins[:, None] - bins).abs() <= reach).float()
    return near / near.sum(1, keepdim=True)
