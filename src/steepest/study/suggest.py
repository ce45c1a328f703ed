"""Messages for a name that is not there: the close match and the list."""

from collections.abc import Iterable

from steepest import registry


def choices(kind: str, given: str, allowed: Iterable[str]) -> str:
    """Return the sentence that tells which names are allowed, and which one may have been meant.

    >>> choices("preset", "quik", ["smoke", "quick"])
    "unknown preset 'quik'; did you mean 'quick'? Choose from smoke, quick."
    """
    names = list(allowed)
    hint = registry.suggest(given, names) or "."
    return f"unknown {kind} {given!r}{hint} Choose from {', '.join(names)}."
