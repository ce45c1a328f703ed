"""A stored document is enough to plan its study again, on seeds and points that are fresh."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from own_work import own_files
from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.errors import UsageError
from steepest.study.planning import search
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.replication import check_same, replicating
from steepest.study.planning.request import FIRST_TUNING_SEED, Request
from steepest.study.records import machine
from steepest.study.records.format import StudyDocument, read
from steepest.study.records.records import encode_document, plain
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .support import Silent

__all__ = ["own_files"]

SPACE = """
["my_rules.py:MyOpt"]
weight = [0.5, 1.0]
lr = { low = 0.1, high = 1.0 }

["torch.optim:AdamW"]
betas = [[0.9, 0.95], [0.9, 0.999]]
schedule = ["cosine", "wsd[final=0.1]"]
warmup = { low = 0.01, high = 0.3 }
"""
OPTIMIZERS = (
    "sgd[momentum=0.5]",
    "sgd[lr=0.3]",  # nothing is left to be searched
    "adam[betas=(0.8,0.99),schedule=wsd,cooldown=3]",
    "my_rules.py:MyOpt",
    "my_rules.py:factory",
    "torch.optim:AdamW",
    "lbfgs[max_iter=2]",
)


def planned(*optimizers: str, text: str = "", **wanted: Any) -> Plan:
    Path("space.toml").write_text(text)
    spaces = search.read_spaces(Path("space.toml")) if text else {}
    request = Request(workloads.find("my_task.py"), "smoke", optimizers, spaces=spaces, timing_rounds=0, **wanted)
    return make_plan(request, adapt.load(request.workload.data), "steepest study my_task.py")


def stored(plan: Plan) -> StudyDocument:
    """Return the document as it would be read from the disk."""
    return read(StudyDocument, json.loads(encode_document(plan.document)))


def again(document: StudyDocument) -> Plan:
    request = replicating(document, Path("study"))
    return make_plan(request, adapt.load(request.workload.data), "steepest replicate study")


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize(
    "wanted",
    [
        {"trials_wanted": 4, "text": SPACE, "tuning_seeds_wanted": 2, "reference_wanted": "my_rules.MyOpt"},
        {"trials_wanted": 2, "searched_wanted": ("all", "warmup"), "sampler_wanted": "random"},
        {"trials_wanted": 2, "extensions": ({"Adam[betas=(0.8, 0.99)]": {"low": 1.0, "high": 10.0}},)},
        {"trials_wanted": 0, "schedule_wanted": "linear[warmup=2]", "all_train": True, "precision": "bf16"},
        {"trials_wanted": 0, "seed_offset": 30, "epochs_wanted": 3, "threads": 2},
    ],
)
def test_a_stored_plan_is_made_again_with_fresh_seeds(wanted: dict[str, Any]) -> None:
    first = stored(planned(*OPTIMIZERS, seeds_wanted=3, **wanted))
    made = again(first)
    check_same(first, made.document)
    second = made.document
    assert second.config.seeds == tuple(seed + 3 for seed in first.config.seeds)
    assert not {*first.protocol.tuning_seeds} & {*second.protocol.tuning_seeds}
    for one, other in zip(first.optimizers, second.optimizers, strict=True):
        assert replace(one, points=()) == replace(read(type(other), plain(other)), points=())
        assert len(one.points) == len(other.points)
        ranges = [name for name, dimension in one.space.items() if hasattr(dimension, "low")]
        drawn = [{name: point.options.get(name) for name in ranges} for point in one.points[1:]]
        fresh = [{name: point.options.get(name) for name in ranges} for point in other.points[1:]]
        assert not ranges or not [point for point in fresh if point in drawn]


@pytest.mark.usefixtures("own_files")
def test_a_replication_can_be_replicated() -> None:
    first = stored(planned("sgd", trials_wanted=2, seeds_wanted=2))
    third = again(stored(again(first))).document
    assert third.config.seeds == (4, 5)
    assert third.protocol.tuning_seeds == (3 * FIRST_TUNING_SEED,)


@pytest.mark.usefixtures("own_files")
def test_another_machine_is_fine_and_other_versions_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = stored(planned("sgd", seeds_wanted=2))
    here = again(first).document
    check_same(replace(first, machine=replace(first.machine, cpu="another")), here)
    monkeypatch.setattr(machine, "versions", lambda: {**first.versions, "torch": "9.9"})
    with pytest.raises(UsageError, match=r"cannot be replicated, there and here: versions\.torch is .* and '9\.9'"):
        check_same(first, again(first).document)


@pytest.mark.usefixtures("own_files")
def test_changed_code_is_refused_by_its_place() -> None:
    first = stored(planned("my_rules.py:MyOpt", seeds_wanted=2))
    with pytest.raises(UsageError, match=r"cannot be replicated.*my_rules\.py has changed in descent"):
        check_same(first, replace(first, code={file: changed(one) for file, one in first.code.items()}))


def changed(description: Any) -> Any:
    parts = {
        name: {**part, "sha256": "0"} if name == "descent" else part for name, part in description["parts"].items()
    }
    return {**description, "parts": parts}


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("source", ["comparison", "comparison:Waves"])
def test_a_study_from_python_says_how_to_go_on(source: str) -> None:
    first = stored(planned("sgd", trials_wanted=2, seeds_wanted=2))
    task = replace(first.config.task, source=source)
    with pytest.raises(UsageError, match=r"compare again with another out, seed_offset=2 and search_seed=1"):
        replicating(replace(first, config=replace(first.config, task=task)), Path("study"))


def test_its_trials_are_those_of_the_plan(own_files: Path) -> None:
    """The replication's points run: their options are those of a search that was asked for with that number."""
    optimizers = ("sgd", "adam", "my_rules.py:MyOpt")
    folder = StudyFolder(own_files / "study")
    engine.run(planned(*optimizers, trials_wanted=2, seeds_wanted=1), folder, Silent())
    made = again(folder.document())
    asked = planned(*optimizers, trials_wanted=2, seeds_wanted=1, seed_offset=1, search_seed=1)
    assert sorted(one.id for one in made.search_trials) == sorted(one.id for one in asked.search_trials)
