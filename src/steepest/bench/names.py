"""Names that a request gives, looked up among those that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ..registry import UnknownNameError, suggest

T = TypeVar("T")


def look_up(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``.

    Args:
        kind: the kind of thing that is named, such as "case", for the message.
        name: the name that was given.
        known: everything that exists, by name.

    Raises:
        UnknownNameError: nothing has that name; the message holds the close match and the list of names.
    """
    if name not in known:
        raise UnknownNameError(f"unknown {kind} {name!r}{suggest(name, known)} (there are: {', '.join(known)})")
    return known[name]
