"""The driver's end of a worker: start it in a fresh interpreter, ask it, and make sure it is gone afterwards."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import Any

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.measure.peers import TEXT_RUNTIMES
from ttsopt_lib.measure.plan import PlannedRow, TimingPlan
from ttsopt_lib.paths import python_command

# What ends a worker from outside, and is no fault of the variant.
WHY_IT_DIED: dict[int, str] = {
    signal.SIGKILL: " (killed: was memory short?)",
    signal.SIGILL: " (an instruction that this processor does not have: the package of its runtime was built for newer "
    "ones; install an older version of it, or one built for this processor)",
    signal.SIGBUS: " (a file that could not be read on: is the disk full, or was the model replaced meanwhile?)",
}
PATIENCE_SECONDS = 600.0  # a reply later than this means that the worker hangs, even on a small board
GONE_SECONDS = 10.0  # in which a killed process is gone, unless a driver holds it


class MeasureError(TtsoptError, RuntimeError):
    """Timing that could not be done. One line: which variant, which file, what to do."""


class NoSpeechError(MeasureError):
    """A model that can be timed, and does not speak: its row is left out, and the others are timed."""


class NotReadyError(MeasureError):
    """A row that was not open and warm in the time that it had: it is left out, and the others are timed."""


class Worker:
    """One row's process. A context manager: leaving it ends the process, whatever happened."""

    module = "ttsopt_lib.measure.worker"  # what it runs

    def __init__(self, row: PlannedRow):
        self.row = row
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        # What an earlier measurement compiled would make a first run at a length look fast.
        self._compiled = tempfile.TemporaryDirectory(prefix="ttsopt-", ignore_cleanup_errors=True)
        threads = str(row.threads)
        # A new session: Ctrl-C in the terminal reaches the driver alone, which then ends its workers.
        self._process = subprocess.Popen(
            [*python_command(self.module), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
                "OPENBLAS_NUM_THREADS": threads,
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # so that the first GPU is nvidia-smi's first
                "TORCHINDUCTOR_CACHE_DIR": self._compiled.name,
                "TRITON_CACHE_DIR": f"{self._compiled.name}/triton",
                "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no helpers that stay and take the cores from the others
            },
        )
        self._unread = b""
        self._texts: list[str] = []  # of the sentences to time
        self._spoken: set[int] = set()
        self._doing = "starting"
        self.allow(None)

    @property
    def pid(self) -> int:
        """Process id, for telling our own load from others'."""
        return self._process.pid

    @property
    def is_open(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait until it is gone; one that hangs in a driver is not waited for."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GONE_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None and not stream.closed:
                with suppress(BrokenPipeError):  # a request that a dead worker never read
                    stream.close()
        self._compiled.cleanup()

    def kill(self) -> None:
        """End the process without waiting: whoever waits for its answer learns that it is gone."""
        self._process.kill()

    def allow(self, seconds: float | None, share: float | None = None, patience: float = PATIENCE_SECONDS) -> None:
        """From now on it has so many seconds to become ready: what waits for it then raises `NotReadyError`.

        Args:
            seconds: None: it is ready.
            share: what the error says that it had; default: `seconds`.
            patience: how late a single answer may be when it is ready.
        """
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._share = share or seconds or 0.0
        self._patience = patience

    def prepare(self) -> None:
        """Have the row's runtime imported, without waiting: workers do that side by side before the first one loads."""
        self._doing = "importing its runtime"
        self._send({"do": "prepare", "row": self.row.model_dump(mode="json")})

    def wait(self) -> None:
        """Wait until what `prepare` began is done. Raises `MeasureError`."""
        self._receive()

    def load(self, plan: TimingPlan) -> dict[str, Any]:
        """Load the model; returns `load_seconds` (list) and `idle_memory_mb`. Raises `MeasureError`."""
        self._texts = [sentence.text for sentence in plan.sentences]
        self._doing = "opening its model"
        return self._ask({"do": "load", **self._task(plan), "sample_rate": plan.sample_rate, "once": plan.only_timing})

    def profile(self, plan: TimingPlan) -> dict[str, dict[str, float]]:
        """Seconds per pass by `stages` and by `operators` (see `runtimes/profile.py`). Raises `MeasureError`."""
        return self._ask({"do": "profile", **self._task(plan)})

    def open_streams(self, plan: TimingPlan) -> bool:
        """Open the plan's streams; whether this machine can turn a text into ids. Raises `MeasureError`."""
        asked = plan.model_dump(mode="json", include={"streams", "texts", "scales", "speaker", "phonemizer"})
        return self._ask({"do": "open streams", **asked})["phonemizes"]

    def time_stream(self, job: dict[str, Any]) -> dict[str, float | None]:
        """Time one thing of the open streams (see `runtimes/first_sound.py`). Raises `MeasureError`."""
        return self._ask({"do": "time stream", "job": job})

    def _task(self, plan: TimingPlan) -> dict[str, Any]:
        asked = plan.model_dump(mode="json", include={"sentences", "scales", "speaker"})
        return {"row": self.row.model_dump(mode="json"), "as_text": self.row.runtime in TEXT_RUNTIMES, **asked}

    def time_sentence(self, number: int) -> dict[str, Any]:
        """Time one sentence of the plan: `seconds`, `audio_seconds`, `peak_memory_mb`. Raises MeasureError.

        `first_seconds` are those of the sentence's very first run since the model was opened; None where lengths are
        rounded up and it was not the first of its rounded length.
        """
        text = repr(self._texts[number][:60])
        self._doing = "warming up" if number in self._spoken else f"at its first run of {text}"
        self._spoken.add(number)
        return self._ask({"do": "time", "sentence": number}, f" (sentence {text})")

    def time_new_length(self, number: int) -> float | None:
        """Time a sentence of the plan a little shorter, seconds; None where that is the first of its rounded length.

        Raises MeasureError.
        """
        self._doing = "at a new length"
        return self._ask({"do": "time new length", "sentence": number})["seconds"]

    def repeat(self, seconds: float) -> dict[str, float]:
        """Speak all sentences over and over for so long: `seconds`, `audio_seconds`. Raises MeasureError."""
        return self._ask({"do": "repeat", "seconds": seconds})

    def open_batches(self, plan: TimingPlan) -> dict[str, Any]:
        """Speak each sentence of the plan's batches alone: `seconds` that all of them take. Raises MeasureError."""
        assert plan.batches is not None
        asked = {"sentences": plan.batches.sentences, "scales": plan.scales, "speaker": plan.speaker}
        return self._ask({"do": "open batches", **asked})

    def speak_batches(self, size: int, seconds: float) -> dict[str, Any]:
        """Speak all those sentences, so many at once, for so long (see `runtimes/batches.py`). Raises MeasureError."""
        return self._ask({"do": "speak batches", "size": size, "seconds": seconds})

    def _ask(self, request: dict[str, Any], what: str = "") -> dict[str, Any]:
        self._send(request)
        return self._receive(what)

    def _send(self, request: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # it has died: there will be no answer
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()

    def _receive(self, what: str = "") -> dict[str, Any]:
        line = self._read_line()
        if not line:
            raise self._error(f"{self._why_it_died()}{what}")
        reply = json.loads(line)
        if "error" in reply:
            if reply["no_speech"]:
                raise NoSpeechError(f"{self.row.label} does not speak: {reply['error']}{what}")
            # an accelerator has reasons of its own, such as its memory
            advice = "" if self.row.accelerator else "; 'ttsopt optimize' makes the variant again"
            raise self._error(f"{reply['error']}{what}", advice)
        return reply

    def _read_line(self) -> bytes:
        """The next line of the worker's output; empty when it ended. Raises MeasureError when it is late or hangs."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left = self._patience if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            ready, _, _ = select.select([descriptor], [], [], left)
            if not ready and self._deadline is None:
                raise self._error(f"the worker gave no answer for {self._patience:.0f} s")
            if not ready:
                raise NotReadyError(
                    f"{self.row.label} was not ready within {self._share:.2g} s: it was {self._doing}; "
                    "a larger opening_seconds (or limit_seconds) in the device's file gives it more"
                )
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return b""
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _why_it_died(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        hint = WHY_IT_DIED.get(-code, "")
        return f"the worker ended with {how}{hint}" + (f": {said[-1][:300]}" if said else "")

    def _error(self, why: str, advice: str = "") -> MeasureError:
        if self.row.is_peer:
            return MeasureError(f"{self.row.variant} cannot be timed: {why}")
        mode = "" if self.row.mode == "fp32" else f", {self.row.mode}"
        return MeasureError(
            f"{self.row.variant} ({self.row.runtime}{mode}) cannot be timed: {self.row.model}: {why}{advice}"
        )
