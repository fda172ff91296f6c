"""Spectrograms of variants that speak the same sentence, and of what the optimization changed.

All speak with the same noise and the same durations (those of the first), so that a difference is what was done to
the voice and not a shift in time. Levels share one scale. Both colour maps rise steadily in lightness, so that a
figure reads in grey and for the colour-blind: bright is loud, and in a difference bright is louder than the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.signal.spectrum import HOP, N_FFT, log_power_db, log_spectral_distance_db
from ttsopt_lib.evaluate.signal.waveform import as_float, as_written
from ttsopt_lib.evaluate.speak import SpeechError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report import numbers
from ttsopt_lib.report.facts.findings import chosen_or_closest, listed
from ttsopt_lib.report.printing.plot_style import NARROW, WIDTH, Chart, new_figure, set_title
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.session import RuntimeFailure
from ttsopt_lib.voices.text import TextError

FLOOR, CEILING = -100.0, -10.0  # dB re full scale: below the floor, differences are not heard and not shown
LARGEST_CHANGE = 20.0  # dB
ROW_HEIGHT = 1.25  # inches
DPI = 150  # of the pictures inside the figure, which is vector otherwise
CHANGE_COLOURS = LinearSegmentedColormap.from_list(
    "change", ["#08204a", "#2f6fad", "#9d9d9d", "#f2b14c", "#fff6dc"], N=256
)


class Spoken(NamedTuple):
    """One variant's rendering of the sentence."""

    variant: str
    samples: NDArray[np.int16]  # [samples], levels untouched
    sample_rate: int  # Hz


def speak_together(study: Study, folder: StudyFolder, text: str, names: Sequence[str], seed: int = 0) -> list[Spoken]:
    """`text` spoken by each of the variants with the same noise and the durations of the first.

    Raises:
        StudyError: a name that is no variant of the study, a variant that was not made yet, or a text that gives
            no phonemes.
        SpeechError: a variant that gives NaN or infinite samples, or that ONNX Runtime cannot open or run.
    """
    for name in names:
        if name not in study.variant_names:
            raise StudyError(f"no variant {name!r} in study {study.name!r}; it has: {', '.join(study.variant_names)}")
        if not folder.model(name).is_file():
            raise StudyError(f"{folder.model(name)}: not there yet; run 'ttsopt optimize' first")
    models = [folder.model(name) for name in names]
    try:
        with ThreadPoolExecutor() as pool:  # a runtime prepares a model without holding up Python
            opened = list(pool.map(lambda model: (opened := open_model(model), opened.open()), models))
    except RuntimeFailure as error:
        raise SpeechError(str(error)) from None
    spoken, durations = [], None
    for name, model, (voice, session) in zip(names, models, opened, strict=True):
        try:
            ids = voice.utterance_ids(text)
        except TextError as error:
            raise StudyError(f"text: {error}") from None
        speaker = voice.speaker(study.voice.speaker)
        try:
            waveform, durations = session.speak(ids, seed=seed, durations=durations, scales=voice.scales, sid=speaker)
        except RuntimeFailure as error:
            raise SpeechError(f"{name} cannot speak {text[:60]!r}: {error}") from None
        if not np.isfinite(waveform).all():
            raise SpeechError(f"{model}: the voice gives NaN or infinite samples; make this variant anew")
        spoken.append(Spoken(name, as_written(waveform), voice.sample_rate))
    return spoken


def shown_variants(summary: Summary) -> list[str]:
    """The original, the optimized variant (or what came closest), and the one with the worst predicted MOS."""
    changes = {
        row.variant: row.predicted_mos.change.value
        for row in summary.quality
        if row.predicted_mos.change and row == summary.quality_of(row.variant) and row.variant != ORIGINAL
    }
    worst = [min(changes, key=lambda name: changes[name])] if changes else []
    return list(dict.fromkeys([ORIGINAL, *chosen_or_closest(summary)[:1], *worst]))


def study_spectrograms(summary: Summary, study: Study, folder: StudyFolder) -> tuple[Chart | None, str]:
    """The figure of the study's last listening example, or None and the reason why there is none."""
    names = shown_variants(summary)
    if len(names) < 2 or not summary.listening:
        return None, "no variant was chosen or scored, so there is nothing to compare"
    if missing := [name for name in names if not folder.model(name).is_file()]:
        return None, f"the model files of {listed(missing)} are not in this folder"
    text = summary.listening[-1]
    try:
        spoken = speak_together(study, folder, text, names)
    except SpeechError as error:
        return None, str(error)
    chart = spectrograms(spoken, text, same=summary.same)
    return chart._replace(narrow=spectrograms(spoken, text, NARROW).figure), ""


def spectrograms(
    spoken: Sequence[Spoken], text: str = "", width: float = WIDTH, same: str = "noise and durations"
) -> Chart:
    """A row for each rendering: its spectrogram, and its difference from the first one, over the same time.

    In a narrow figure all stand in one column, each difference below its spectrogram.
    """
    shortest = min(len(one.samples) for one in spoken)
    waveforms = [as_float(one.samples[:shortest]) for one in spoken]
    spectra = [log_power_db(waveform, FLOOR).T for waveform in waveforms]  # [bins, frames]
    seconds = shortest / spoken[0].sample_rate
    extent = (0.0, seconds, 0.0, spoken[0].sample_rate / 2000)
    placed: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent}

    figure, axes, bars = _panels(len(spoken), width)
    for row, (one, spectrum) in enumerate(zip(spoken, spectra, strict=True)):
        sound, difference = axes[row]
        sound.set_title(one.variant, loc="left", fontsize=7.5)
        sound.set_ylabel("frequency (kHz)")
        level = sound.imshow(spectrum, cmap="magma", vmin=FLOOR, vmax=CEILING, **placed)
        if row:
            difference.set_title(f"{one.variant} minus {spoken[0].variant}", loc="left", fontsize=7.5)
            limits = {"vmin": -LARGEST_CHANGE, "vmax": LARGEST_CHANGE}
            change = difference.imshow(spectrum - spectra[0], cmap=CHANGE_COLOURS, **limits, **placed)
    for axis in axes[-1] if width == WIDTH else axes[-1][1:]:
        axis.set_xlabel("time (s)")
    for place, image, label in zip(bars, (level, change), ("level (dB re full scale)", "difference (dB)"), strict=True):
        bar = figure.colorbar(image, cax=place, orientation="horizontal")
        bar.ax.tick_params(labelsize=6.5, length=2, width=0.5)
        bar.ax.set_title(label, fontsize=6.5, loc="left", pad=2)
        bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    distances = [log_spectral_distance_db(one, waveforms[0], spoken[0].sample_rate).mean() for one in waveforms[1:]]
    said = [
        f"{one.variant} {numbers.number(distance, 1)} dB" for one, distance in zip(spoken[1:], distances, strict=True)
    ]
    set_title(figure, f"Distance of the spectra from {spoken[0].variant}'s: {listed(said)}")
    alt = (
        f"Spectrograms over {seconds:.1f} seconds of {listed([one.variant for one in spoken])}, and their differences "
        f"from {spoken[0].variant}. Log-spectral distance: {listed(said)}."
    )
    sentence = f"\N{LEFT DOUBLE QUOTATION MARK}{text}\N{RIGHT DOUBLE QUOTATION MARK} " if text else ""
    caption = (
        f"{sentence}Same {same} for all. Spectrograms: brighter is louder. Differences: brighter is "
        f"louder than {spoken[0].variant}, darker is quieter, mid-grey is none. Hann window of {N_FFT} samples, hop "
        f"{HOP}; levels below {numbers.number(FLOOR)} dB are cut. The title gives log-spectral distances, as the "
        "tables do."
    )
    return Chart("spectrograms", figure, alt, caption)


def _panels(rows: int, width: float) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """An empty figure, the axes of each row (a spectrogram, and from the second on a difference), and the scales'."""
    wide = width == WIDTH
    shape = (rows, 2) if wide else (2 * rows, 1)
    figure, grid = new_figure(
        0.75 + ROW_HEIGHT * (rows if wide else 2 * rows - 0.5), width, nrows=shape[0], ncols=shape[1], sharex=True,
        sharey=True, height_ratios=None if wide else [1.0, 0.5, *[1.0] * (2 * rows - 2)],
    )  # fmt: skip
    figure.set_dpi(DPI)
    axes = grid.reshape(rows, 2).tolist()
    empty = axes[0][1]  # the first has no difference: there the scales stand
    empty.axis("off")
    places = (
        ((0.06, 0.58, 0.88, 0.13), (0.06, 0.10, 0.88, 0.13)) if wide else ((0, 0.3, 0.46, 0.2), (0.54, 0.3, 0.46, 0.2))
    )
    return figure, axes, [empty.inset_axes(place) for place in places]
