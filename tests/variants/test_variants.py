"""Ours, told by an argument, goes where Keras 3, optax and torch go: sixteen steps in float64, measured in `measure`.

Bound: 64 eps of the largest parameter. Each of the sixteen steps rounds a parameter at the update and at a decay, on
both sides; what updates of 1e-2 differ by themselves is far below.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from cases import CLASSES

from .comparisons import COMPARISONS, NOT_COMPARED, Comparison
from .measure import lacking, measured
from .table import BEGIN, END, rows, tables

PAGE = Path(__file__).parents[2] / "docs" / "variants.md"
BOUND = 64 * sys.float_info.epsilon

pytestmark = pytest.mark.slow  # make parity runs it: the libraries take 400 MB, and a minute to measure

every_comparison = pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.theirs)
every_library = pytest.mark.parametrize("library", ["keras", "optax"])
SELECTED = [c for c in COMPARISONS if c.selecting]


def need(*libraries: str) -> None:
    if missing := sorted({name for library in libraries for name in lacking(library)}):
        pytest.skip(f"{', '.join(missing)} not installed; make parity installs them and runs this")


@every_comparison
def test_ours_goes_where_theirs_goes(comparison: Comparison) -> None:
    need(comparison.library)
    found = measured()["paths"][comparison.theirs]
    assert found["difference"] <= BOUND * found["largest"], comparison.ours
    assert found["way"] > 1e-6


@pytest.mark.parametrize("comparison", SELECTED, ids=lambda c: c.theirs)
def test_without_the_argument_it_goes_elsewhere(comparison: Comparison) -> None:
    need(comparison.library)
    found = measured()["paths"][comparison.theirs]
    assert found["without"] > 1000 * BOUND * found["largest"], comparison.ours


def test_no_two_comparisons_share_an_expression() -> None:
    assert len({c.theirs for c in COMPARISONS}) == len(COMPARISONS)


@every_library
def test_every_class_that_a_library_has_too_is_compared(library: str) -> None:
    need(library)
    called = re.compile(rf"{library}\.(?:optimizers\.)?(\w+)")
    compared = {name.lower() for c in COMPARISONS for name in called.findall(c.theirs)}
    both = CLASSES.keys() & set(measured()["offered"][library])
    assert both - compared - NOT_COMPARED.keys() == set(), "add a Comparison, or the reason to NOT_COMPARED"


def test_the_page_holds_what_is_measured() -> None:
    """Words are equal, differences of the last bits are that on the page too, and the others are of the same order."""
    need("keras", "optax")
    page, fresh = PAGE.read_text("utf-8"), tables(measured()["paths"])
    stale = "run python benchmarks/parity_table.py"
    known, made = list(rows(page)), list(rows(f"{BEGIN}\n{fresh}\n{END}"))
    assert [row[:4] for row in known] == [row[:4] for row in made], stale
    for row, new in zip(known, made, strict=True):
        assert max(float(row[4]), float(new[4])) <= 4 * BOUND, stale
        assert row[5] == new[5] == "" or abs(math.log10(float(row[5]) / float(new[5]))) < 0.5, stale
