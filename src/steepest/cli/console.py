"""The two output streams: results on stdout, messages on stderr. rich honours NO_COLOR."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

WIDE = 160


def out() -> Console:
    """Return the console for results. In a file or a pipe, lines may be as long as tables need."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


def err() -> Console:
    """Return the console for messages."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(words: str) -> None:
    """Print a note, which is not an error."""
    err().print(f"note: {words}", markup=False)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err().print(record.getMessage(), markup=False)


@contextmanager
def messages() -> Iterator[None]:
    """Show on stderr what the study's modules log, such as a download."""
    logger, handler = logging.getLogger("steepest.study"), _Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
