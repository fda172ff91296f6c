"""What utterances scored: one line of JSON each, by the hash of everything that the scores depend on.

An interrupt costs what each process is at work on (some `quality.BATCH` utterances), and a study that asks for more
sentences than before scores only those that are new: this is how a first look becomes a complete report. A line that
was cut short (power, a full disk) is dropped when the store is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ttsopt_lib.evaluate.scores import UtteranceScores
from ttsopt_lib.files import atomic_path

_SCORES = TypeAdapter(UtteranceScores)


class ScoreStore:
    """Scores by key, kept in a file from one run to the next.

    Args:
        path: the file; it is made with the first scores that are added.
        forget: begin without what earlier runs left.
    """

    def __init__(self, path: Path, forget: bool = False):
        self._path = path
        self._lines: dict[str, str] = {}
        self._mode = "w" if forget else "a"  # what is to be forgotten goes when there is something in its place
        if not forget and path.is_file():
            self._restore()

    def _restore(self) -> None:
        text = self._path.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            try:
                self._lines[json.loads(line)["key"]] = line
            except (ValueError, TypeError, KeyError):  # not written by this class: scored again
                continue
        if whole != text:
            self._write()

    def get(self, key: str) -> UtteranceScores | None:
        """The scores of one utterance, or None where it was not scored yet."""
        line = self._lines.get(key)
        if line is None:
            return None
        try:
            return _SCORES.validate_python(json.loads(line)["scores"])
        except (ValidationError, KeyError):
            return None

    def add(self, key: str, scores: UtteranceScores) -> None:
        """Keep the scores of one utterance. Raises OSError where they cannot be written."""
        line = json.dumps({"key": key, "scores": _SCORES.dump_python(scores, mode="json")}, ensure_ascii=False)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, self._mode, encoding="utf-8") as file:
            file.write(line + "\n")
        self._mode = "a"
        self._lines[key] = line

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forget all other utterances: those of variants that have changed or gone."""
        wanted = set(keys)
        if not wanted >= self._lines.keys():
            self._lines = {key: line for key, line in self._lines.items() if key in wanted}
            self._write()

    def _write(self) -> None:
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self._lines.values()), encoding="utf-8")
