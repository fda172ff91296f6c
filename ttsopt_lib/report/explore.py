"""Type a sentence, choose two variants: hear both, see where their spectra differ. For the explore notebook.

Both speak with the same noise and the same durations (those of the first), so that the difference between their
spectrograms is what was done to the voice and not a shift in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ttsopt_lib.evaluate.speak import SpeechError
from ttsopt_lib.evaluate.waveform import as_float, as_written
from ttsopt_lib.records import StudyFolder
from ttsopt_lib.report.plot_style import Chart, new_figure, set_title
from ttsopt_lib.study import Study, StudyError
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.text import TextError, utterance_ids

WINDOW = 1024  # samples of a spectrum: 46 ms at 22 050 Hz, fine enough to see single harmonics
HOP = 256
FLOOR = -100.0  # dB re full scale: below it, differences are not heard and not shown


class Spoken(NamedTuple):
    """One variant's rendering of the sentence."""

    variant: str
    samples: NDArray[np.int16]  # [samples], levels untouched
    sample_rate: int  # Hz


def speak_both(study: Study, folder: StudyFolder, text: str, variants: Sequence[str], seed: int = 0) -> list[Spoken]:
    """``text`` spoken by two variants with the same noise and the durations of the first.

    Raises:
        StudyError: a name that is no variant of the study, a variant that was not made yet, or a text that gives
            no phonemes.
    """
    if len(variants) != 2:
        raise StudyError(f"variants: give two to compare, not {len(variants)}")
    spoken, durations = [], None
    for name in variants:
        if name not in study.variant_names:
            raise StudyError(f"no variant {name!r} in study {study.name!r}; it has: {', '.join(study.variant_names)}")
        model = folder.model(name)
        if not model.is_file():
            raise StudyError(f"{model}: not there yet; run 'ttsopt optimize' first")
        voice = open_piper(model)
        try:
            ids = utterance_ids(voice.config, text)
        except TextError as error:
            raise StudyError(f"text: {error}") from None
        waveform, durations = PairedSession(model).speak(
            ids, seed=seed, durations=durations, scales=voice.config.inference.scales, sid=study.voice.speaker
        )
        if not np.isfinite(waveform).all():
            raise SpeechError(f"{model}: the voice gives NaN or infinite samples; make this variant anew")
        spoken.append(Spoken(name, as_written(waveform), voice.config.sample_rate))
    return spoken


def spectrum_db(spoken: Spoken) -> NDArray[np.float32]:
    """Short-time power spectrum, [frequency bins, frames] in dB re full scale, not below ``FLOOR``."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    transform = ShortTimeFFT(hann(WINDOW, sym=False), HOP, spoken.sample_rate, scale_to="magnitude")
    magnitude = np.abs(transform.stft(as_float(spoken.samples)))
    return np.maximum(20 * np.log10(magnitude + 1e-10), FLOOR).astype(np.float32)


def spectrograms(first: Spoken, second: Spoken) -> Chart:
    """Spectrograms of both and of their difference, over the same time."""
    left, right = spectrum_db(first), spectrum_db(second)
    frames = min(left.shape[1], right.shape[1])
    left, right = left[:, :frames], right[:, :frames]
    difference = right - left
    distance = float(np.sqrt((difference**2).mean(axis=0)).mean())
    extent = (0.0, frames * HOP / first.sample_rate, 0.0, first.sample_rate / 2000)

    figure: Figure
    figure, axes = new_figure(5.4, nrows=3, sharex=True, sharey=True)
    panels = [
        (first.variant, left, "magma", FLOOR, 0.0, "dB re full scale"),
        (second.variant, right, "magma", FLOOR, 0.0, "dB re full scale"),
        (f"{second.variant} minus {first.variant}", difference, "RdBu_r", -20.0, 20.0, "dB"),
    ]
    for axis, (title, values, colours, low, high, unit) in zip(axes, panels, strict=True):
        image = axis.imshow(
            values, origin="lower", aspect="auto", extent=extent, cmap=colours, vmin=low, vmax=high, rasterized=True
        )
        axis.set_title(title, loc="left", fontsize=7.5)
        axis.set_ylabel("frequency (kHz)")
        figure.colorbar(image, ax=axis, label=unit, pad=0.01)
    axes[-1].set_xlabel("time (s)")
    set_title(figure, f"{second.variant} differs from {first.variant} by {distance:.1f} dB (log-spectral distance)")
    alt = (
        f"Three spectrograms over {extent[1]:.1f} seconds: {first.variant}, {second.variant} and their difference; "
        f"log-spectral distance {distance:.1f} dB."
    )
    caption = f"Hann window of {WINDOW} samples, hop {HOP}; same noise and durations; values below {FLOOR:.0f} dB cut."
    return Chart("explore", figure, alt, caption)


def players(spoken: Sequence[Spoken]) -> Any:
    """Audio players of all renderings, side by side, to display in a notebook. Levels are untouched."""
    import io

    import soundfile
    from IPython.display import HTML

    from ttsopt_lib.report.audio import MIME, data_uri

    cells = []
    for one in spoken:
        buffer = io.BytesIO()
        soundfile.write(buffer, one.samples, one.sample_rate, format="WAV", subtype="PCM_16")
        source = data_uri(MIME["WAV"], buffer.getvalue())
        cells.append(
            f"<td><b>{one.variant}</b><br><audio controls aria-label='{one.variant}' src='{source}'></audio></td>"
        )
    return HTML(f"<table><tr>{''.join(cells)}</tr></table>")


def panel(study: Study, folder: StudyFolder, text: str, variants: Sequence[str]) -> Any:
    """A widget: a text field, two lists of variants, a button; below it both voices and their spectrograms."""
    import ipywidgets
    from IPython.display import display

    made = [name for name in study.variant_names if folder.model(name).is_file()]
    if not made:
        raise StudyError(f"{folder.path}: no variants there yet; run 'ttsopt optimize' first")
    sentence = ipywidgets.Text(value=text, description="Sentence", layout={"width": "100%"})
    choices = [
        ipywidgets.Dropdown(options=made, value=name if name in made else made[-1], description=label)
        for name, label in zip(variants, ("Before", "After"), strict=True)
    ]
    button = ipywidgets.Button(description="Speak", button_style="primary")
    shown = ipywidgets.Output()

    def speak(_: object = None) -> None:
        with shown:
            shown.clear_output(wait=True)
            try:
                spoken = speak_both(study, folder, sentence.value, [str(choice.value) for choice in choices])
            except StudyError as error:
                display(str(error))
                return
            display(players(spoken), spectrograms(*spoken).figure)

    button.on_click(speak)
    speak()
    return ipywidgets.VBox([sentence, ipywidgets.HBox([*choices, button]), shown])
