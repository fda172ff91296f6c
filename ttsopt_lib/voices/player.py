"""Where speech goes while it is computed: a WAV file, raw samples on standard output, or the loudspeaker."""

from __future__ import annotations

import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ttsopt_lib.voices.onnx_file import VoiceError

Write = Callable[[NDArray[np.float32]], None]


class PlayerError(VoiceError):
    """Nothing on this machine plays audio, or what plays it has stopped; the message says what to do."""


def samples_of(audio: NDArray[np.float32]) -> bytes:
    """16-bit samples, little-endian, of float samples from -1 to 1."""
    return (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()


@contextmanager
def output_to(path: Path | None, sample_rate: int) -> Iterator[Write]:
    """What takes the pieces of speech as they come.

    Args:
        path: a WAV file; `-` for raw 16-bit samples on standard output; None for the loudspeaker.
        sample_rate: samples of a second.

    Raises:
        PlayerError: no player is there, or it has stopped.
    """
    if path is None:
        with _loudspeaker(sample_rate) as write:
            yield write
    elif str(path) == "-":
        yield lambda audio: _write(sys.stdout.buffer, audio, "standard output")
    else:
        with open(path, "wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            yield lambda audio: file.writeframes(samples_of(audio))


def _players(rate: int) -> list[list[str]]:
    """Commands that play raw 16-bit samples from standard input."""
    return [
        ["aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", str(rate)],
        ["pw-cat", "--playback", "--format", "s16", "--channels", "1", "--rate", str(rate), "-"],
        ["paplay", "--raw", "--format=s16le", "--channels=1", f"--rate={rate}"],
        ["ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", str(rate), "-"],
    ]


@contextmanager
def _loudspeaker(rate: int) -> Iterator[Write]:
    command = next((one for one in _players(rate) if shutil.which(one[0])), None)
    if command is None:
        names = ", ".join(one[0] for one in _players(rate))
        raise PlayerError(f"nothing plays audio here (looked for {names}); write a file with --output speech.wav")
    with subprocess.Popen(command, stdin=subprocess.PIPE) as player:
        assert player.stdin is not None
        stdin = player.stdin
        try:
            yield lambda audio: _write(stdin, audio, command[0])
        finally:
            stdin.close()
    if player.returncode:
        raise PlayerError(
            f"{command[0]} ended with exit code {player.returncode}; write a file with --output speech.wav"
        )


def _write(file: IO[bytes], audio: NDArray[np.float32], what: str) -> None:
    """Write a piece so that it is heard at once, and not when the next ones have come."""
    try:
        file.write(samples_of(audio))
        file.flush()
    except BrokenPipeError:
        raise PlayerError(f"{what} was closed before the speech had ended") from None
