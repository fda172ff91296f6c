"""YAML and JSON that a person may have written or copied: what is wrong with it is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ttsopt_lib.errors import TtsoptError

MERGE = "tag:yaml.org,2002:merge"  # of the key <<, which may stand there several times


class _Loader(yaml.SafeLoader):
    """A key that stands twice is an error: the first one would be ignored without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen and key.tag != MERGE:
                raise yaml.MarkedYAMLError(problem=f"key {key.value} stands there twice", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def parsed_yaml(text: str) -> Any:
    """What YAML says. Raises `ValueError` with one line that names the line in the text."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ValueError(f"not valid YAML{line}: {problem}") from None
    except (ValueError, RecursionError) as error:  # no date, or too deep
        raise ValueError(f"not valid YAML: {error}") from None


def read_json(path: Path, error: type[TtsoptError], begin: str = "", remedy: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        `error`, in one line that begins with `begin` and ends with the `remedy`: there is no such file or object.
    """
    remedy = f"; {remedy}" if remedy else ""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))  # as editors on Windows write it
    except FileNotFoundError:
        raise error(f"{begin}{path}: no such file{remedy}") from None
    except OSError as problem:
        raise error(f"{begin}{path}: cannot be read ({problem.strerror})") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{begin}{path}: not valid JSON ({problem}){remedy}") from None
    if not isinstance(found, dict):
        raise error(f"{begin}{path}: should hold one JSON object, not a {type(found).__name__}{remedy}")
    return found
