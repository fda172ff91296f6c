"""espeak-ng's data for one voice, as one file that a page loads: the very files that `piper` reads here.

So the page and this library have the same dictionary and the same phonemes; only the program is another build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

SHARED = ("phontab", "phonindex", "phondata", "intonations", "en_dict")  # English: words that are in no other language


def has_espeak_data(voice: str) -> bool:
    """Whether `piper` has the dictionary of an espeak-ng voice."""
    return _dictionary(voice) is not None


def write_espeak_data(voice: str, path: Path) -> None:
    """Write what espeak-ng reads for a voice: a line of JSON, which says what follows, and the files' bytes.

    Args:
        voice: of espeak-ng, as in `en-us`.
        path: the file.
    """
    data = _data_folder()
    dictionary = _dictionary(voice)
    assert dictionary is not None, f"no dictionary for {voice}"
    files = [data / name for name in dict.fromkeys((*SHARED, dictionary))]
    files += [file for folder in ("lang", "voices") for file in sorted((data / folder).rglob("*")) if file.is_file()]
    listed = [[file.relative_to(data).as_posix(), file.stat().st_size] for file in files]
    path.write_bytes(json.dumps(listed).encode() + b"\n" + b"".join(file.read_bytes() for file in files))


def _data_folder() -> Path:
    from piper.phonemize_espeak import ESPEAK_DATA_DIR

    return Path(ESPEAK_DATA_DIR)


def _dictionary(voice: str) -> str | None:
    """Name of the file with a voice's words; None where espeak-ng has no such voice, or no words for it."""
    wanted = voice.partition("+")[0].lower()  # behind the + is who speaks
    for file in sorted((_data_folder() / "lang").rglob("*")):
        if not file.is_file():
            continue
        said = list(_settings(file))
        languages = [value.split()[0].lower() for key, value in said if key == "language" and value]
        if wanted not in (file.name.lower(), *languages) or not languages:
            continue
        named = next((value.split()[0] for key, value in said if key == "dictionary" and value), None)
        name = f"{named or languages[0].partition('-')[0]}_dict"
        if (_data_folder() / name).is_file():
            return name
    return None


def _settings(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("//")[0].strip().partition(" ")
        yield key, value.strip()
