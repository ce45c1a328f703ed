"""A step of every optimizer before the study: who is skipped and why, and what the step leaves untouched."""

import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from steepest.study.contestant import contestant
from steepest.study.declaration import Need
from steepest.study.plan import Plan
from steepest.study.rehearsal import Rehearsal, rehearse

from .support import PlanMaker, evaluations

RULES = '''
import torch


class Stubborn(torch.optim.SGD):
    error = ValueError("no, thank you")

    def step(self, closure=None):
        raise self.error


class Pressed(Stubborn):
    error = KeyboardInterrupt()


class Wordless(Stubborn):
    error = AssertionError()


class ScheduleFree(torch.optim.SGD):
    """As the schedule-free optimizers do, it refuses to step before its method `train` was called."""

    training = False

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def step(self, closure=None):
        if not self.training:
            raise RuntimeError("not in train mode")
        super().step(closure)


class Strange(torch.optim.SGD):
    def step(self, closure=None):
        torch.rand(5)
        super().step(closure)


def nothing(params, lr=0.1):
    return None


def needs_a_rate(params, lr):
    return torch.optim.SGD(params, lr=lr)
'''


@pytest.fixture
def lines(plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Plan to fit a line, with a weight and a bias, on few points."""
    (tmp_path / "rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return plan("sgd", workload="linear-regression")


def rehearsed(lines: Plan, text: str, needs: Iterable[Need] = ()) -> Rehearsal:
    return rehearse(contestant(text, {}), evaluations(lines)[0], lines.task, tuple(needs))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "muon",
            r"ValueError: Muon only supports 2D parameters .* torch\.Size\(\[1\]\); give it to an optimizer such",
        ),
        ("sparseadam", r"RuntimeError: SparseAdam does not support dense gradients"),
        ("torch.optim:SparseAdam", r"RuntimeError: SparseAdam does not support dense gradients"),
        ("rules.py:Stubborn", "^ValueError: no, thank you$"),
        ("rules.py:Wordless", "^AssertionError$"),
        (
            "rules.py:nothing",
            r"UsageError: rules\.py:nothing must return a torch\.optim\.Optimizer; it returned a NoneType",
        ),
        ("rules.py:needs_a_rate", "TypeError: .*missing 1 required positional argument: 'lr'"),
        ("torch.optim:Optimizer", "TypeError: .*missing 1 required positional argument: 'defaults'"),
        ("torch.optim:AdamW[lr=-1]", "ValueError: Invalid learning rate: -1"),
        ("torch.optim:SGD[nesterov=true]", "ValueError: Nesterov momentum requires a momentum"),
    ],
)
def test_what_cannot_run_is_skipped_with_its_reason(lines: Plan, text: str, reason: str) -> None:
    found = rehearsed(lines, text)
    assert found.executor is None
    assert re.search(reason, str(found.skipped))


@pytest.mark.parametrize(
    ("text", "executor"),
    [
        ("sgd", "native"),
        ("adam[foreach=false]", "reference"),
        ("torch.optim:AdamW", "its own"),
        ("torch.optim:LBFGS", "its own"),  # its step needs a closure
        ("lbfgs", "driver"),
        ("rules.py:ScheduleFree", "its own"),
    ],
)
def test_what_can_run_is_told_with_what_runs_it(lines: Plan, text: str, executor: str) -> None:
    assert rehearsed(lines, text) == Rehearsal(executor=executor)


def test_the_reason_names_what_the_workload_needs(lines: Plan) -> None:
    found = rehearsed(lines, "rules.py:Stubborn", ["sparse", "matrices"])
    needs = "its gradients are sparse tensors; its parameters are matrices only"
    assert found.skipped == f"ValueError: no, thank you (of this workload: {needs})"


def test_ctrl_c_is_no_reason_to_skip(lines: Plan) -> None:
    with pytest.raises(KeyboardInterrupt):
        rehearsed(lines, "rules.py:Pressed")


@pytest.mark.parametrize("text", ["sgd", "rules.py:Strange", "rules.py:Stubborn"])
def test_the_rehearsal_leaves_everything_as_it_was(lines: Plan, text: str) -> None:
    models: list[Any] = []
    whole = lines.task.model

    def model() -> torch.nn.Module:
        models.append(whole())
        return models[-1]

    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads()
    points = lines.task.splits.train.inputs.clone()
    counted = dataclasses.replace(lines, task=dataclasses.replace(lines.task, model=model))
    rehearsed(counted, text)
    rehearsed(counted, "sgd")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before[1:]
    assert torch.equal(lines.task.splits.train.inputs, points)
    assert len(models) == 2  # every rehearsal has a model of its own
    assert {id(p) for p in models[0].parameters()}.isdisjoint(id(p) for p in models[1].parameters())


def test_skipped_optimizers_stand_in_the_document_and_the_others_run(plan: PlanMaker) -> None:
    made = plan("muon", "sgd", workload="linear-regression")
    assert [one.label for one in made.contestants] == ["SGD"]
    muon, sgd = made.document["optimizers"]
    assert muon["skipped"].startswith("ValueError: Muon only supports 2D parameters")
    assert (muon["executor"], sgd["skipped"]) == (None, None)
