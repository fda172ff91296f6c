"""The key of a listening test: which variant each clip is. It stays with the organizer, beside the served folder."""

from __future__ import annotations

from typing import Literal

from ttsopt_lib.records.base import Record


class Clip(Record):
    """One audio file of the test."""

    use: Literal["rated", "reference", "trap", "practice", "sound"]
    test: str  # acr, ccr, mushra; empty for the sound check
    sentence: str
    variant: str  # a variant of the study, or an anchor
    trap: int | None = None  # the answer that a trap question asks for
    loudness_lufs: float  # before the gain
    gain_db: float  # one gain for the whole clip, so that all are equally loud
    sha256: str  # of the file

    @property
    def question(self) -> tuple[str, str, bool]:
        """What clips that are compared have in common: their test and sentence, and whether they are a trap's."""
        return self.test, self.sentence, self.use == "trap"


class ListeningKey(Record):
    """records/listening_key.json."""

    schema_version: Literal[1] = 1
    key: str  # hash of what the test was made from
    created: str
    test_id: str  # the page's own name of this test, in file names and in the browser's storage
    target_lufs: float
    sentences: dict[str, str]  # the page's name of a sentence -> its number among the evaluation sentences
    texts: dict[str, str]  # that number -> the text
    voices: dict[str, str] = {}  # variant -> hash of the voice that speaks (`voice_key`); empty: an older key
    clips: dict[str, Clip]  # file name without ending -> what it is
