"""A request is checked before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from steepest import registry
from steepest.bench.cases import CASES
from steepest.bench.implementations import MODES
from steepest.bench.plan import make_plan, rules_to_time


def test_nothing_given_means_everything_that_takes_plain_gradients() -> None:
    plan = make_plan()
    timed = {recipe.name for recipe in plan.recipes}
    rules = {name: cls.rule_for(registry.parse(name).resolved()) for name, cls in registry.optimizers().items()}
    others = {name for name, rule in rules.items() if rule.kind == "driver" or rule.sparse == "lazy"}
    others |= {name for name, cls in registry.optimizers().items() if cls.takes_estimates}
    others |= {"momo", "momoadam"}
    assert timed == registry.optimizers().keys() - others
    assert {name.lower() for name in plan.left_out} == others
    assert "new gradients" in plan.left_out["SteepestDescent"]
    assert "sparse gradients alone" in plan.left_out["SparseAdam"]
    assert "fed with estimates" in plan.left_out["Sophia"]
    assert "SGD[momentum=0.9]" in [recipe.label for recipe in plan.recipes]
    assert plan.cases == tuple(CASES.values())
    assert plan.modes == tuple(MODES)
    of_matrices = [recipe for recipe in plan.recipes if rules[recipe.name].kind == "matrix"]
    assert len(plan.jobs) == len(plan.cases) * len(plan.recipes) - (len(plan.cases) - 1) * len(of_matrices)
    assert {case.name for case, recipe in plan.jobs if recipe in of_matrices} == {"matrices"}


def test_a_rule_of_matrices_is_timed_on_matrices() -> None:
    with pytest.raises(ValueError, match=r"Muon is timed on matrices only, and small has vectors; time it on matrices"):
        make_plan(["muon"], ["small"])
    assert [case.name for case, _ in make_plan(["muon"]).jobs] == ["matrices"]


def test_without_names_what_fits_no_case_is_left_out_with_a_reason() -> None:
    plan = make_plan(case_names=["small"])
    assert plan.left_out["Muon"] == "is timed on matrices only, and small has vectors"
    assert "muon" not in {recipe.name for recipe in plan.recipes}
    assert {"adamw", "sgd"} <= {recipe.name for recipe in plan.recipes}
    assert "Muon" not in make_plan(case_names=["small", "matrices"]).left_out


def test_jobs_go_case_by_case_without_repeats() -> None:
    plan = make_plan(["adam", "sgd", "adam"], ["cnn", "small"], rounds=3)
    assert [(case.name, recipe.name) for case, recipe in plan.jobs] == [
        ("cnn", "adam"),
        ("cnn", "sgd"),
        ("small", "adam"),
        ("small", "sgd"),
    ]
    assert plan.rounds_of(CASES["small"]) == 3
    assert make_plan().rounds_of(CASES["small"]) == CASES["small"].rounds


def test_options_are_part_of_a_rule() -> None:
    assert [recipe.label for recipe in make_plan(["adam[amsgrad=true]", "adam"]).recipes] == [
        "Adam[amsgrad=true]",
        "Adam",
    ]


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"rules": ["adaam"]}, r"unknown optimizer 'adaam'; did you mean 'adam'\? \(there are: ada"),
        ({"rules": ["adam[lrr=1]"]}, "did you mean 'lr'"),
        ({"rules": ["steepestdescent"]}, "asks for new gradients .* rules that take plain gradients: ada"),
        ({"rules": ["nag[true_lookahead=true]"]}, r"NAG\[true_lookahead=true\] asks for new gradients"),
        ({"case_names": ["gpt2"]}, r"unknown case 'gpt2'; did you mean 'gpt2-small'\?"),
        (
            {"modes": ["fuse"]},
            r"unknown mode 'fuse'; did you mean 'fused'\? \(there are: default, loop, foreach, fused",
        ),
        ({"rounds": 0}, "--rounds must be at least 1, not 0"),
        ({"device": "gpu"}, r"unknown device 'gpu'.* \(there are: cpu, cuda\)"),
    ],
)
def test_what_is_not_allowed_is_explained(request_: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_plan(**request_)


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no CUDA device here; leave --device cpu"):
        make_plan(device="cuda")


def test_optional_momentum_is_measured_with_and_without() -> None:
    labels = [recipe.label for recipe in rules_to_time()[0]]
    assert {"SGD", "SGD[momentum=0.9]", "RMSprop", "RMSprop[momentum=0.9]"} <= set(labels)
    assert len(labels) == len(set(labels))
