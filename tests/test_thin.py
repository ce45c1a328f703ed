"""The everyday run's choice of combinations: small, the same each time, and with every pair that it promises."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cases import CLASSES, PLANNED, SWITCHES, is_full, structure, thin

COLUMNS = {"cls": list(CLASSES), "executor": list(SWITCHES), "dtype": ["float32", "float64", "bfloat16"]}
OPTIONS = [{"lr": 0.1}, {"lr": 0.1, "maximize": True}, {"lr": 0.2}, {"lr": 0.2, "maximize": True}]
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in itertools.product(*COLUMNS.values())]


def pairs(rows: list[dict[str, Any]], names: tuple[str, ...]) -> set[Any]:
    return {pair for row in rows for pair in itertools.combinations([(name, row[name]) for name in names], 2)}


def values(rows: list[dict[str, Any]]) -> set[Any]:
    return {value for row in rows for value in row.items()}


@pytest.mark.parametrize("names", [(), ("cls", "executor"), ("executor", "dtype"), tuple(COLUMNS)], ids=str)
def test_every_value_and_every_named_pair_occurs(names: tuple[str, ...]) -> None:
    chosen = [ROWS[place] for place in thin(ROWS, *names)]
    assert pairs(chosen, names) == pairs(ROWS, names)
    assert values(chosen) == values(ROWS)
    assert len(chosen) < len(ROWS) / 2


def test_rows_that_never_meet_are_not_missed() -> None:
    rows = [row for row in ROWS if (row["executor"], row["dtype"]) != ("native", "bfloat16")]
    assert pairs([rows[place] for place in thin(rows, *COLUMNS)], tuple(COLUMNS)) == pairs(rows, tuple(COLUMNS))


def test_it_is_the_same_each_time_and_in_order() -> None:
    assert thin(ROWS, "cls") == thin(ROWS, "cls") == sorted(thin(ROWS, "cls"))
    assert thin([]) == []


def test_columns_that_are_not_named_take_turns() -> None:
    chosen = [ROWS[place] for place in thin(ROWS, "cls", "executor")]
    counts = [sum(row["dtype"] == dtype for row in chosen) for dtype in COLUMNS["dtype"]]
    assert min(counts) > len(chosen) / 6


@pytest.mark.parametrize("value", ["", "pairs", "full"])
def test_the_environment_asks_for_everything(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEEPEST_MATRIX", value)
    assert is_full() == (value == "full")


@pytest.mark.thin("cls", "executor")
@pytest.mark.parametrize("cls", PLANNED.values(), ids=list(PLANNED))
@pytest.mark.parametrize("executor", list(SWITCHES))
@pytest.mark.parametrize("number", range(10))
def test_a_marked_test(cls: Any, executor: str, number: int) -> None:
    """Collected by the test below."""


@pytest.mark.parametrize("cls", PLANNED.values(), ids=list(PLANNED))
def test_one_of_many_tests_of_optimizers(cls: Any) -> None:
    """Collected by the test below."""


@pytest.mark.parametrize("cls", list(PLANNED.values())[:20])
def test_one_of_few_tests_of_optimizers(cls: Any) -> None:
    """Collected by the test below."""


@pytest.mark.thin("kind")
@pytest.mark.parametrize(("cls", "options"), [(cls, given) for cls in PLANNED.values() for given in OPTIONS])
def test_options_one_by_one(cls: Any, options: dict[str, Any]) -> None:
    """Collected by the test below."""


@pytest.mark.slow
def test_a_slow_test() -> None:
    """Collected by the test below."""


def test_what_an_everyday_run_leaves_out(request: pytest.FixtureRequest) -> None:
    """Of this file as it was collected for this very run."""
    if len(request.session.items) == 1 or request.config.option.markexpr or request.config.option.keyword:
        pytest.skip("this run has a choice of its own")
    here = [item for item in request.session.items if item.path == request.path]
    marked = [item.callspec.params for item in here if item.originalname == "test_a_marked_test"]
    offered = {(row["cls"], row["executor"]) for row in marked}
    assert {row["number"] for row in marked} == set(range(10))
    assert {cls for cls, _ in offered} == set(PLANNED.values())
    assert {executor for _, executor in offered} == set(SWITCHES)
    many, few, options = (
        [item.callspec.params for item in here if item.originalname == name]
        for name in (
            "test_one_of_many_tests_of_optimizers",
            "test_one_of_few_tests_of_optimizers",
            "test_options_one_by_one",
        )
    )
    assert {structure(row["cls"]) for row in many} == {structure(cls) for cls in PLANNED.values()}
    assert len(many) == (len(PLANNED) if is_full() else len({structure(row["cls"]) for row in many}))
    assert len(few) == 20
    assert {row["cls"].rule.kind for row in options} == {cls.rule.kind for cls in PLANNED.values()}
    assert {item for row in options for item in row["options"].items()} == {item for o in OPTIONS for item in o.items()}
    assert is_full() or len(options) < 6
    slow = [item for item in here if item.originalname == "test_a_slow_test"]
    assert len(marked) == len(offered) * (10 if is_full() else 1)
    assert bool(slow) == (is_full() or any("::" in given for given in request.config.args))
