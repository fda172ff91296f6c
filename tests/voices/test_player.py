"""Where speech goes while it is computed."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ttsopt_lib.voices.player import PlayerError, output_to, samples_of


def test_a_piece_on_standard_output_is_there_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, piece = io.BytesIO(), np.full(100, 0.5, dtype=np.float32)  # less than a buffer
    buffer = io.BufferedWriter(heard)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=buffer))
    with output_to(Path("-"), 16000) as write:
        for number in (1, 2):
            write(piece)
            assert heard.getvalue() == number * samples_of(piece)


def test_a_reader_that_has_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise BrokenPipeError

    buffer = SimpleNamespace(write=len, flush=gone)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=buffer))
    with output_to(Path("-"), 16000) as write, pytest.raises(PlayerError, match="standard output was closed"):
        write(np.zeros(100, dtype=np.float32))
