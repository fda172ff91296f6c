"""For mkdocs.yml: the roles of our docstrings (``:class:`~package.Name```) as plain code in the API pages."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|mod|meth|attr|data):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Print the last part of the name that a role points to."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", obj.docstring.value)
