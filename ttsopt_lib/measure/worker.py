"""The process that times one row: `python -m ttsopt_lib.measure.worker`, started by `process.py`.

A process of its own makes the memory figure the model's own and keeps one runtime's threads out of another's
way. It reads one JSON object a line from standard input and answers with one a line: a `prepare` if one likes, a
`load`, then any number of `time`, `time new length` and `repeat`, and after an `open batches` of `speak batches`; or
`open streams` and any number of `time stream`; or one `profile`. The end of its input, or the death of the process that
started it, ends it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import psutil

from ttsopt_lib.errors import runtime_words
from ttsopt_lib.measure.runtimes.onnx_runtime import ORT_LOADS, Speak, open_onnxruntime
from ttsopt_lib.measure.runtimes.stopwatch import DeviceEvents, Stopwatch, WallClock
from ttsopt_lib.study import BUCKETS

if TYPE_CHECKING:
    from ttsopt_lib.measure.runtimes.batches import Batches
    from ttsopt_lib.measure.runtimes.first_sound import FirstSound

FEWER = 2  # phoneme ids that a sentence loses to have a new length: in Piper a phoneme and the gap after it


class BadAudioError(RuntimeError):
    """A model runs, and what it makes is no speech; the message says what it is."""


def samples_of(audio: Any, row: dict[str, Any]) -> int:
    """How many samples the audio has. Raises `BadAudioError` for none, for silence and for what is no number."""
    samples = np.asarray(audio).reshape(-1)
    if not row["speaks"]:
        return samples.size
    bad = samples.size - int(np.isfinite(samples).sum())
    if bad:
        raise BadAudioError(f"{bad} of the {samples.size} samples of its audio are not numbers (NaN or infinite)")
    if not samples.any():
        raise BadAudioError(f"its audio is {samples.size} samples of silence" if samples.size else "it makes no audio")
    return samples.size


def peak_memory_mb() -> float:
    """Highest resident set of this process so far, in MB (10^6 bytes).

    Linux: VmHWM. `ru_maxrss` is no substitute there: across vfork and exec it keeps the peak of the process
    that started this one (a notebook with PyTorch in it, say).
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def prepare(row: dict[str, Any]) -> None:
    """Import the row's runtime, which is no part of loading its model."""
    if row["runtime"] == "pytorch":
        from ttsopt_lib.measure.runtimes.torch_runtime import prepare_pytorch

        prepare_pytorch(row)
    elif row["runtime"] == "onnxruntime":
        import onnxruntime  # noqa: F401

        if row["mode"] == BUCKETS:
            import ttsopt_lib.voices.length_buckets  # noqa: F401
    else:
        from ttsopt_lib.measure.runtimes.peer_runtimes import prepare_peer

        prepare_peer(row["runtime"])


def open_model(
    row: dict[str, Any], scales: list[float], speaker: int | None, once: bool
) -> tuple[Speak, int | None, list[float]]:
    """The row's model ready to speak, its sampling rate where it has one of its own, and the seconds of each load.

    ONNX Runtime loads it several times, unless `once`.
    """
    if row["runtime"] == "pytorch":
        from ttsopt_lib.measure.runtimes.torch_runtime import open_pytorch

        opener, loads = open_pytorch, 1
    elif row["runtime"] == "onnxruntime":
        opener, loads = open_onnxruntime, 1 if once else ORT_LOADS
    else:
        from ttsopt_lib.measure.runtimes.peer_runtimes import open_peer

        opener, loads = open_peer, 1
    seconds, opened = [], None
    for _ in range(loads):
        del opened  # one model at a time, or the peak memory would count two
        start = time.perf_counter()
        opened = opener(row, scales, speaker)
        seconds.append(time.perf_counter() - start)
    assert opened is not None
    gc.collect()
    gc.freeze()
    speak, sample_rate = opened if isinstance(opened, tuple) else (opened, None)
    return speak, sample_rate, seconds


def open_stopwatch(row: dict[str, Any]) -> Stopwatch:
    """The clock that suits the row."""
    if row["runtime"] == "pytorch" and row["accelerator"] == "cuda":
        import torch

        return DeviceEvents(torch.cuda)
    return WallClock()  # ONNX Runtime returns when the audio is there


def repeat_sentences(speak: Speak, sentences: list[Any], seconds: float, sample_rate: int) -> dict[str, float]:
    """Speak all sentences again and again until so many seconds have gone by, at least once."""
    start, samples = time.perf_counter(), 0
    while True:
        for sentence in sentences:
            samples += np.size(speak(sentence))
        spent = time.perf_counter() - start
        if spent >= seconds:
            return {"seconds": spent, "audio_seconds": samples / sample_rate}


def sentences_of(request: dict[str, Any]) -> list[Any]:
    """What the model is fed for each sentence: phoneme ids [T], all its inputs where it has its own, or the text."""
    if request["as_text"]:
        return [sentence["text"] for sentence in request["sentences"]]
    fed = []
    for sentence in request["sentences"]:
        arrays = {
            name: np.array(one["values"], dtype=one["dtype"]).reshape(one["shape"])
            for name, one in sentence["inputs"].items()
        }
        fed.append(arrays or np.array(sentence["ids"], dtype=np.int64))
    return fed


def size_of(sentence: Any) -> int:
    """How long a sentence is, in what the model is fed."""
    return sum(array.size for array in sentence.values()) if isinstance(sentence, dict) else len(sentence)


def time_sentence(
    speak: Speak,
    sentences: list[Any],
    number: int,
    first: dict[int, float | None],
    sample_rate: int,
    stopwatch: Stopwatch,
    row: dict[str, Any],
) -> dict[str, Any]:
    """Time the sentence of that number: seconds from ids (or text) to audio, and seconds of audio made.

    The shortest sentence, the lead-in, is spoken before the clock starts: it refills the caches that another worker has
    just evicted. The audio is looked at when the clock has stopped. `first` keeps the seconds of each sentence's very
    first run, which may be one as lead-in; None where lengths are rounded up and its bucket was met before. Raises
    `BadAudioError`.
    """
    lead_in = min(range(len(sentences)), key=lambda one: size_of(sentences[one]))
    gc.collect()  # quick: what loading made is frozen (0.2 s less a sentence where PyTorch is imported)
    gc.disable()
    try:
        if lead_in in first:
            speak(sentences[lead_in])
        else:
            stopwatch.start()
            speak(sentences[lead_in])
            first[lead_in] = _if_first(speak, stopwatch.seconds())
        stopwatch.start()
        audio = speak(sentences[number])
        seconds = stopwatch.seconds()
    finally:
        gc.enable()
    peak = peak_memory_mb()  # what follows is no part of speaking
    return {
        "seconds": seconds,
        "audio_seconds": samples_of(audio, row) / sample_rate,
        "peak_memory_mb": peak,
        "first_seconds": first.setdefault(number, _if_first(speak, seconds)),
    }


def time_new_length(speak: Speak, sentences: list[Any], number: int, stopwatch: Stopwatch) -> dict[str, Any]:
    """Time the sentence of that number without its last `FEWER` ids: a length that was not spoken before.

    Its `seconds` are None where lengths are rounded up and this one is the first in its bucket, and where nothing is
    left of the sentence.
    """
    whole = sentences[number]
    if not isinstance(whole, np.ndarray) or whole.size <= FEWER:  # a text, own inputs, one sound
        return {"seconds": None}
    speak(sentences[min(range(len(sentences)), key=lambda one: size_of(sentences[one]))])
    shorter = whole[:-FEWER]
    stopwatch.start()
    speak(shorter)
    seconds = stopwatch.seconds()
    return {"seconds": None if getattr(speak, "met_new_shape", False) else seconds}


def _if_first(speak: Speak, seconds: float) -> float | None:
    """The seconds of a sentence's first run; None where lengths are rounded up and its bucket was met before."""
    return seconds if getattr(speak, "met_new_shape", True) else None


def die_with(parent: int) -> None:
    """Ask Linux to end this process when the one that started it ends, however that happens."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we asked
        sys.exit(1)


def answer_requests(requests: TextIO, replies: TextIO) -> None:
    """Serve `load` and `time` requests until the input ends."""
    speak: Speak | None = None
    stopwatch: Stopwatch = WallClock()
    row: dict[str, Any] = {}
    sentences: list[Any] = []
    first: dict[int, float | None] = {}
    streams: FirstSound | None = None
    batches: Batches | None = None
    sample_rate = 1
    for line in requests:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                row = request["row"]
                prepare(row)
                reply = {}
            elif request["do"] == "load":
                if row != request["row"]:
                    prepare(request["row"])
                row = request["row"]
                idle = psutil.Process().memory_info().rss / 1e6
                sentences = sentences_of(request)
                speak, own_rate, loads = open_model(row, request["scales"], request["speaker"], request["once"])
                sample_rate = own_rate or request["sample_rate"]
                stopwatch, first = open_stopwatch(row), {}
                reply = {"load_seconds": loads, "idle_memory_mb": idle, "clock": stopwatch.name}
            elif request["do"] == "profile":
                from ttsopt_lib.measure.runtimes.profile import profile_onnxruntime

                row, fed = request["row"], sentences_of(request)
                reply = profile_onnxruntime(row, fed, request["scales"], request["speaker"])
            elif request["do"] == "open streams":
                from ttsopt_lib.measure.runtimes.first_sound import FirstSound

                streams = FirstSound(request)
                reply = {"phonemizes": streams.phonemizes}
            elif request["do"] == "time stream":
                assert streams is not None, "a stream was asked for before any was opened"
                reply = streams.time(**request["job"])
            elif request["do"] == "repeat":
                assert speak is not None, "sentences were asked for before a load"
                reply = repeat_sentences(speak, sentences, request["seconds"], sample_rate)
            elif request["do"] == "open batches":
                from ttsopt_lib.measure.runtimes.batches import Batches

                assert speak is not None, "batches were asked for before a load"
                batches = Batches(speak, request, sample_rate, partial(samples_of, row=row), row)
                reply = {"seconds": batches.alone_seconds}
            elif request["do"] == "speak batches":
                assert batches is not None, "a batch was asked for before any was opened"
                reply = batches.speak(request["size"], request["seconds"])
            elif request["do"] == "time new length":
                assert speak is not None, "a new length was asked for before a load"
                reply = time_new_length(speak, sentences, request["sentence"], stopwatch)
            else:
                assert speak is not None, "a sentence was asked for before a load"
                reply = time_sentence(speak, sentences, request["sentence"], first, sample_rate, stopwatch, row)
                if isinstance(stopwatch, DeviceEvents):
                    import torch

                    reply["device_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6  # the most so far
        except Exception as error:  # whatever a runtime raises: the driver turns it into one line
            reply = {"error": runtime_words(error), "no_speech": isinstance(error, BadAudioError)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    """Keep standard output for replies alone (libraries may print), then serve."""
    die_with(int(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer_requests(sys.stdin, replies)


if __name__ == "__main__":
    main()
