"""A search whose best rate lies on the edge goes on beyond it; everybody's search grows alike."""

import math
from pathlib import Path

import pytest
from steepest.study.planning.extension import extended_points, extension_of
from steepest.study.planning.request import Request
from steepest.study.planning.search import Range, points
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from steepest.fields import Search
from steepest.study.errors import UsageError

from .support import PlanMaker, Silent, stored

SPACE = {"lr": Range(Search(1e-3, 1.0)), "momentum": Range(Search(0.1, 0.9, "linear"))}


def test_without_an_extension_the_points_are_the_search_s() -> None:
    assert extended_points(SPACE, "A", 8, "sobol", ()) == points(SPACE, 8, "sobol")


def test_an_enclosed_optimum_goes_on_with_the_same_sequence() -> None:
    other = {"B": {"low": 1.0, "high": 10.0}}
    assert extended_points(SPACE, "A", 8, "sobol", (other, other)) == points(SPACE, 32, "sobol")


def test_an_optimum_on_the_edge_gets_its_new_points_beyond_it() -> None:
    found = extended_points(SPACE, "A", 8, "sobol", ({"A": {"low": 1.0, "high": 10.0}},))
    assert found[:8] == points(SPACE, 8, "sobol")
    assert len(found) == 16
    decades = sorted(math.log10(point["lr"]) for point in found[8:])
    assert [int(8 * place) for place in decades] == list(range(8))  # one in each eighth of the new decade
    assert all(0.1 <= point["momentum"] <= 0.9 for point in found)


def test_a_second_extension_searches_all_that_the_first_has_joined() -> None:
    first, second = {"A": {"low": 1.0, "high": 10.0}}, {"B": {"low": 1.0, "high": 10.0}}
    last = extended_points(SPACE, "A", 4, "sobol", (first, second))[8:]
    assert len(last) == 8
    assert min(point["lr"] for point in last) < 0.1
    assert max(point["lr"] for point in last) > 1.0


@pytest.mark.parametrize(
    ("scores", "beyond"),
    [
        ([0.9, 0.5, 0.1], {"low": 1e-4, "high": 1e-3}),
        ([0.1, 0.5, 0.9], {"low": 1.0, "high": 10.0}),
        ([0.1, 0.9, 0.5], None),
        ([math.nan] * 3, None),
    ],
)
@pytest.mark.parametrize("maximize", [True, False])
def test_where_a_search_goes_on(scores: list[float], beyond: dict[str, float] | None, maximize: bool) -> None:
    tried = [
        ({"lr": rate}, score if maximize else -score) for rate, score in zip((0.001, 0.01, 0.1), scores, strict=True)
    ]
    found = extension_of({"A": SPACE}, {"A": tried}, (), maximize)
    assert found.get("A") == (None if beyond is None else pytest.approx(beyond))


def test_a_rate_that_is_not_searched_is_not_extended() -> None:
    tried = [({"momentum": 0.1}, 0.5), ({"momentum": 0.9}, 0.7)]
    assert extension_of({"A": {"momentum": SPACE["momentum"]}}, {"A": tried}, (), maximize=True) == {}


def test_a_study_is_extended_for_all_alike(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    """Two points of plain SGD with few steps: the higher rate is better, and both lie on an edge."""
    folder = StudyFolder(tmp_path / "study")
    wanted = {"workload": "mini-batch", "trials_wanted": 2, "epochs_wanted": 4}
    made = plan("sgd", "adam", **wanted)
    with pytest.raises(UsageError, match=r"needs a finished search; .* has 6 search trials to run"):
        engine.next_extension(made, folder)
    engine.run(made, folder, silent)
    extension = engine.next_extension(made, folder)
    assert extension["SGD"] == {"low": 10.0, "high": 100.0} or extension["SGD"]["high"] == 1e-4
    wider = plan("sgd", "adam", extensions=(extension,), **wanted)
    assert {label: len(found) for label, found in wider.candidates.items()} == {"SGD": 5, "Adam": 5}
    summary = engine.run(wider, folder, silent)
    assert summary.skipped >= 6
    document = stored(folder)
    assert document["protocol"]["extensions"] == [extension]
    assert [len(entry["points"]) for entry in document["optimizers"]] == [5, 5]
    with pytest.raises(UsageError, match=r"protocol\.extensions"):
        engine.run(made, folder, silent)
    with pytest.raises(UsageError, match="name these too: Adam"):
        engine.next_extension(plan("sgd", extensions=(extension,), **wanted), folder)


def test_nothing_on_an_edge_is_nothing_to_extend() -> None:
    from steepest.study import workloads

    with pytest.raises(UsageError, match="nothing to extend"):
        Request(workloads.find("digits")).extended({})
