"""What int8 arithmetic in one group of layers, and nowhere else, does to the sound of a voice.

The voice speaks a few sentences twice, with the same noise and the same durations: in float32, and with int8 in one
group. Waveforms cannot be compared (a decoder's phase moves with every small change), so spectra are:

* `level_error_db`: in each mel band, how far the level averaged over the frames moved; the mean over the bands. This
  is what the search spends. Small random changes of single frames cancel out in it, and noise that fills the gaps of
  speech, which is what int8 does to a vocoder, does not.
* `spectral_distance_db`: log-spectral distance, frame by frame and bin by bin. It counts harmless changes as well.
* `level_above_8khz_db`: how far the level above 8 kHz rose.

Layers that decide durations are not judged: the durations are given here, so the spectrum would find them harmless.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from tqdm.auto import tqdm

from ttsopt_lib.evaluate.signal.spectrum import has_band_above_8khz, level_above_8khz_db
from ttsopt_lib.optimize.calibration import Feed
from ttsopt_lib.optimize.graph.qdq import quantizable_convolutions, quantize_convolutions
from ttsopt_lib.optimize.graph.ranges import Range
from ttsopt_lib.optimize.graph.scopes import group_at, scope_groups
from ttsopt_lib.records.base import now
from ttsopt_lib.records.variant import UNLIKE_DB, GroupSensitivity, SensitivityRecord
from ttsopt_lib.voices.adapters.model import Speaker
from ttsopt_lib.voices.paired import PairedSession
from ttsopt_lib.voices.session import open_session

WINDOW, HOP = 1024, 256
MEL_BANDS = 80
FLOOR = 1e-9  # of the utterance's strongest band: 90 dB below it is silence
PROFILED_RUNS = 5
STAGES = re.compile(r"^/?(enc_p|flow|dec)/")  # not /dp: durations
NAMES = {"enc_p": "text encoder", "flow": "flow", "dec": "decoder"}


def layer_groups(model: ModelProto) -> dict[str, list[str]]:
    """Group of convolutions -> names of its layers, in the graph's order.

    Of VITS the text encoder is one group, each coupling of the flow and each module of the decoder another; what
    decides durations is in none. Of any other voice the names say what a group is (`scopes.py`), and not what decides
    durations: a group that changes how long the audio is must compute in float32, which whoever tries it finds out by
    listening, since the lengths differ.

    Args:
        model: a voice whose nodes all have names (`copy_named`).
    """
    if not is_vits(model):
        return scope_groups(model)
    groups: dict[str, list[str]] = {}
    for node in quantizable_convolutions(model):
        group = group_of(node.name)
        if group:
            groups.setdefault(group, []).append(node.name)
    return groups


def is_vits(model: ModelProto) -> bool:
    """Whether nodes have the names that VITS gives its stages."""
    return any(node.name.startswith(("/enc_p/", "enc_p/")) for node in model.graph.node)


def group_of(node: str, groups: Mapping[str, Collection[str]] | None = None) -> str | None:
    """The group that a node belongs to, by its name; None for one that is not judged.

    Args:
        node: its name.
        groups: those of a voice that is no VITS; None: it is one.
    """
    if groups is not None:
        return group_at(node, groups)
    if not STAGES.match(node):
        return None
    path = node.strip("/").split("/")
    return path[0] if path[0] == "enc_p" or len(path) < 3 else f"{path[0]}/{path[1]}"


def group_label(group: str) -> str:
    """A group's name in a report: `decoder resblocks.8`. What a name repeats is said once."""
    stage, *modules = dict.fromkeys(group.split("/"))
    return " ".join([NAMES.get(stage, stage), *modules]).strip()


class SpectralJudge:
    """Compares variants of a voice with the voice itself, on fixed noise and durations."""

    def __init__(
        self,
        model: ModelProto,
        feeds: Sequence[Feed],
        sample_rate: int,
        opened: Callable[[ModelProto], Speaker] = PairedSession,
    ):
        """
        Args:
            model: the voice in float32.
            feeds: utterances to compare on.
            sample_rate: of the voice, Hz.
            opened: makes a graph of the voice ready to speak (`TtsModel.open`).
        """
        self.sample_rate = sample_rate
        self.feeds = feeds
        self._opened = opened
        speaker = opened(model)
        self._references = [speaker.speak_feed(feed, number) for number, feed in enumerate(feeds)]
        self._latent_channels = speaker.latent_channels if isinstance(speaker, PairedSession) else None

    def judge(self, variant: ModelProto) -> dict[str, float]:
        """Means over the utterances of `level_error_db`, `spectral_distance_db` and `level_above_8khz_db`."""
        speaker = self._opened(variant)
        if isinstance(speaker, PairedSession):
            speaker.latent_channels = self._latent_channels
        found: dict[str, list[float]] = defaultdict(list)
        for number, (reference, durations) in enumerate(self._references):
            audio, _ = speaker.speak_feed(self.feeds[number], number, durations if len(durations) else None)
            for name, value in compare(reference, audio, self.sample_rate).items():
                found[name].append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}


def compare(reference: NDArray[np.float32], audio: NDArray[np.float32], sample_rate: int) -> dict[str, float]:
    """How far the spectrum of `audio` [samples] is from that of `reference` [samples], in dB.

    A change that leaves no finite sound is as far as anything can be, and so is one that moves how long the voice
    speaks."""
    if not np.isfinite(audio).all() or len(audio) != len(reference):
        return {"level_error_db": UNLIKE_DB, "spectral_distance_db": UNLIKE_DB, "level_above_8khz_db": UNLIKE_DB}
    powers = [_power(waveform) for waveform in (reference, audio)]
    bins = _decibels(powers)
    bands = _decibels([power @ _mel_filters(sample_rate).T for power in powers])
    above = 0.0
    if has_band_above_8khz(sample_rate):
        above = level_above_8khz_db(audio, sample_rate) - level_above_8khz_db(reference, sample_rate)
    return {
        "level_error_db": float(np.abs(np.mean(bands[1] - bands[0], axis=0)).mean()),
        "spectral_distance_db": float(np.sqrt(np.mean((bins[1] - bins[0]) ** 2, axis=1)).mean()),
        "level_above_8khz_db": above,
    }


def sensitivities(
    model: ModelProto,
    judge: SpectralJudge,
    ranges: Mapping[str, Range],
    key: str,
    variant: str,
    groups: Mapping[str, Collection[str]],
    weight_bits: int = 8,
) -> SensitivityRecord:
    """Judge every group of layers alone.

    Args:
        model: the voice in float32.
        judge: made from the same voice.
        ranges: of what the layers of the groups read and make.
        key: hash of everything the record is made from.
        variant: whose recipe asked.
        groups: those of `layer_groups`.
        weight_bits: of the int8 weights.
    """
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) > 1}
    times = _profile(model, judge.feeds[0], None if is_vits(model) else groups)
    found = []
    for group, names in tqdm(groups.items(), desc="sensitivity", leave=False):
        errors = judge.judge(quantize_convolutions(model, names, ranges, weight_bits=weight_bits))
        found.append(
            GroupSensitivity(
                group=group,
                label=group_label(group),
                layers=len(names),
                parameters=sum(sizes[weights[name]] for name in names) / max(sum(sizes.values()), 1),
                time=times.get(group, 0.0) / max(sum(times.values()), 1e-9),
                **errors,  # pyright: ignore[reportArgumentType]
            )
        )
    return SensitivityRecord(
        key=key, variant=variant, sentences=len(judge.feeds), groups=found, chosen=[], created=now()
    )


def _profile(model: ModelProto, feed: Feed, groups: Mapping[str, Collection[str]] | None) -> dict[str, float]:
    """Group -> its share of an utterance's time, by ONNX Runtime's profiler; what is in no group under its stage."""
    producers = {output: node for node in model.graph.node for output in node.output}
    with tempfile.TemporaryDirectory(prefix="ttsopt-") as folder:
        session = open_session(model, profile=Path(folder) / "profile")
        for _ in range(PROFILED_RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            # A fused layer is called after the tensor that its activation function makes.
            made = producers.get(re.sub(r"_nchwc$", "", name))
            if made is not None and made.op_type in ("Tanh", "LeakyRelu", "Relu"):
                name = producers[made.input[0]].name if made.input[0] in producers else made.name
            times[group_of(name, groups) or "other"] += event["dur"]
    return times


def _power(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power spectrum, float64 [frames, bins]."""
    padded = np.pad(waveform.astype(np.float64), WINDOW // 2 + (-len(waveform)) % HOP // 2)
    if len(padded) < WINDOW:
        padded = np.pad(padded, (0, WINDOW - len(padded)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2


def _decibels(powers: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Both in dB, with the floor that the first one's maximum sets."""
    floor = max(float(powers[0].max()) * FLOOR, 1e-30)
    return [10 * np.log10(power + floor) for power in powers]


@cache
def _mel_filters(sample_rate: int) -> NDArray[np.float64]:
    """Triangles that overlap by half, equally wide in mel, [bands, bins]; bands narrower than a bin left out."""
    frequencies = np.fft.rfftfreq(WINDOW, 1 / sample_rate)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    filters = np.maximum(triangles, 0.0)
    return filters[filters.sum(axis=1) > 0]
