"""YAML that a person wrote: what is wrong with it is one line."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """A key that stands twice is an error: the first one would be ignored without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
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
