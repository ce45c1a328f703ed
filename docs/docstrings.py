"""An extension of griffe, which reads docstrings for the site: doctests become blocks of code wherever they stand."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(^>>> .*(?:\n\S.*)*)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences examples outside of sections, and gives ``Example:`` the name that griffe knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            fenced = EXAMPLE.sub(r"```pycon\n\1\n```", obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", fenced, flags=re.MULTILINE)
