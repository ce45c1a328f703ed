"""Ours, told by an argument, goes where other libraries go: fifty steps in float64, measured in `measure`.

Bound: 200 eps of the largest parameter. Each of the fifty steps rounds a parameter at the update and at a decay, on
both sides; what updates of 1e-2 differ by themselves is far below. Where a library deviates in a way that no argument
of ours takes away, its row says how far it is, and it stays there.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from cases import CLASSES

from .comparison import Comparison
from .comparisons import COMPARISONS, NO_PEER, NOT_COMPARED
from .measure import LIBRARIES, lacking, measured
from .peers import SCHEDULES, STEPS
from .table import BEGIN, END, rows, tables

PAGE = Path(__file__).parents[2] / "docs" / "variants.md"
BOUND = 4 * STEPS * sys.float_info.epsilon

pytestmark = pytest.mark.slow  # make parity runs it: the libraries take 500 MB, and a minute to measure


def every(comparisons: list[Comparison]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("comparison", comparisons, ids=lambda c: c.theirs)


def need(*libraries: str) -> None:
    if missing := sorted({name for library in libraries for name in lacking(library)}):
        pytest.skip(f"{', '.join(missing)} not installed; make parity installs them and runs this")


@every([c for c in COMPARISONS if c.apart is None])
def test_ours_goes_where_theirs_goes(comparison: Comparison) -> None:
    need(comparison.library)
    found = measured()["paths"][comparison.theirs]
    assert max(found[schedule] for schedule in SCHEDULES) <= BOUND * found["largest"], comparison.ours
    assert found["way"] > 1e-6


@every([c for c in COMPARISONS if c.apart is not None])
def test_a_known_difference_is_as_large_as_it_was(comparison: Comparison) -> None:
    need(comparison.library)
    found = measured()["paths"][comparison.theirs]
    difference = max(found[schedule] for schedule in SCHEDULES)
    assert difference > 1000 * BOUND * found["largest"], f"{comparison.ours} is equal now: leave out apart"
    assert difference == pytest.approx(comparison.apart, rel=0.1), comparison.ours


@every([c for c in COMPARISONS if c.selecting])
def test_without_the_argument_it_goes_elsewhere(comparison: Comparison) -> None:
    need(comparison.library)
    found = measured()["paths"][comparison.theirs]
    assert found["without"] > 1000 * BOUND * found["largest"], comparison.ours


def test_no_two_comparisons_share_an_expression() -> None:
    assert len({c.theirs for c in COMPARISONS}) == len(COMPARISONS)


@pytest.mark.parametrize("library", ["keras", "optax"])
def test_every_class_that_a_library_has_too_is_compared(library: str) -> None:
    need(library)
    called = re.compile(rf"{library}\.(?:optimizers\.|contrib\.)?(?:scale_by_)?(\w+)")
    compared = {name.lower() for c in COMPARISONS for name in called.findall(c.theirs)}
    both = CLASSES.keys() & set(measured()["offered"][library])
    assert both - compared - NOT_COMPARED.keys() == set(), "add a Comparison, or the reason to NOT_COMPARED"


def test_every_class_is_equal_to_another_librarys() -> None:
    """Or the reason is listed, and only then."""
    equal = {c.name.lower() for c in COMPARISONS if c.apart is None and c.library != "formula"}
    assert CLASSES.keys() - equal == NO_PEER.keys(), "add a Comparison, or the reason to NO_PEER"


def test_the_page_explains_every_known_difference() -> None:
    """The distances in the last column of the hand-written table are those that the rows declare."""
    section = PAGE.read_text("utf-8").partition("## Rules that torch does not have")[2].partition("\n## ")[0]
    told = re.findall(r"(\d\.\d(?:e-\d+)?) \|$", section, re.MULTILINE)
    assert {float(text) for text in told} == {c.apart for c in COMPARISONS if c.apart is not None}


STALE = "run python benchmarks/parity_table.py"


def test_the_page_holds_what_is_measured() -> None:
    """Words are equal, differences of the last bits are that on the page too, and the others are of the same order."""
    need(*LIBRARIES)
    page, fresh = PAGE.read_text("utf-8"), tables(measured()["paths"])
    known, made = list(rows(page)), list(rows(f"{BEGIN}\n{fresh}\n{END}"))
    assert len(known) == len(made), STALE
    for row, new in zip(known, made, strict=True):
        assert len(row) == len(new), STALE
        assert all(map(alike, row, new)), f"{STALE}: {row} is {new}"


def alike(cell: str, new: str) -> bool:
    if not all(re.fullmatch(r"0|\d\.\de-?\+?\d+", text) for text in (cell, new)):
        return cell == new
    known, found = float(cell), float(new)
    return max(known, found) <= 10 * BOUND or abs(math.log10(known / found)) < 0.5
