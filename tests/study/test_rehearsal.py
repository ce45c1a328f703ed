"""A step of every optimizer before the study: who is skipped and why, and what the step leaves untouched."""

import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steepest.study.declaration import Need
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config
from steepest.study.planning.dry_run import DryRun, try_steps
from steepest.study.planning.plan import Plan

from .small import planned, small
from .support import PlanMaker, evaluations, events_of, stored, with_task

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


def rehearsed(lines: Plan, text: str, needs: Iterable[Need] = ()) -> DryRun:
    return try_steps(parse_config(text, {}), evaluations(lines)[0], lines.task, tuple(needs))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("muon", r"ValueError: this Linear has no hidden matrix: .*; train it with AdamW"),
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
    assert rehearsed(lines, text) == DryRun(executor=executor, tensors=2)


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
    counted = with_task(lines, dataclasses.replace(lines.task, model=model))
    rehearsed(counted, text)
    rehearsed(counted, "sgd")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before[1:]
    assert torch.equal(lines.task.splits.train.inputs, points)
    assert len(models) == 2  # every rehearsal has a model of its own
    assert {id(p) for p in models[0].parameters()}.isdisjoint(id(p) for p in models[1].parameters())


def test_skipped_optimizers_stand_in_the_document_and_the_others_run(plan: PlanMaker) -> None:
    made = plan("muon", "sgd", workload="linear-regression")
    assert [one.label for one in made.configs] == ["SGD"]
    muon, sgd = stored(made.document)["optimizers"]
    assert "has no hidden matrix" in muon["skipped"]
    assert (muon["executor"], sgd["skipped"]) == (None, None)


FACTORIES = """
import torch
from torch import nn


def walks_twice(params, lr=0.1):
    decayed = [p for p in params if p.dim() > 1]
    return torch.optim.SGD([{"params": decayed}, {"params": [p for p in params if p.dim() < 2]}], lr=lr)


def takes_model(model, lr=0.1):
    assert isinstance(model, nn.Module)
    return torch.optim.SGD([{"params": module.parameters()} for module in model.children()], lr=lr)


def annotated(net: nn.Module, lr=0.1):
    return takes_model(net, lr)


def written_out(net: "nn.Module", lr=0.1):
    return takes_model(net, lr)


def named(named_parameters, lr=0.1):
    assert [name for name, _ in named_parameters] == [name for name, _ in named_parameters]
    return torch.optim.SGD([p for name, p in named_parameters], lr=lr)


def biases_forgotten(params, lr=0.1):
    return torch.optim.SGD([p for p in params if p.dim() > 1], lr=lr)


def one_kept(params, lr=0.1):
    return torch.optim.SGD(params[:1], lr=lr)


def others(params, lr=0.1):
    return torch.optim.SGD([nn.Parameter(p.detach().clone()) for p in params], lr=lr)
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize("name", ["walks_twice", "takes_model", "annotated", "written_out", "named"])
def test_a_factory_gets_what_its_signature_asks_for(name: str) -> None:
    """All of them are SGD over every parameter, so their trials are equal."""
    made = planned(small(model=layers), "torch.optim:SGD[lr=0.1]", f"factories.py:{name}[lr=0.1]")
    (first, one), (second, other) = [
        [event.record for event in events_of(spec, made.task)][:2] for spec in evaluations(made)
    ]
    ends = [events_of(spec, made.task)[-1].record for spec in evaluations(made)]
    assert ends[0] == ends[1]
    assert first != second
    assert one == other


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("biases_forgotten", "'0.bias', '1.bias'"),
        ("one_kept", "'0.bias', '1.weight', '1.bias'"),
        ("others", "'0.weight', '0.bias', '1.weight', '1.bias'"),
    ],
)
def test_parameters_that_no_group_holds_are_named(name: str, missing: str) -> None:
    told = rf"factories\.{name} does not train {missing}: the loss has gradients for these .* Give every"
    with pytest.raises(UsageError, match=told):
        planned(small(model=layers), "sgd", f"factories.py:{name}")


@pytest.mark.usefixtures("factories")
def test_several_optimizers_are_told_at_once_and_long_lists_are_cut() -> None:
    def deep() -> nn.Module:
        return nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)))

    with pytest.raises(UsageError) as caught:
        planned(small(model=deep), "factories.py:biases_forgotten", "factories.py:one_kept")
    told = str(caught.value)
    assert "factories.biases_forgotten does not train '0.bias', '1.bias', '2.bias', '3.bias' and 2 more" in told
    assert "factories.one_kept does not train '0.bias', '1.weight'" in told


@pytest.mark.usefixtures("factories")
def test_frozen_and_unused_parameters_may_be_left_out() -> None:
    def frozen() -> nn.Module:
        model = layers()
        for layer in model:
            layer.bias.requires_grad_(False)
        model.unused = nn.Parameter(torch.zeros(3))
        return model

    assert planned(small(model=frozen), "factories.py:biases_forgotten")
