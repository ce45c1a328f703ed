"""`steepest explain`: a rule step by step on a surface, with the value of every symbol."""

from collections.abc import Sequence
from pathlib import Path

from steepest.cli import console, tracing
from steepest.landscapes.explaining import KINDS, explain
from steepest.landscapes.files import kind_of


def run(
    optimizer: str,
    surface: str | None,
    *,
    steps: int,
    start: str | None,
    lr: float | None,
    rates: int,
    seed: int,
    out: Sequence[Path],
) -> None:
    """Explain, print the steps, and write the files that are asked for."""
    for file in out:
        kind_of(file, KINDS)
    point = None if start is None else tracing.point(start)
    explained = explain(optimizer, surface, steps=steps, start=point, lr=lr, rates=rates, seed=seed)
    print(explained.text(None if not out else 1))
    for file in out:
        explained.save(file)
        console.note(f"written: {file}")
