"""Predictors whose weights no package ships: UTMOS and NISQA-TTS, fetched from a hub or given as a file.

* `utmos`: UTMOS strong learner (Saeki et al., Interspeech 2022; MIT), as the TorchScript file that
  `Blinorot/UTMOS-PyTorch` keeps on the Hugging Face hub. It needs no package but torch.
* `nisqa_tts`: NISQA-TTS, naturalness of synthetic speech (Mittag & Möller, Interspeech 2020), with the network of the
  package `nisqa` (MIT) and `weights/nisqa_tts.tar` of `gabrielmittag/NISQA`, whose licence (CC BY-NC-SA 4.0)
  forbids commercial use.

Where no hub is reached there is a reason in place of a predictor; the study's `evaluate.weights` names a file that
was fetched on another machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import urllib.request
import warnings
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.evaluate.predictors.stand_ins import stand_in
from ttsopt_lib.evaluate.signal.mel import mel_spectrum
from ttsopt_lib.evaluate.signal.waveform import PREDICTOR_RATE
from ttsopt_lib.files import atomic_path

LABELS = {"utmos": "UTMOS", "nisqa_tts": "NISQA-TTS"}
VERSIONS = {"utmos": "2022, strong learner", "nisqa_tts": "1.0"}  # of the model; the hash says which weights
UTMOS_REPOSITORY, UTMOS_FILE = "Blinorot/UTMOS-PyTorch", "utmos_scripted.pt"
NISQA_COMMIT = "fe84f0f252abec382b24367d5b22498a7ce34dbb"
NISQA_URL = f"https://raw.githubusercontent.com/gabrielmittag/NISQA/{NISQA_COMMIT}/weights/nisqa_tts.tar"
NISQA_SHA256 = "c556a954cd9536360b4fe6f524ad432816509cd22f436f345b281a7851360656"
TIMEOUT_SECONDS = 20


class PredictorError(TtsoptError, RuntimeError):
    """A predictor that cannot be loaded. The message says what to install or to fetch."""


def hub_weights(name: str, given: Path | None = None) -> Path:
    """The weights of `utmos` or `nisqa_tts`: the file that the study names, else from the hub (kept in its cache).

    Raises `PredictorError`.
    """
    if given is not None:
        if not given.is_file():
            raise PredictorError(f"evaluate.weights: {name}: {given} is not there; give the weights file itself")
        return given
    try:
        return _fetch_utmos() if name == "utmos" else _fetch_nisqa()
    except PredictorError:
        raise
    except Exception as error:  # offline, a proxy, no such file: the hub's client raises many kinds
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PredictorError(
            f"its weights are not on this machine and could not be fetched ({what:.120}); fetch {_source(name)} "
            f"elsewhere and name the file under evaluate.weights: {name}"
        ) from error


def _source(name: str) -> str:
    return f"{UTMOS_FILE} of huggingface.co/{UTMOS_REPOSITORY}" if name == "utmos" else NISQA_URL


def _fetch_utmos() -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(UTMOS_REPOSITORY, UTMOS_FILE, etag_timeout=TIMEOUT_SECONDS))


def _fetch_nisqa() -> Path:
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / "nisqa_tts.tar"
    if not path.is_file():
        with urllib.request.urlopen(NISQA_URL, timeout=TIMEOUT_SECONDS) as answer:
            data = answer.read()
        if hashlib.sha256(data).hexdigest() != NISQA_SHA256:
            raise PredictorError(f"{NISQA_URL} gave another file than the one that was expected; try again later")
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    return path


class Utmos:
    """UTMOS in TorchScript: a waveform in, one score for each utterance out."""

    def __init__(self, weights: Path):
        import torch

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is announced to go; the file is one
                self.network: Any = torch.jit.load(str(weights), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise PredictorError(f"{weights}: no TorchScript file; fetch {_source('utmos')}") from error

    def score(self, waveform: NDArray[np.float32]) -> float:
        """Predicted MOS, 1 to 5, of a 16 kHz waveform [samples] in [-1, 1]."""
        import torch

        with torch.inference_mode():
            return float(self.network(torch.from_numpy(np.ascontiguousarray(waveform))[None]).reshape(()))


class NisqaTts:
    """NISQA-TTS: log-magnitude mel spectrum, a CNN over windows of 15 frames, a bidirectional LSTM."""

    def __init__(self, weights: Path):
        import torch

        library = _nisqa_library()
        try:
            checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
            self.settings: dict[str, Any] = checkpoint["args"]
            names = [name for name in signature(library.NISQA).parameters if name in self.settings]
            self.network = library.NISQA(**{name: self.settings[name] for name in names})
            self.network.load_state_dict(checkpoint["model_state_dict"])
        except Exception as error:  # an unpickler and two constructors raise many kinds
            raise PredictorError(f"{weights}: no weights of NISQA-TTS ({error!s:.120}); fetch {NISQA_URL}") from error
        self.network.eval()
        self.segments = library.segment_specs

    def score(self, waveform: NDArray[np.float32]) -> float:
        """Predicted MOS of the naturalness, 1 to 5, of a 16 kHz waveform [samples] in [-1, 1]."""
        import torch

        spectrum = self.features(waveform)
        missing = self.settings["ms_seg_length"] - spectrum.shape[1]
        if missing > 0:  # less than a window of speech
            spectrum = np.pad(spectrum, ((0, 0), (0, missing)), constant_values=-80.0)
        windows, count = self.segments("", torch.from_numpy(spectrum), self.settings["ms_seg_length"])
        with torch.inference_mode():
            return float(self.network(windows[None].float(), torch.tensor([int(count)])).reshape(()))

    def features(self, waveform: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mel magnitudes in dB, [bands, frames], at most 80 dB below the loudest."""
        asked = self.settings
        mel = mel_spectrum(
            waveform,
            PREDICTOR_RATE,
            n_fft=asked["ms_n_fft"],
            hop=int(PREDICTOR_RATE * asked["ms_hop_length"]),
            bands=asked["ms_n_mels"],
            window=int(PREDICTOR_RATE * asked["ms_win_length"]),
            highest_hz=asked["ms_fmax"],
            exponent=1.0,
            edges="reflect",
        )
        decibels = 20 * np.log10(np.maximum(mel, 1e-4)).T
        return np.maximum(decibels, decibels.max() - 80)


def _nisqa_library() -> Any:
    """The package's module with the network; librosa, which its data loader uses, is stood in for."""
    if importlib.util.find_spec("nisqa") is None:
        raise PredictorError("package nisqa is not installed: pip install --no-deps nisqa")
    with stand_in("librosa", feature=SimpleNamespace()):
        from nisqa import NISQA_lib
    return NISQA_lib
