"""Long names: where they may break, in a table, in a sentence and next to a chart."""

import re
from typing import Final

from markupsafe import Markup, escape

LONG: Final = 20
"""Words of more letters get places to break."""
LINE: Final = 30
MOST_LINES: Final = 5
_BREAK: Final = re.compile(r"(?<=[ _,:(\[])|(?<=\.)(?!\d)|(?<=[a-z\d])(?=[A-Z])")
"""Places for a line break: after a separator other than a decimal point, and before a capital inside a word."""


def breakable(text: str) -> Markup:
    """Return the text for a page, with places to break after the separators of its long words.

    >>> breakable("torch.optim.adamw.AdamW is <b>")
    Markup('torch.<wbr>optim.<wbr>adamw.<wbr>Adam<wbr>W is &lt;b&gt;')
    """
    return Markup(" ").join(_broken(word) for word in text.split(" "))


def folded(text: str, width: int = LINE) -> str:
    """Return the text in lines of at most so many letters, broken after separators; what is beyond five lines is cut.

    >>> folded("torch.optim.adamw.AdamW[weight_decay=0.1]", 20)
    'torch.optim.adamw.\\nAdamW[weight_\\ndecay=0.1]'
    """
    lines = [""]
    for piece in _BREAK.split(text):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    lines = [part.rstrip() for line in lines for part in _hard(line, width)]
    return "\n".join(lines[:MOST_LINES]) + ("…" if len(lines) > MOST_LINES else "")


def _broken(word: str) -> Markup:
    if len(word) <= LONG:
        return escape(word)
    return Markup("<wbr>").join(_BREAK.split(word))


def _hard(line: str, width: int) -> list[str]:
    """Cut a line without a separator where it is full."""
    whole = line.rstrip()
    return [whole[start : start + width] for start in range(0, len(whole), width)] or [""]
