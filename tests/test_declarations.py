"""The shell reads optimizers of every sort alike: arguments, defaults, first state are torch's where torch has them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch

from cases import CLASSES, COMPOSED, NATIVE, alternatives, defaults, hyperparameters, is_valid, kept_numbers, pairwise
from steepest import Optimizer, transforms
from steepest.executors.choose import choose
from steepest.fields import (
    AROUND,
    EXECUTION,
    EXECUTION_SWITCHES,
    SECTIONS,
    STORAGE,
    STORAGE_OPTIONS,
)
from steepest.group import GroupSpec
from steepest.preconditioned import never

DECLARED = CLASSES.values()
every_declaration = pytest.mark.parametrize("cls", DECLARED, ids=lambda c: c.__name__)
TWINNED = [cls for cls in DECLARED if hasattr(torch.optim, cls.__name__)]
every_twin = pytest.mark.parametrize("cls", TWINNED, ids=lambda c: c.__name__)


def parameters(cls: type[Optimizer]) -> list[torch.nn.Parameter]:
    """A matrix, and unless the rule is for matrices alone a vector and a number."""
    shapes: list[tuple[int, ...]] = [(3, 4)] if cls.rule.kind == "matrix" else [(3, 4), (5,), ()]
    return [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes]


def torchs(cls: type[Optimizer]) -> type[torch.optim.Optimizer]:
    twin: type[torch.optim.Optimizer] = getattr(torch.optim, cls.__name__)
    return twin


@pytest.mark.thin("cls")
@every_declaration
def test_it_is_read(cls: type[Optimizer]) -> None:
    optimizer = cls(parameters(cls))
    assert optimizer.param_groups[0].keys() == {"params", *cls.fields, *kept_numbers(optimizer)[0]}
    assert set(inspect.signature(cls).parameters) == {"params", *(n for n, f in cls.fields.items() if not f.fixed)}
    assert cls.__name__ in repr(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    for state in cls.rule.state:
        assert state.nbytes(torch.ones(3, 4), optimizer.defaults) >= 0


@every_twin
def test_arguments_and_defaults_are_torchs(cls: type[Optimizer]) -> None:
    theirs = inspect.signature(torchs(cls)).parameters
    ours = inspect.signature(cls).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert {name: ours[name].default for name in theirs} == {name: p.default for name, p in theirs.items()}


@every_declaration
def test_arguments_that_torch_lacks_come_by_section(cls: type[Optimizer]) -> None:
    theirs = inspect.signature(torchs(cls)).parameters if cls in TWINNED else {}
    named = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    places = [SECTIONS.index(cls.fields[name].section) for name in named if name not in theirs]
    assert places == sorted(places)
    assert places[-1] == SECTIONS.index(EXECUTION)


@every_declaration
def test_help_explains_every_argument_under_its_heading(cls: type[Optimizer]) -> None:
    """Transforms' options stand around the rule, also where a class gives one another default; a class's own do not."""
    head, *parts = re.split(r"^(?=\S)", inspect.getdoc(cls.__init__) or "", flags=re.MULTILINE)
    assert head == ""
    assert [part.partition(":")[0] for part in parts] == ["Args", *SECTIONS]
    around = transforms.options().keys() - EXECUTION_SWITCHES
    wanted = {EXECUTION: EXECUTION_SWITCHES, STORAGE: STORAGE_OPTIONS, AROUND: around}
    free = {name: field for name, field in cls.fields.items() if not field.fixed}
    for part in parts[1:]:
        heading, *lines = part.strip().splitlines()
        names = wanted.get(heading.rstrip(":"), free.keys() - EXECUTION_SWITCHES - STORAGE_OPTIONS - around)
        fields = [field for name, field in free.items() if name in names]
        assert lines == [f"    {field.name}={field.default!r}: {field.doc}" for field in fields]


def first_values(optimizer: torch.optim.Optimizer, p: torch.nn.Parameter) -> dict[str, Any]:
    """What a parameter's state is right after its first step with a gradient of zero, before anything moves it."""
    return {name: value for name, value in optimizer.state[p].items() if name in DECLARED_NAMES}


DECLARED_NAMES = {state.name for cls in DECLARED for state in cls.rule.state}

# What torch's first step has already done to these when its state can be seen: counted, multiplied or scheduled.
MOVED_BY_ONE_STEP = {"step", "mu_product", "eta", "mu", "ax", "exp_inf"}


def options(cls: type[Optimizer]) -> dict[str, Any]:
    """What brings all state to life, and what that needs."""
    usual = defaults(cls)
    chosen = {
        name: value
        for name, field in hyperparameters(cls).items()
        for value in alternatives(field)
        if any(s.when({**usual, name: value}) and not s.when(usual) for s in cls.rule.state)
    }
    return chosen if is_valid(cls, chosen) else next(row for row in pairwise(cls) if chosen.items() <= row.items())


@pytest.mark.parametrize("cls", [c for c in TWINNED if c.rule.kind != "driver"], ids=lambda c: c.__name__)
def test_first_state_is_torchs(cls: type[Optimizer]) -> None:
    """Names in order, shapes, dtypes and, but for what torch's first step has moved, values. Made by a step with a zero
    gradient (sparse where torch's class wants that). A driver's state is made while it searches, and torch's SparseAdam
    counts in a plain int.
    """
    theirs = torchs(cls)(params := parameters(cls), **options(cls))
    make_torch_state(theirs, params)
    group = cls(own := parameters(cls), **options(cls)).param_groups[0]
    for p, q in zip(params, own, strict=True):
        made = {s.name: s.create(q, group) for s in cls.rule.state if s.when(group) and s.where(q)}
        wanted = first_values(theirs, p)
        assert list(made) == list(wanted)
        for name, value in made.items():
            assert describe(value) == describe(wanted[name]) or (name == "step" and isinstance(wanted[name], int)), name
            if name not in MOVED_BY_ONE_STEP and isinstance(value, torch.Tensor):
                assert value.tolist() == wanted[name].tolist(), name


def describe(value: Any) -> Any:
    """Shape, dtype and layout of a tensor; the type of anything else."""
    return (value.shape, value.dtype, value.stride()) if isinstance(value, torch.Tensor) else type(value)


def make_torch_state(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> None:
    def closure() -> torch.Tensor:
        for p in params:
            p.grad = torch.zeros_like(p)
            if isinstance(optimizer, torch.optim.SparseAdam):
                p.grad = p.grad.to_sparse()
        return torch.zeros(())

    optimizer.step(closure)


def test_state_that_depends_on_options_depends_on_them() -> None:
    for cls in DECLARED:
        plain = {s.name for s in cls.rule.state if s.when(cls(parameters(cls)).param_groups[0])}
        given = {**options(cls), **({"spread": True} if "spread" in cls.fields else {})}
        lively = {s.name for s in cls.rule.state if s.when(cls(parameters(cls), **given).param_groups[0])}
        assert plain <= lively
        assert lively == {s.name for s in cls.rule.state if s.when is not never}


@pytest.mark.thin("cls")
@every_declaration
def test_every_kind_has_a_place(cls: type[Optimizer]) -> None:
    """Each kind is either run or refused by name; none is run inexactly."""
    optimizer = cls(parameters(cls))
    ran = choose(GroupSpec.of(cls, optimizer.param_groups[0])).executor
    if cls in COMPOSED.values():
        assert ran.name == "foreach"  # Ranger's units
        return
    if cls.rule.sparse == "lazy":
        assert ran.name == "sparse"
        return
    planned = {"pointwise": "native", "per_tensor": "native" if cls in NATIVE.values() else "foreach"}
    assert ran.name == {**planned, "matrix": "stacked", "driver": "driver"}[cls.rule_for(optimizer.defaults).kind]
