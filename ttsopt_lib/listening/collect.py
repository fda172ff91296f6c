"""The step 'ratings': what listeners sent back, mapped to the variants and put where the evaluation reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ttsopt_lib.errors import StudyError
from ttsopt_lib.evaluate.keys import present_voices
from ttsopt_lib.evaluate.ratings.file import Rating, RatingsError, Row, Seen, read_ratings, write_ratings
from ttsopt_lib.evaluate.ratings.means import Rated, rate_variants
from ttsopt_lib.listening.key import ListeningKey
from ttsopt_lib.records.base import read_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study


def collect_ratings(
    paths: Sequence[Path], study: Study, folder: StudyFolder, key: Path | None = None
) -> tuple[list[Rating], Rated]:
    """Read all ratings files of a study and write them, with the variants' names, to `records/ratings.csv`.

    The files given are all there are: an earlier `ratings.csv` is replaced. Files that already name variants (of
    another test page) are read as they are.

    Args:
        paths: CSV files with the columns of `evaluate/ratings/file.py`.
        study: whose listening test it was.
        folder: of the study.
        key: of an earlier listening test; None takes the present one's, if there is one.

    Returns:
        All ratings, and what they say about the variants.

    Raises:
        RatingsError: bad rows, each named by file and line; nothing is written then.
        RecordError: a key that cannot be read.
        StudyError: the study names a ratings file of its own.
    """
    if study.evaluate.ratings is not None:
        raise StudyError(
            f"evaluate.ratings: the study names {study.evaluate.ratings}, so collected ratings would not be read; "
            f"take the key out of the study's file"
        )
    path = key or folder.listening_key
    known = read_record(path, ListeningKey, "listen") if key or path.is_file() else None
    ratings: list[Rating] = []
    errors: list[str] = []
    seen: Seen = {}
    for one in paths:
        try:
            ratings += read_ratings(one, study.variant_names, lambda row: _named(row, known, study.variant_names), seen)
        except RatingsError as error:
            errors.append(str(error))
    if errors:
        raise RatingsError("; ".join(errors))
    write_ratings(folder.ratings, ratings)
    return ratings, rate_variants(ratings, study.variant_names, present_voices(study, folder))


def _named(row: Row, key: ListeningKey | None, variants: Sequence[str]) -> Row:
    """A row with the names of sentence, variant and reference in place of the clips'. Raises ValueError."""
    name = row["variant"]
    if name in variants or (key is None and row["trap"]):
        return row
    clip = key.clips.get(name) if key else None
    if clip is None:
        where = "the listening test's key" if key else "the study, which has no listening test's key (ttsopt listen)"
        raise ValueError(
            f"variant {name!r} is neither one of {', '.join(variants)} nor a clip that stands in {where}; "
            f"the key of an earlier test is given with --key"
        )
    if clip.use not in ("rated", "trap") or clip.test != row["test"]:
        raise ValueError(
            f"variant {name!r} is a clip for {clip.test or 'the sound check'} ({clip.use}), not rated there"
        )
    assert key is not None
    if clip.use == "rated" and key.sentences.get(row["sentence"]) != clip.sentence:
        raise ValueError(f"sentence {row['sentence']!r} is not the one of clip {name!r}")
    reference = row["reference"]
    if reference:
        other = key.clips.get(reference)
        if other is None or other.question != clip.question:
            raise ValueError(f"reference {reference!r} is no clip of the same test and sentence as {name!r}")
        reference = other.variant
    return {
        **row,
        "sentence": clip.sentence if clip.use == "rated" else f"trap-{clip.sentence}",
        "variant": clip.variant,
        "reference": reference,
        "variant_voice": key.voices.get(clip.variant, ""),
        "reference_voice": key.voices.get(reference, ""),
        "trap": "" if clip.trap is None else str(clip.trap),
    }
