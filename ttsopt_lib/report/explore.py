"""Type a sentence, choose two variants and a device: hear both, see where they differ and where their time goes.

For the explore notebook. Both speak with the same noise and the same durations (those of the first), so that the
difference between their spectrograms is what was done to the voice and not a shift in time.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from IPython.display import HTML

from ttsopt_lib.errors import StudyError, TtsoptError
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.chapters.spectrograms import Spoken, speak_together, spectrograms
from ttsopt_lib.report.facts.findings import listed
from ttsopt_lib.report.printing.audio import MIME, data_uri
from ttsopt_lib.report.printing.html import figure
from ttsopt_lib.study import Study

__all__ = ["open_folder", "panel", "picture", "players", "speak_both", "stage_times"]


def open_folder(study: Study, reports: str | None = None) -> StudyFolder:
    """The files of a study; `reports` is the folder of all reports, by default reports/ of the project."""
    return StudyFolder(study, resolve(Path(reports)) if reports else None)


def speak_both(study: Study, folder: StudyFolder, text: str, variants: Sequence[str]) -> list[Spoken]:
    """`text` spoken by two variants with the same noise and the durations of the first.

    Raises what `spectrograms.speak_together` raises, and StudyError where they are not two.
    """
    if len(variants) != 2:
        raise StudyError(f"variants: give two to compare, not {len(variants)}")
    return speak_together(study, folder, text, variants)


def stage_times(folder: StudyFolder, device: str, variants: Sequence[str]) -> pd.DataFrame | str:
    """Milliseconds per pass over the timing sentences that each stage takes on a device, and of two variants how many
    times faster the second is; the reason where unknown."""
    path = folder.device_record(device)
    if not path.is_file():
        return f"{device}: not measured yet (ttsopt measure --device {device})"
    record = read_record(path, DeviceRecord, "measure")
    if record.status == "not_measured":
        return f"{record.label}: not measured: {record.reason}"
    profiles = {profile.variant: profile.stages for profile in record.profiles}
    if missing := [name for name in variants if name not in profiles]:
        return f"{record.label}: no profile of {listed(missing)}"
    frame = pd.DataFrame({name: pd.Series(profiles[name]) for name in dict.fromkeys(variants)}) * 1000
    frame.loc["all"] = frame.sum()
    if len(frame.columns) == 2:
        before, after = frame.columns
        frame["times faster"] = frame[before] / frame[after]
    return frame.round(1).rename_axis(columns=f"ms on {record.label}")


def picture(spoken: Sequence[Spoken]) -> Any:
    """Spectrograms of all renderings with their caption, to display in a notebook."""
    return HTML(figure(spectrograms(spoken), ""))


def players(spoken: Sequence[Spoken]) -> Any:
    """Audio players of all renderings, side by side, to display in a notebook. Levels are untouched."""
    cells = []
    for one in spoken:
        buffer = io.BytesIO()
        soundfile.write(buffer, one.samples, one.sample_rate, format="WAV", subtype="PCM_16")
        source = data_uri(MIME["WAV"], buffer.getvalue())
        cells.append(f"<td><b>{one.variant}</b><audio controls aria-label='{one.variant}' src='{source}'></audio></td>")
    return HTML(f"<table><tbody><tr>{''.join(cells)}</tr></tbody></table>")


def panel(study: Study, folder: StudyFolder, text: str, variants: Sequence[str], device: str = "cpu") -> Any:
    """A widget: a text field, two lists of variants, a list of devices, a button; below it voices, spectra, times."""
    import ipywidgets

    made = [name for name in study.variant_names if folder.model(name).is_file()]
    if not made:
        raise StudyError(f"{folder.path}: no variants there yet; run 'ttsopt optimize' first")
    devices = sorted({path.stem for path in folder.device_record(device).parent.glob("*.json")} | {device})
    sentence = ipywidgets.Text(value=text, description="Sentence", layout={"width": "100%"})
    choices = [
        ipywidgets.Dropdown(options=made, value=name if name in made else made[-1], description=label)
        for name, label in zip(variants, ("Before", "After"), strict=True)
    ]
    where = ipywidgets.Dropdown(options=devices, value=device, description="Device")
    button = ipywidgets.Button(description="Speak", button_style="primary")
    shown = ipywidgets.Output()

    def speak(_: object = None) -> None:
        names = [str(choice.value) for choice in choices]
        try:
            spoken = speak_both(study, folder, sentence.value, names)
            found = [players(spoken), picture(spoken), stage_times(folder, str(where.value), names)]
        except TtsoptError as error:
            found = [str(error)]
        # Put in, not displayed within `with shown`: what is displayed there goes to the client and back, and a client
        # that executes a notebook and answers while it waits for a reply may wait for ever (nbclient, issue 312).
        shown.outputs = ()
        for one in found:
            shown.append_display_data(one)

    button.on_click(speak)
    speak()
    return ipywidgets.VBox([sentence, ipywidgets.HBox([*choices, where, button]), shown])
