"""What utterances scored: one line of JSON each, by the hash of everything that the scores depend on.

An interrupt costs what each process is at work on (some `quality.BATCH` utterances), and a study that asks for more
sentences than before scores only those that are new: this is how a first look becomes a complete report. A line that
was cut short (power, a full disk) is dropped when the store is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from ttsopt_lib.evaluate.scores import UtteranceScores
from ttsopt_lib.files import atomic_path, naming

_SCORES = TypeAdapter(UtteranceScores)


class ScoreStore:
    """Scores by key, kept in a file from one run to the next.

    Args:
        path: the file; it is made with the first scores that are added.
        forget: begin without what earlier runs left.
    """

    def __init__(self, path: Path, forget: bool = False):
        self._path = path
        self._scores: dict[str, UtteranceScores] = {}
        self._mode = "w" if forget else "a"  # what is to be forgotten goes when there is something in its place
        if not forget and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                with suppress(ValueError, TypeError, KeyError):  # cut short, or not written by this class
                    entry = json.loads(line)
                    self._scores[entry["key"]] = _SCORES.validate_python(entry["scores"])
            if not text.endswith("\n"):  # so that what is added begins on a line of its own
                self._write()

    def get(self, key: str) -> UtteranceScores | None:
        """The scores of one utterance, or None where it was not scored yet."""
        return self._scores.get(key)

    def add(self, key: str, scores: UtteranceScores) -> None:
        """Keep the scores of one utterance. Raises OSError where they cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self._path), open(self._path, self._mode, encoding="utf-8") as file:
            file.write(_line(key, scores))
        self._mode = "a"
        self._scores[key] = scores

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forget all other utterances: those of variants that have changed or gone."""
        wanted = set(keys)
        if not wanted >= self._scores.keys():
            self._scores = {key: scores for key, scores in self._scores.items() if key in wanted}
            self._write()

    def _write(self) -> None:
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(_line(*entry) for entry in self._scores.items()), encoding="utf-8")


def _line(key: str, scores: UtteranceScores) -> str:
    return json.dumps({"key": key, "scores": _SCORES.dump_python(scores, mode="json")}, ensure_ascii=False) + "\n"
