"""Numbers as people read them."""


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def score(value: float | None, metric: str) -> str:
    """Return a metric's value: percent for an accuracy, else a plain number."""
    if value is None:
        return "–"
    return f"{value:.2%}" if metric == "accuracy" else figure(value)


def figure(value: float) -> str:
    """Return a number with four decimals, or with as many significant digits where those would not fit.

    >>> figure(0.12345), figure(1e30), figure(2e-7)
    ('0.1235', '1e+30', '2e-07')
    """
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


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
