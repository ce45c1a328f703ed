"""Numbers and names in readable form."""

from steepest.study.report.wording import number, score

__all__ = ["count", "duration", "number", "score", "speed", "words"]


def duration(seconds: float | None) -> str:
    """Return a time as 4:05 or 1:02:03.

    >>> duration(245), duration(3723), duration(None)
    ('4:05', '1:02:03', '–')
    """
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def speed(value: float | None) -> str:
    """Return examples per second."""
    return "–" if value is None else f"{value:,.0f}"


def count(number: int, noun: str) -> str:
    """Return a number of things.

    >>> count(1, "epoch"), count(2, "epoch")
    ('1 epoch', '2 epochs')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def words(name: str) -> str:
    """Return a name of code as words.

    >>> words("absolute_error")
    'absolute error'
    """
    return name.replace("_", " ")
