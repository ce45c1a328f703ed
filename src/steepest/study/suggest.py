"""Messages for an unknown name: the close match and the list of names."""

from collections.abc import Iterable

from steepest import registry


def choices(kind: str, given: str, allowed: Iterable[str]) -> str:
    """Return a sentence with the allowed names and the closest match.

    >>> choices("preset", "quik", ["smoke", "quick"])
    "unknown preset 'quik'; did you mean 'quick'? Choose from smoke, quick."
    """
    names = list(allowed)
    hint = registry.suggest(given, names) or "."
    return f"unknown {kind} {given!r}{hint} Choose from {', '.join(names)}."
