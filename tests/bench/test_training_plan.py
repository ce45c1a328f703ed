"""A request for training steps is checked before anything runs, and what is saved is described."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steepest.bench.document import write
from steepest.bench.train import document
from steepest.bench.train.cases import CASES
from steepest.bench.train.group import TrainingEntry, TrainingGroup
from steepest.bench.train.lane import COMPILED, EAGER, Parts
from steepest.bench.train.memory import MemoryEntry
from steepest.bench.train.plan import make_plan

GROUP = TrainingGroup(
    "gpt-10m",
    "SGD",
    2,
    (
        TrainingEntry("steepest", "default", "no", None, "native", 4, (Parts(3.0, 1.0), Parts(5.0, 1.0))),
        TrainingEntry("torch", "fused", "no", None, None, 4, (Parts(4.0, 2.0), Parts(4.0, 2.0))),
        TrainingEntry("torch", "fused", "model", unavailable="RuntimeError: none"),
    ),
    (
        MemoryEntry("steepest", "default", "int8", True, None, 100, 150),
        MemoryEntry("torch", "fused", "float32", True, unavailable="RuntimeError: none"),
    ),
)


def test_nothing_given_means_a_few_rules_and_every_case() -> None:
    plan = make_plan()
    assert [recipe.label for recipe in plan.recipes] == ["AdamW", "SGD[momentum=0.9]", "NAdam"]
    assert plan.cases == tuple(CASES.values())
    assert plan.ways == (EAGER, *COMPILED)
    assert [(case.name, recipe.name) for case, recipe in plan.jobs][:4] == [
        ("digits-mlp", "adamw"),
        ("digits-mlp", "sgd"),
        ("digits-mlp", "nadam"),
        ("fashion-cnn", "adamw"),
    ]
    assert plan.rounds_of(CASES["gpt-10m"]) == CASES["gpt-10m"].rounds


def test_torch_takes_part_in_its_default_and_fused_if_its_class_is() -> None:
    plan = make_plan()
    named = {recipe.name: [i.name for i in plan.implementations(recipe)] for recipe in plan.recipes}
    assert named["adamw"] == named["sgd"] == ["steepest default", "torch default", "torch fused"]
    assert named["nadam"] == ["steepest default", "torch default"]


def test_what_is_given_is_taken() -> None:
    plan = make_plan(["lion", "lion"], ["gpt-10m"], compiles=False, memory=False, batch=2, rounds=3)
    assert [recipe.name for recipe in plan.recipes] == ["lion"]
    assert [(case.name, case.batch_size, plan.rounds_of(case)) for case in plan.cases] == [("gpt-10m", 2, 3)]
    assert (plan.ways, plan.memory) == ((EAGER,), False)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"rules": ["adaam"]}, r"unknown optimizer 'adaam'; did you mean 'adam'\? \(there are: ada"),
        ({"rules": ["adam[lrr=1]"]}, "did you mean 'lr'"),
        ({"rules": ["steepestdescent"]}, "asks for new gradients .* rules that take plain gradients: ada"),
        ({"rules": ["momo"]}, "needs the loss of each step, which is not passed here; rules that take"),
        ({"case_names": ["gpt"]}, r"unknown case 'gpt'; did you mean 'gpt-10m'\? \(there are: digits-mlp, "),
        ({"rounds": 0}, "--rounds must be at least 1, not 0"),
        ({"batch": 0}, "--batch must be at least 1, not 0"),
        ({"device": "gpu"}, r"unknown device 'gpu'.* \(there are: cpu, cuda\)"),
    ],
)
def test_what_is_not_allowed_is_explained(request_: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_plan(**request_)


def content() -> dict[str, Any]:
    return document.document(make_plan(["sgd"], ["gpt-10m"]), [GROUP], {"commit": None}, complete=True)


def test_samples_and_what_follows_from_them_are_saved(tmp_path: Path) -> None:
    write(tmp_path / "out.json", content())
    saved = json.loads((tmp_path / "out.json").read_text())
    assert (saved["schema"], saved["kind"], saved["complete"]) == (1, "steepest bench train", True)
    assert saved["plan"]["cases"] == {"gpt-10m": {"title": "GPT, 6 blocks of width 384", "batch_size": 4}}
    entry, _, absent = saved["groups"][0]["entries"]
    assert entry["whole"] == {
        "samples": [4.0, 6.0],
        "low": 4.5,
        "median": 5.0,
        "high": 5.5,
        "times_faster_than_torchs_best": 1.2,
    }
    assert (entry["forward_backward"]["median"], entry["step"]["times_faster_than_torchs_best"]) == (4.0, 2.0)
    assert entry["share_of_step"] == 0.2
    who = {"source": "torch", "mode": "fused", "unavailable": "RuntimeError: none"}
    assert absent == {**who, "compiled": "model"}
    inside, failed = saved["groups"][0]["memory"]
    assert (inside["held_bytes"], inside["peak_bytes"], inside["in_backward"]) == (100, 150, True)
    assert failed == {**who, "state": "float32", "in_backward": True}


def test_every_key_and_case_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    saved = content()
    group = saved["groups"][0]
    parts = {key for entry in group["entries"] for key in entry.get("step", {})}
    rows = {key for entry in group["entries"] + group["memory"] for key in entry}
    described = {*saved, *saved["plan"], *group, *parts, *rows, *CASES, *(way.compiled for way in make_plan().ways)}
    assert [key for key in sorted(described) if f"`{key}`" not in page] == []


def test_a_group_without_samples_can_be_saved() -> None:
    group = replace(GROUP, entries=GROUP.entries[2:], memory=())
    assert document.describe_group(group)["entries"][0]["unavailable"] == "RuntimeError: none"
