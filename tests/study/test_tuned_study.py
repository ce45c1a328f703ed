"""A study that searches: equally for everybody, on seeds and examples of its own, and only fresh seeds are reported."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steepest.study.errors import UsageError
from steepest.study.planning.plan import Plan
from steepest.study.records.format import SearchedValues
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .support import PlanMaker, Silent, stored

OPTIMIZERS = ("sgd", "adam", "rmsprop")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def tuned(plan: PlanMaker, *optimizers: str, **wanted: Any) -> Plan:
    return plan(*(optimizers or OPTIMIZERS), **{"workload": "mini-batch", "trials_wanted": 2, "seeds": 2, **wanted})


def entries(folder: StudyFolder, phase: str) -> list[dict[str, Any]]:
    return [entry for entry in stored(folder)["trials"] if entry["phase"] == phase]


def last_validation(folder: StudyFolder, trial: str) -> float:
    epochs = [line for line in folder.read_trial(trial).lines if line["kind"] == "epoch"]
    return float(epochs[-1]["validation_accuracy"])


def test_every_optimizer_gets_the_same_number_of_trials_on_the_same_seeds(plan: PlanMaker) -> None:
    made = tuned(plan, trials_wanted=4, tuning_seeds_wanted=2)
    per_optimizer = Counter(trial.spec.config.label for trial in made.search_trials)
    assert per_optimizer == dict.fromkeys(("SGD", "Adam", "RMSprop"), 2 * (4 + 1))  # the points and the defaults
    assert len({trial.id for trial in made.search_trials}) == 30
    for label in per_optimizer:
        seeds = {trial.spec.seed for trial in made.search_trials if trial.spec.config.label == label}
        assert seeds == set(made.search_seeds)
    assert not set(made.search_seeds) & set(made.seeds)


def test_optimizers_search_the_same_points_of_the_unit_cube(plan: PlanMaker) -> None:
    made = tuned(plan, "sgd", "adam", trials_wanted=8)
    space = {entry["label"]: entry["space"]["lr"] for entry in stored(made.document)["optimizers"]}
    unit = {
        label: [
            math.log(one.config.options["lr"] / space[label]["low"])
            / math.log(space[label]["high"] / space[label]["low"])
            for one in candidates[1:]
        ]
        for label, candidates in made.candidates.items()
    }
    assert unit["SGD"] == pytest.approx(unit["Adam"], abs=1e-3)  # four digits of a rate over five decades
    assert sorted(int(8 * value) for value in unit["SGD"]) == list(range(8))


def test_the_defaults_are_the_library_s_and_not_the_workload_s(plan: PlanMaker) -> None:
    made = tuned(plan, "sgd[momentum=0.5]")
    defaults, *points = made.candidates["SGD[momentum=0.5]"]
    assert defaults.point == "defaults"
    assert "lr" not in defaults.config.options  # 0.1 in the workload's setting
    assert all(one.config.options["momentum"] == 0.5 for one in (defaults, *points))


def test_what_is_given_is_not_searched(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = tuned(plan, "sgd[lr=0.05]", "adam")
    assert set(made.candidates) == {"Adam"}
    engine.run(made, folder, silent)
    assert {entry["optimizer"] for entry in entries(folder, "search")} == {"Adam"}
    evaluated = [entry for entry in entries(folder, "evaluation") if entry["optimizer"] != "Adam"]
    assert [entry["point"] for entry in evaluated] == [None, None]


def test_the_plan_is_the_same_every_time(plan: PlanMaker) -> None:
    one, two = (replace(tuned(plan).document, created="") for _ in range(2))
    assert one == two


def test_a_search_never_reads_the_test_set(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    engine.run(tuned(plan), folder, silent)
    searched, evaluated = entries(folder, "search"), entries(folder, "evaluation")
    for entry in searched:
        assert "test" not in "".join(key for line in folder.read_trial(entry["id"]).lines[1:] for key in line)
    for entry in evaluated:
        lines = folder.read_trial(entry["id"]).lines
        assert [line["kind"] for line in lines if "test_accuracy" in line] == ["end"]
    assert len(searched) == 9
    assert len(evaluated) == 6


def test_the_best_point_on_the_validation_set_is_what_is_evaluated(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = tuned(plan, tuning_seeds_wanted=2)
    engine.run(made, folder, silent)
    document = stored(folder)
    for label in ("SGD", "Adam", "RMSprop"):
        scores: dict[Any, float] = {}
        for entry in entries(folder, "search"):
            if entry["optimizer"] == label:
                scores[entry["point"]] = scores.get(entry["point"], 0.0) + last_validation(folder, entry["id"])
        best = max(scores, key=lambda point: scores[point])
        assert document["chosen"][label]["point"] == best
        for entry in entries(folder, "evaluation"):
            if entry["optimizer"] == label:
                given = folder.read_trial(entry["id"]).lines[0]["spec"]["optimizer"]["given"]
                assert given == document["chosen"][label]["given"]
                assert entry["point"] == best


def test_a_point_that_diverges_is_never_chosen(plan: PlanMaker, folder: StudyFolder, silent: Silent, tmp_path) -> None:
    space = {"sgd": {"lr": Wild()}}
    made = tuned(plan, "sgd", spaces=space)
    summary = engine.run(made, folder, silent)
    assert summary.ended["diverged"] == 2
    assert stored(folder)["chosen"]["SGD"]["point"] == "defaults"


class Wild:
    """A dimension of nothing but rates that no network survives."""

    def at(self, unit: float) -> float:
        return 1e20 * (1 + unit)

    def entry(self) -> SearchedValues:
        return SearchedValues(("wild",))


def test_an_optimizer_whose_every_trial_fails_is_not_evaluated(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuned(plan, "sgd", "adam")
    monkeypatch.setattr(engine, "_score", lambda trial, *_: math.nan if "adam" in trial.id else 0.5)
    summary = engine.run(made, folder, silent)
    assert {entry["optimizer"] for entry in entries(folder, "evaluation")} == {"SGD"}
    assert summary.notes == ["Adam: no trial of its search finished on every tuning seed, so it is not evaluated"]


def test_a_locked_plan_grows_by_seeds_and_optimizers_alone(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    engine.run(tuned(plan, "sgd", seeds=1), folder, silent)
    with pytest.raises(UsageError, match=r"protocol\.trials is 2 and 4"):
        engine.run(tuned(plan, "sgd", trials_wanted=4), folder, silent)
    with pytest.raises(UsageError, match=r"protocol\.schedule is 'cosine' and 'constant'"):
        engine.run(tuned(plan, "sgd", schedule_wanted="constant"), folder, silent)
    summary = engine.run(tuned(plan, "sgd", "adam", seeds=2), folder, silent)
    assert summary.skipped == 3 + 1
    assert summary.ended == {"finished": 3 + 3}
    assert stored(folder)["protocol"]["reference"] == "SGD"


def test_results_of_another_choice_are_not_mixed_with_the_new_one(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tuned(plan, "sgd")
    engine.run(made, folder, silent)
    before = {entry["id"] for entry in entries(folder, "evaluation")}
    best = stored(folder)["chosen"]["SGD"]["point"]
    other = next(one.point for one in made.candidates["SGD"] if one.point != best)
    monkeypatch.setattr(engine, "_score", lambda trial, *_: float(trial.point == other))
    engine.run(made, folder, silent)
    after = entries(folder, "evaluation")
    assert {entry["point"] for entry in after} == {other}
    assert len(after) == 2
    assert not before & {entry["id"] for entry in after}
    assert all((folder.path / "trials" / f"{trial}.jsonl").exists() for trial in before)


def test_the_timing_pass_takes_the_chosen_settings_in_turn(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = tuned(plan, "sgd", "adam", timing_rounds=2, seeds=1)
    engine.run(made, folder, silent)
    timed = entries(folder, "timing")
    assert [entry["optimizer"] for entry in timed] == ["SGD", "Adam", "SGD", "Adam"]
    times = [folder.read_times(entry["id"]).end or {} for entry in timed]
    assert all(one["steps"] >= 10 and one["step_seconds"] > 0 for one in times)
    ends = [folder.read_trial(entry["id"]).end or {} for entry in timed]
    bytes_per_parameter = [end["state_bytes_per_parameter"] for end in ends]
    assert bytes_per_parameter[0] == 0.0  # plain SGD remembers nothing
    assert 8.0 <= bytes_per_parameter[1] < 8.1  # two float32 averages, and a step count per tensor


def test_an_optimizer_that_cannot_run_is_skipped_with_its_reason(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = tuned(plan, "sgd", "sparseadam")
    engine.run(made, folder, silent)
    sparse = next(entry for entry in stored(folder)["optimizers"] if entry["label"] == "SparseAdam")
    assert "SparseAdam does not support dense gradients" in sparse["skipped"]
    assert not any(entry["optimizer"] == "SparseAdam" for entry in stored(folder)["trials"])
    with pytest.raises(UsageError, match=r"SparseAdam: .*does not support dense"):
        tuned(plan, "sparseadam")
