"""Optimizers of other libraries: what cannot be stored safely is found out, and its trial starts again."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steepest.study.running.store import StudyFolder
from steepest.study.trials.resume_check import same

from .support import OTHERS, PlanMaker, dropped, evaluations, events_of, record_bytes, run_with_checkpoints


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path / "study")
    with study.writing():
        pass
    return study


def test_honest_state_goes_on(plan: PlanMaker, folder: StudyFolder) -> None:
    made = plan(f"{OTHERS}:Plain", epochs_wanted=8)
    spec = evaluations(made)[0]
    dropped(spec, made.task, folder, step=14)
    last = run_with_checkpoints(spec, made.task, folder)
    assert last[0].record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))
    assert last[-1].timing is not None
    assert "restarts" not in last[-1].timing


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Forgetful", "a twin that went on from a checkpoint had another model and optimizer after its next steps"),
        ("Lookahead", "a twin that went on from a checkpoint had another model"),
        ("Odd", "UnpicklingError: Weights only load failed"),
        ("Unpicklable", "PicklingError|AttributeError"),
        ("Refusing", "a twin that went on from a checkpoint stopped with NotImplementedError: start again"),
    ],
)
def test_a_state_that_cannot_be_stored_starts_again_and_says_so(
    plan: PlanMaker, folder: StudyFolder, name: str, reason: str
) -> None:
    made = plan(f"{OTHERS}:{name}", epochs_wanted=8, workload="mini-batch")
    spec = evaluations(made)[0]
    dropped(spec, made.task, folder, step=14)
    assert not folder.checkpoint(spec).path.exists()
    events = run_with_checkpoints(spec, made.task, folder)
    assert events[0].record["kind"] == "trial"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))
    restarts = (folder.read_times(spec.id).end or {})["restarts"]
    assert any(restarts.startswith(one) for one in reason.split("|")), restarts
    assert "\n" not in restarts
    assert not list(folder.path.glob("checkpoints/*"))


def test_equality_is_of_bits() -> None:
    nan, zero = torch.tensor(float("nan")), torch.tensor(0.0)
    assert same({"a": [1, (nan, None)]}, {"a": [1, (nan.clone(), None)]})
    assert same(float("nan"), float("nan"))
    different: list[tuple[Any, Any]] = [
        (zero, -zero),
        (zero, zero.double()),
        (zero, zero.reshape(1)),
        (zero, 0.0),
        (1, True),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 1]),
        ((1,), [1]),
        (torch.tensor([True]), torch.tensor([False])),
    ]
    for one, other in different:
        assert not same(one, other), (one, other)
