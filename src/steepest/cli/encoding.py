"""Output in an encoding that lacks some of our letters: signs become words of ASCII, and printing never raises."""

import codecs
import sys
from typing import Final

NAME: Final = "steepest.in_ascii"
IN_ASCII: Final = {
    "±": "+/-",
    "−": "-",
    "–": "-",
    "∞": "inf",
    "×": "x",
    "≥": ">=",
    "→": "->",
    "…": "...",
    "ⁿ": "^n",
}


def printable(text: str) -> str:
    """Return a text as standard output will show it, so that columns get the width of the shown text."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, NAME).decode(encoding)


def let_no_letter_raise() -> None:
    """Make both streams spell out the letters that their encoding lacks. A replaced stream keeps its own handling."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=NAME)


def _spelled_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    words = "".join(IN_ASCII.get(letter, letter) for letter in lost)
    return words.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(NAME, _spelled_out)
