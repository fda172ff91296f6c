"""Read a CSV of listeners' ratings; every bad row is named by file and line, none is dropped silently.

A row that comes again, the same in every column, counts once: a file may have arrived twice.

Columns, in any order, one row per rating:

* `test`: `acr` (absolute category rating, ITU-T P.800/P.808, 1 to 5), `ccr` (comparison, -3 to 3) or
  `mushra` (ITU-R BS.1534, 0 to 100);
* `sentence`: any name of the sentence that was heard;
* `variant`: a variant of the study (in `mushra` also an anchor);
* `reference`: for `ccr` and `mushra` the variant it was compared with, empty for `acr`;
* `rater`: any name of the listener;
* `score`: on the scale of the test;
* `seconds`: from the first play to the answer; may be empty;
* `trap`: empty for a rating. For a trap question, the score that the listener was told to give;
* `variant_voice`, `reference_voice`: what the two voices were when they were heard (`voice_key`), as `ttsopt ratings`
  writes it; may be empty or missing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.evaluate.anchors import ANCHORS
from ttsopt_lib.files import atomic_path

COLUMNS = ("test", "sentence", "variant", "reference", "rater", "score", "seconds", "trap")
VOICES = ("variant_voice", "reference_voice")  # columns that may be missing
Row = dict[str, str]
SCALES = {"acr": (1, 5), "ccr": (-3, 3), "mushra": (0, 100)}


class RatingsError(TtsoptError, ValueError):
    """A ratings file that cannot be used. One line: file and line, what is wrong, what would be right."""


@dataclass(frozen=True)
class Rating:
    """One answer of one listener."""

    test: str
    sentence: str
    variant: str
    reference: str
    rater: str
    score: int
    seconds: float | None
    trap: int | None  # the answer that a trap question asked for; None: an ordinary rating
    variant_voice: str = field(default="", compare=False)  # hash of the voice that was heard; empty: not known
    reference_voice: str = field(default="", compare=False)


Seen = dict[Rating | tuple[str, ...], tuple[Rating, str]]  # question -> its answer, and the file and line of that


def read_ratings(
    path: Path,
    variants: Collection[str],
    translate: Callable[[Row], Row] | None = None,
    seen: Seen | None = None,
) -> list[Rating]:
    """All rows of a ratings file.

    Args:
        path: the CSV, UTF-8 with a header line.
        variants: names that may be rated.
        translate: from a row as it stands there to one with the study's names; raises ValueError for a bad one.
        seen: answers in other files, to which this one's are added.

    Raises:
        RatingsError: a missing or unknown column, or bad rows: the first is explained, the others are named.
    """
    ratings: list[Rating] = []
    bad: list[tuple[int, str]] = []
    seen = {} if seen is None else seen
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            for separator in ";\t|":
                if len(header) == 1 and len(set(COLUMNS) & set(header[0].split(separator))) > 1:
                    raise RatingsError(
                        f"{path}:1: columns are separated by {separator!r} here, as some spreadsheets write them; save "
                        "it with commas (and numbers with a decimal point)"
                    )
            _check_header(path, header)
            for fields in reader:
                if not fields:
                    continue  # an empty line, as editors leave at the end
                try:
                    rating = _rating(header, fields, variants, translate)
                    if _is_new(rating, path, reader.line_num, seen):
                        ratings.append(rating)
                except ValueError as error:
                    bad.append((reader.line_num, str(error)))
    except FileNotFoundError:
        raise RatingsError(f"{path}: no such file; give a CSV with the columns {', '.join(COLUMNS)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RatingsError(f"{path}: cannot be read as a CSV in UTF-8: {error}") from None
    if bad:
        line, reason = bad[0]
        others = ", ".join(str(number) for number, _ in bad[1:21]) + (", ..." if len(bad) > 21 else "")
        more = f" (bad as well, {len(bad) - 1}: line {others})" if len(bad) > 1 else ""
        raise RatingsError(f"{path}:{line}: {reason}{more}")
    return ratings


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    unknown = [name for name in header if name not in COLUMNS + VOICES]
    doubled = sorted({name for name in header if header.count(name) > 1})
    for what, names in (("missing", missing), ("unknown", unknown), ("doubled", doubled)):
        if names:
            raise RatingsError(f"{path}:1: {what} column {', '.join(names)}; the columns are {', '.join(COLUMNS)}")


def _rating(
    header: list[str], fields: list[str], variants: Collection[str], translate: Callable[[Row], Row] | None
) -> Rating:
    """One row. Raises ValueError with what is wrong."""
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields, the header has {len(header)}")
    row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
    row = translate(row) if translate else row
    test = row["test"]
    if test not in SCALES:
        raise ValueError(f"test {test!r}: known are {', '.join(SCALES)}")
    for name in ("sentence", "rater"):
        if not row[name]:
            raise ValueError(f"{name} is empty")
    known = [*variants, *ANCHORS] if test == "mushra" else variants
    trap = _on_scale("trap", row["trap"], test) if row["trap"] else None
    if trap is None:
        _check_variant("variant", row["variant"], known)
        if test != "acr":
            _check_variant("reference", row["reference"], known)
    return Rating(
        test=test,
        sentence=row["sentence"],
        variant=row["variant"],
        reference=row["reference"],
        rater=row["rater"],
        score=_on_scale("score", row["score"], test),
        seconds=_seconds(row["seconds"]),
        trap=trap,
        variant_voice=row.get("variant_voice", ""),
        reference_voice=row.get("reference_voice", ""),
    )


def _check_variant(column: str, name: str, variants: Collection[str]) -> None:
    if name not in variants:
        raise ValueError(f"{column} {name!r} is not in this study; it has {', '.join(variants)}")


def _on_scale(column: str, text: str, test: str) -> int:
    low, high = SCALES[test]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (low <= value <= high and value == int(value)):
        raise ValueError(f"{column} {text!r}: {test} asks for a whole number from {low} to {high}{_comma(text)}")
    return int(value)


def _seconds(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"seconds {text!r}: a number of seconds, or empty{_comma(text)}")
    return value


def _comma(text: str) -> str:
    return ", with a point and no comma before its decimals" if re.fullmatch(r"\d+,\d+", text) else ""


def _is_new(rating: Rating, path: Path, line: int, seen: Seen) -> bool:
    """Whether a row is not one that was read before. Raises ValueError for another answer to the same question.

    Which of two answers counts is not ours to choose; a trap question may be asked again.
    """
    names = (rating.test, rating.rater, rating.sentence, rating.variant, rating.reference)
    question = names if rating.trap is None else rating
    if question not in seen:
        seen[question] = (rating, f"{path}:{line}")
        return True
    first, where = seen[question]
    if first != rating:
        before = f"line {where.rpartition(':')[2]}" if where.startswith(f"{path}:") else where
        raise ValueError(
            f"rater {rating.rater!r} gave this sentence and variant another answer already in {before}: "
            f"take out the one that does not count"
        )
    return False


def write_ratings(path: Path, ratings: Sequence[Rating]) -> None:
    """Write ratings as a CSV that `read_ratings` reads, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS + VOICES)
        for rating in ratings:
            values = [getattr(rating, column) for column in COLUMNS + VOICES]
            writer.writerow(["" if value is None else value for value in values])
