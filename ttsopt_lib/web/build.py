"""Write the web page of a study: `reports/<study>/web/`, a folder that any server of files can serve.

Nothing in it is loaded from elsewhere. What the page knows of the study stands in `web.json`; a model is loaded when
somebody wants to hear or to measure it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ttsopt_lib.code_hash import git_state
from ttsopt_lib.files import atomic_folder, file_sha256
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import ORIGINAL, Study
from ttsopt_lib.voices.adapters.model import Feed, TtsModel
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.adapters.piper import PiperModel
from ttsopt_lib.voices.onnx_file import weight_files
from ttsopt_lib.voices.pieces import DECODER, ENCODER, FIRST_SECONDS, GROWTH, LAYOUT, LONGEST_SECONDS, Layout
from ttsopt_lib.voices.piper import VoiceConfig
from ttsopt_lib.voices.stream import MOST_PHONEMES
from ttsopt_lib.voices.text import phoneme_ids
from ttsopt_lib.web.espeak import has_espeak_data, write_espeak_data
from ttsopt_lib.web.packages import ESPEAK, ONNXRUNTIME_WEB, NpmPackage, WebError, package_files
from ttsopt_lib.web.records import MOST_BLOCKS

FORMAT = "ttsopt web page"
TASHKEEL = "ar"  # `piper` first writes the vowels of Arabic, with a network that the page does not have


def write_web(
    study: Study,
    folder: StudyFolder,
    variants: Sequence[str] | None = None,
    without_original: bool = False,
    target: Path | None = None,
) -> Path:
    """Write the page of a study, whole or not at all, in the place of an earlier one.

    Args:
        study: whose voices it speaks with.
        folder: where the study's files lie.
        variants: those beside the original; None: all that are made.
        without_original: leave the original out, which is most of the page's size.
        target: where the page is written; None: `folder.web`.

    Returns:
        the page's folder, with `index.html`.

    Raises:
        RecordError: a voice is not made yet.
        WebError: no voice is left, what speaks cannot speak in a browser, or a package cannot be had.
        TextError: a sentence of the study gives no phonemes.
    """
    names = _names(study, folder, variants, without_original)
    model = open_model(folder.model(ORIGINAL))
    if model.vocoder:
        raise WebError(
            f"{model.path}: its audio is made by the vocoder {model.vocoder}, which is Python: a page cannot run it"
        )
    target = target or folder.web
    with atomic_folder(target) as page:
        for file in files("ttsopt_lib.web").joinpath("page").iterdir():
            (page / file.name).write_bytes(file.read_bytes())
        _copy_package(ONNXRUNTIME_WEB, page)
        espeak_voice = _espeak_voice(model)
        if espeak_voice:
            _copy_package(ESPEAK, page)
            write_espeak_data(espeak_voice, page / "espeak.data")
            (page / "espeak-license.txt").write_text(_espeak_license(), encoding="utf-8")
        (page / "voices").mkdir()
        about: dict[str, Any] = {
            "format": FORMAT,
            "schema_version": 1,
            "study": study.name,
            "title": study.title,
            "language": (study.language or "").replace("_", "-"),  # of the sentences; empty: not said
            "commit": git_state()[0],
            "onnxruntime_web": ONNXRUNTIME_WEB.version,
            "most_blocks": MOST_BLOCKS,  # of a measurement
            "runtime_bytes": (page / "onnxruntime.wasm").stat().st_size,
            "variants": [
                {**_copy_voice(folder.model(name), name, page), "pieces": _copy_halves(folder, name, page)}
                for name in names
            ],
            "voice": _about_voice(model, espeak_voice, model.speaker(study.voice.speaker)),
            "sentences": _sentences(study, model),
        }
        (page / "web.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    return target


def text_inputs(model: TtsModel, speaker: int | None, text: str) -> list[dict[str, Any]]:
    """What a model is fed for a text, as `web.json` has it: sentence by sentence, or all at once of other models.

    Raises:
        TextError: the text gives no phonemes.
    """
    config = _config(model)
    sentences = phoneme_ids(config, text, MOST_PHONEMES) if config else [model.utterance_ids(text)]
    return [_plain(model.feed(ids, speaker)) for ids in sentences]


def _names(study: Study, folder: StudyFolder, variants: Sequence[str] | None, without_original: bool) -> list[str]:
    for name in variants or ():
        if name != ORIGINAL:
            study.variant(name)  # raises for one that the study does not have
    if not folder.model(ORIGINAL).is_file():
        raise RecordError(f"{folder.model(ORIGINAL)}: not there yet; run 'ttsopt optimize' first")
    there = [name for name in study.variant_names[1:] if folder.model(name).is_file()]
    wanted = there if variants is None else [name for name in dict.fromkeys(variants) if name != ORIGINAL]
    for name in wanted:
        if name not in there:
            raise RecordError(f"{folder.model(name)}: not there yet; run 'ttsopt optimize --variant {name}' first")
    names = [*([] if without_original else [ORIGINAL]), *wanted]
    if not names:
        raise WebError("--without-original leaves no voice for the page: make a variant first, or leave the option out")
    return names


def _copy_package(package: NpmPackage, target: Path) -> None:
    folder = package_files(package)
    for name in package.files.values():
        shutil.copyfile(folder / name, target / name)


def _copy_voice(model: Path, name: str, target: Path) -> dict[str, Any]:
    """Copy a voice, and the files with its weights where it has them beside it; what `web.json` says of it."""
    file = f"voices/{name}.onnx"
    _link_or_copy(model, target / file)
    weights = []
    for number, beside in enumerate(weight_files(model)):
        copied = f"voices/{name}.weights{number}"
        _link_or_copy(beside, target / copied)
        size = beside.stat().st_size
        weights.append({"path": beside.relative_to(model.parent).as_posix(), "file": copied, "bytes": size})
    return {
        "name": name,
        "file": file,
        "sha256": file_sha256(model),
        "bytes": model.stat().st_size,
        "weights": weights,
    }


def _copy_halves(folder: StudyFolder, name: str, target: Path) -> dict[str, Any] | None:
    """Copy the halves by which a voice speaks piece by piece; None where it has none.

    The original's would double a page that is large already, for a voice that is there to be compared with.
    """
    halves = folder.variant(name) / "streaming"
    if name == ORIGINAL or not (halves / LAYOUT).is_file():
        return None
    copied = {}
    for half, inside in (("encoder", ENCODER), ("decoder", DECODER)):
        file = f"voices/{name}.{half}.onnx"
        _link_or_copy(halves / inside, target / file)
        copied[half] = {"file": file, "bytes": (halves / inside).stat().st_size}
    layout = Layout.model_validate_json((halves / LAYOUT).read_text(encoding="utf-8"))
    lengths = {"first_seconds": FIRST_SECONDS, "growth": GROWTH, "longest_seconds": LONGEST_SECONDS}
    return {**copied, "layout": layout.model_dump(mode="json"), **lengths}


def _link_or_copy(file: Path, copy: Path) -> None:
    """The same file under a second name; a copy where the disk cannot do that. Voices are replaced, never changed."""
    try:
        os.link(file.resolve(), copy)
    except OSError:
        shutil.copyfile(file, copy)


def _about_voice(model: TtsModel, espeak_voice: str | None, speaker: int | None) -> dict[str, Any]:
    config = _config(model)
    return {
        "sample_rate": model.sample_rate,
        "scales": list(model.scales),
        "speakers": config.num_speakers if config else 1,
        "speaker": speaker,
        "output": model.outputs[0] if model.outputs else None,
        "espeak_voice": espeak_voice,
        "spells": config is not None and config.phoneme_type == "text",  # its phonemes are the letters themselves
        "phoneme_ids": config.phoneme_id_map if config else None,
        "from_tokenizer": config is not None and config.from_tokenizer,
        "most_phonemes": MOST_PHONEMES,
    }


def _config(model: TtsModel) -> VoiceConfig | None:
    return model.config if isinstance(model, PiperModel) else None


def _espeak_voice(model: TtsModel) -> str | None:
    """The voice of espeak-ng by which the page makes phonemes; None where it cannot make them as `piper` does."""
    config = _config(model)
    if config is None or config.phoneme_type != "espeak" or config.raw.get("vowel_clusters"):
        return None
    voice = config.espeak.voice
    return voice if voice != TASHKEEL and has_espeak_data(voice) else None


def _espeak_license() -> str:
    """The GPL, as `piper-tts` brings it along with the same program."""
    for file in metadata.files("piper-tts") or ():
        if file.name == "COPYING":
            return file.read_text(encoding="utf-8")
    return "espeak-ng is free software under the GNU General Public License, version 3 or later.\n"


def _sentences(study: Study, model: TtsModel) -> list[dict[str, Any]]:
    """The study's sentences for timing and for listening, as what the model is fed.

    Those for timing have no noise in their durations, so that every run lasts as long as the one before.
    """
    timing = [("timing", name, text) for name, texts in study.sentences.timing.items() for text in texts]
    listening = [("listening", None, text) for text in study.sentences.listening]
    sentences = []
    for use, length_class, text in (*timing, *listening):
        ids = model.utterance_ids(text)
        feed = model.feed(ids, study.voice.speaker)
        if use == "timing" and model.is_vits:
            feed["scales"] = np.asarray(model.timing_scales, feed["scales"].dtype)
        sentences.append(
            {
                "use": use,
                "length_class": length_class,
                "text": text,
                "phonemes": len(ids),
                "inputs": _plain(feed),
            }
        )
    return sentences


def _plain(feed: Feed) -> dict[str, dict[str, Any]]:
    return {
        name: {"dtype": array.dtype.name, "shape": list(array.shape), "values": array.reshape(-1).tolist()}
        for name, array in feed.items()
    }
