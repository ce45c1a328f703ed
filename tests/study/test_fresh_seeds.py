"""Other evaluation seeds and another draw of the search: part of the plan, and never the same seeds for both."""

from pathlib import Path

import pytest

from steepest.fields import Search
from steepest.study import workloads
from steepest.study.errors import UsageError
from steepest.study.planning.extension import extended_points
from steepest.study.planning.request import FIRST_TUNING_SEED, Request
from steepest.study.planning.search import SAMPLERS, Range, points
from steepest.study.records.records import encode_document
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .support import PlanMaker, Silent, stored

SPACE = {"lr": Range(Search(1e-3, 1.0)), "momentum": Range(Search(0.1, 0.9, "linear"))}


def asked(**wanted: object) -> Request:
    return Request(workloads.find("digits"), "smoke", ("sgd",), **{"trials_wanted": 2, **wanted})  # type: ignore[arg-type]


def test_evaluation_seeds_begin_at_the_offset() -> None:
    assert asked(seeds_wanted=3, seed_offset=7).seeds == [7, 8, 9]
    assert asked(seeds_wanted=3).seeds == [0, 1, 2]


def test_each_draw_has_tuning_seeds_of_its_own() -> None:
    drawn = [asked(tuning_seeds_wanted=3, search_seed=number).search_seeds for number in range(3)]
    assert drawn[0] == [FIRST_TUNING_SEED + number for number in range(3)]
    assert len({seed for seeds in drawn for seed in seeds}) == 9


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_draw_has_points_of_its_own(sampler: str) -> None:
    first, again, other = (points(SPACE, 8, sampler, seed=seed) for seed in (0, 0, 1))
    assert first == again == points(SPACE, 8, sampler)
    assert not [point for point in other if point in first]


def test_an_extension_goes_on_with_the_same_draw() -> None:
    beyond = {"B": {"low": 1.0, "high": 10.0}}
    assert extended_points(SPACE, "A", 4, "sobol", (beyond,), 3) == points(SPACE, 8, "sobol", seed=3)
    here = extended_points(SPACE, "B", 4, "sobol", (beyond,), 3)
    assert here[4:] != extended_points(SPACE, "B", 4, "sobol", (beyond,))[4:]


@pytest.mark.parametrize(
    "wanted",
    [
        {"seed_offset": FIRST_TUNING_SEED},
        {"seed_offset": FIRST_TUNING_SEED - 3, "seeds_wanted": 4},
        {"seed_offset": FIRST_TUNING_SEED + 2, "tuning_seeds_wanted": 3},
        {"seed_offset": 3 * FIRST_TUNING_SEED, "search_seed": 2},
    ],
)
def test_a_seed_for_tuning_and_for_evaluation_is_refused(wanted: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"evaluation seeds \d+.* and tuning seeds \d+.* overlap.*--seed-offset"):
        asked(**wanted)


def test_seeds_next_to_each_other_are_fine() -> None:
    assert asked(seed_offset=FIRST_TUNING_SEED - 3, seeds_wanted=3).seeds[-1] == FIRST_TUNING_SEED - 1
    assert asked(seed_offset=FIRST_TUNING_SEED + 1).search_seeds == [FIRST_TUNING_SEED]
    assert asked(seed_offset=FIRST_TUNING_SEED, search_seed=1).seeds[0] == FIRST_TUNING_SEED
    assert asked(seed_offset=FIRST_TUNING_SEED, trials_wanted=0).seeds[0] == FIRST_TUNING_SEED


@pytest.mark.parametrize("name", ["seed_offset", "search_seed"])
def test_a_negative_number_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--{name.replace('_', '-')} must be at least 0, not -1"):
        asked(**{name: -1})


def test_another_draw_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--search-seed has no effect with --trials 0"):
        asked(trials_wanted=0, search_seed=1)


def test_the_usual_plan_is_stored_as_before(plan: PlanMaker) -> None:
    content = encode_document(plan("sgd", trials_wanted=2).document)
    assert b"seed_offset" not in content
    assert b"search_seed" not in content


def test_both_are_part_of_the_locked_plan(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    made = plan("sgd", trials_wanted=2, seeds=2, seed_offset=5, search_seed=4)
    assert engine.run(made, folder, silent).ended == {"finished": 5}
    document = stored(folder)
    assert (document["protocol"]["seed_offset"], document["protocol"]["search_seed"]) == (5, 4)
    assert document["config"]["seeds"] == [5, 6]
    seeds = {
        phase: {one["seed"] for one in document["trials"] if one["phase"] == phase}
        for phase in ("search", "evaluation")
    }
    assert seeds == {"search": {5 * FIRST_TUNING_SEED}, "evaluation": {5, 6}}
    assert engine.run(made, folder, silent).skipped == 5
    for other in ({"seed_offset": 6}, {"search_seed": 0}):
        with pytest.raises(UsageError, match=rf"protocol\.{next(iter(other))} is \d and \d"):
            engine.run(
                plan("sgd", trials_wanted=2, **{"seeds": 2, "seed_offset": 5, "search_seed": 4, **other}),
                folder,
                silent,
            )


def test_the_folder_s_name_tells_them() -> None:
    name = str(asked(seed_offset=5, search_seed=4).folder(fallback=False))
    assert "seeds-from-5" in name
    assert "search-4" in name
