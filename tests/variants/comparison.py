"""What is compared: a convention, an expression that makes the other side, and our class with its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """One row.

    Attributes:
        convention: what the other side does, in words.
        theirs: the Python expression that makes it, see `peers`.
        name: our class.
        numbers: our arguments that are its numbers.
        selecting: our arguments that choose the convention; without them we do what torch does.
        vector: our arguments for the vector alone, which is then in a group of its own.
        apart: how far the two sides are from each other, where ``convention`` is a difference that no argument of ours
            takes away; None: they are equal, but for rounding.
        is_scheduled: whether the rate changes under the changing schedule; not where the other side has none.
    """

    convention: str
    theirs: str
    name: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    selecting: Mapping[str, Any] = field(default_factory=dict)
    vector: Mapping[str, Any] = field(default_factory=dict)
    apart: float | None = None
    is_scheduled: bool = True

    @property
    def library(self) -> str:
        """The library that the other side comes from; ``formula`` for a reference that we wrote from the formula."""
        return self.theirs.partition(".")[0]

    @property
    def ours(self) -> str:
        """Our side, as it is typed."""
        return f"{self.name}({typed({**self.numbers, **self.selecting})})"


def typed(options: Mapping[str, Any]) -> str:
    """Arguments as they are typed."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
