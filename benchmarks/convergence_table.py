"""The rates at which every optimizer reaches the first target of built-in workloads: docs/convergence.md.

Run it as ``python benchmarks/convergence_table.py``; it takes some minutes and writes the page. With ``--missing`` only
classes are measured that the page lacks, or has with another range, and the other rows stay. The figures are those that
tests/test_convergence.py holds every class to.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from cases import CLASSES  # noqa: E402 - found in tests/
from convergence import CHANGES, LARGE, NO_CHANGE, RATES, SMALL, Run, Work, refusal, runs, works  # noqa: E402
from steepest import Optimizer  # noqa: E402 - after what sets the path

PAGE = ROOT / "docs" / "convergence.md"

INTRODUCTION = f"""# What trains, at which rates

Measured by `python benchmarks/convergence_table.py`, which writes this page; `tests/test_convergence.py` holds every
optimizer to it. Each is built over a built-in workload's own model with {RATES} learning rates, the middles of equal
parts of the range that the class declares for `lr`, and its defaults. It trains with one seed and a constant rate until
the validation metric reaches the workload's first, easiest target. A class passes if some rate does.

**This is a gate, not a ranking.** The targets are easy, the horizons are short, and there is one seed: 30 steps and 60
are alike here. For a comparison on your task run `steepest study`.
"""

COLUMNS = """
A cell names the best rate, the steps it took, and how many of the rates that were tried reached the target. Each class
is tried on one of the two larger workloads: from the rate that is best on the digits on, until one reaches the target.
"""

NOTES = """
A class that needs a closure (LBFGS, SteepestDescent) sees the whole training set in every step. Sophia is fed an
estimate G every `hessian_interval` steps. What is not a matrix goes to the companion of a rule of matrices (Muon),
AdamW, at its defaults. SGD, Adagrad and SparseAdam get the sparse gradients of the matrix factorisation, all others
dense ones. Of classes that evaluate other weights than they train (Schedule-Free, SPlus) those are measured.
"""


def main() -> None:
    """Measure in two processes, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", action="store_true", help="keep the rows of classes that the page has already")
    rows = written() if parser.parse_args().missing else {}
    pairs = [(name, work) for name, cls in CLASSES.items() if name not in rows for work in works(cls)]
    made: dict[tuple[str, str], tuple[Run, ...]] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for (name, work), result in zip(pairs, pool.imap(measured, pairs), strict=True):
            made[name, work.name] = result
            if all((name, each.name) in made for each in works(CLASSES[name])):
                rows[name] = row(name, made)
                write(rows)


def write(rows: dict[str, str]) -> None:
    """Write the page with the rows that are known, so that an interrupted run keeps them."""
    lines = [rows[name] for name in CLASSES if name in rows]
    PAGE.write_text("\n".join([INTRODUCTION, *works_table(), COLUMNS, *HEAD, *lines, NOTES, *changes(), ""]), "utf-8")


def written() -> dict[str, str]:
    """Return the rows of the page by class, without those that were measured over another range."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    starts = {name: f"| {cls.__name__} | {range_of(cls)} |" for name, cls in CLASSES.items()}
    return {name: line for name, start in starts.items() for line in lines if line.startswith(start)}


def measured(pair: tuple[str, Work]) -> tuple[Run, ...]:
    """Return a class's runs on a workload, with the change that it needs there, and print their cell."""
    name, work = pair
    made = runs(CLASSES[name], work, CHANGES.get((name, work.name), NO_CHANGE))
    print(f"{name} on {work.name}: {cell(name, work, made)}", flush=True)
    return made


def works_table() -> Iterator[str]:
    """Yield a row for each workload."""
    yield "| workload | target | steps at most | a look every |\n|---|---|---:|---:|"
    for work in SMALL + LARGE:
        metric = work.workload.metric
        sign = "≥" if metric.sign > 0 else "≤"
        yield f"| {work.name}, {work.preset} | {metric.name} {sign} {work.target:g} | {work.steps:,} | {work.every} |"


HEAD = (
    f"| optimizer | range of lr | {' | '.join(work.name for work in SMALL)} | one of the larger |",
    "|---|---|---|---|---|",
)


def row(name: str, made: dict[tuple[str, str], tuple[Run, ...]]) -> str:
    """Return the row of a class."""
    cls = CLASSES[name]
    small = [cell(name, work, made.get((name, work.name))) for work in SMALL]
    large = [f"{w.name}: {cell(name, w, made[name, w.name])}" for w in LARGE if (name, w.name) in made]
    large = large or [refusal(cls, LARGE[0])]
    return f"| {cls.__name__} | {range_of(cls)} | {' | '.join(small + large)} |"


def range_of(cls: type[Optimizer]) -> str:
    """Return the range of a class's learning rate in words."""
    rate = cls.fields["lr"]
    return f"{rate.search.low:g} to {rate.search.high:g}" if rate.search else f"{rate.default:g}, not searched"


def cell(name: str, work: Work, made: Sequence[Run] | None) -> str:
    """Return the best rate with its steps, and how many rates reached the target; a star for a change."""
    if made is None:
        return refusal(CLASSES[name], work)
    good = sorted((run for run in made if run.steps), key=lambda run: run.steps or 0)
    mark = "\\*" if (name, work.name) in CHANGES else ""
    if not good:
        return f"**not reached**{mark}"
    return f"{good[0].lr:.2g}, {good[0].steps} steps ({len(good)} of {len(made)}){mark}"


def changes() -> Iterator[str]:
    """Yield a line for each class that needs a change, marked with a star."""
    yield "\\* With a change, without which no rate reaches the target:\n"
    for (name, place), change in CHANGES.items():
        what = ", ".join(f"`{spelled(*each)}`" for each in change.options) or "the whole set in every step"
        yield f"* {CLASSES[name].__name__} on {place}: {what}, because {change.reason}."


def spelled(option: str, value: float | str) -> str:
    """Return an option with its value."""
    return f"{option}={value if isinstance(value, str) else f'{value:g}'}"


if __name__ == "__main__":
    main()
