"""What to try on each optimizer: derived from its declared fields, so that a new class needs no line here."""

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from oracles import ORACLES
from steepest import Field, Optimizer, fields, registry, transforms
from steepest.companion import WithCompanion
from steepest.group import GroupSpec

Options = dict[str, Any]

CLASSES = registry.optimizers()
"""Every class of the library by its name."""


def defaults(cls: type[Optimizer]) -> Options:
    """The value of every field when nothing is given."""
    return {name: field.default for name, field in cls.fields.items()}


LAZY = {name: cls for name, cls in CLASSES.items() if cls.rule_for(defaults(cls)).sparse == "lazy"}
"""Classes that take sparse gradients alone; see test_sparse.py."""

COMPOSED = {
    name: cls
    for name, cls in CLASSES.items()
    if any(cls.fields[option].default != Optimizer.fields[option].default for option in transforms.options())
}
"""Classes that are another class in transforms; see test_transforms.py."""

FED = {name: cls for name, cls in CLASSES.items() if cls.takes_estimates}
"""Classes that need more than gradients between their steps; see test_sophia.py."""

PLANNED = {
    name: cls
    for name, cls in CLASSES.items()
    if not (cls.needs_closure(defaults(cls)) or cls.needs_loss(defaults(cls)) or name in {*LAZY, *COMPOSED, *FED})
}
"""Classes that step on a dense ``.grad`` alone, as their rule says."""

BRANCHING = {name: cls for name, cls in PLANNED.items() if cls.rule.branches}
"""Classes whose steps no graph records."""

SHARING = {name: cls for name, cls in PLANNED.items() if cls.rule.shared is not None}
"""Classes whose parameters share numbers, so that none moves as it would alone; see test_shared.py."""

SEPARATE = {name: cls for name, cls in PLANNED.items() if name not in SHARING and not cls.rule.takes_stream}
"""Classes whose parameters do not know of each other, nor of their places, which random numbers depend on."""

Twins = tuple[type[Optimizer], type[torch.optim.Optimizer]]

TWINS: dict[str, Twins] = {
    name: (cls, getattr(torch.optim, cls.__name__))
    for name, cls in CLASSES.items()
    if hasattr(torch.optim, cls.__name__)
}
"""Our class and torch's of the same name."""

PLANNED_TWINS = {name: twins for name, twins in TWINS.items() if name in PLANNED}
"""Those that step on ``.grad`` alone."""

SWITCHES: dict[str, Options] = {
    "reference": {"foreach": False},
    "foreach": {"foreach": True},
    "stacked": {"foreach": True},
    "native": {"fused": True},
}
"""How to ask for each executor in torch's words, from the slowest to the fastest that a class may have."""


@cache
def executors_of(cls: type[Optimizer]) -> tuple[str, ...]:
    """The executors that a class can be asked for and that run it: the class says so itself."""
    return tuple(name for name, switch in SWITCHES.items() if switch.keys() <= cls.fields.keys() and _runs(cls, name))


def spec_of(optimizer: Optimizer, group: int = 0) -> GroupSpec:
    """The specification of one group of an optimizer, for any parameter."""
    return GroupSpec.of(type(optimizer), optimizer.param_groups[group])


def kept_numbers(optimizer: Optimizer) -> list[Options]:
    """What a group keeps in addition to its options: numbers that its parameters share, the mode of its weights."""
    shared, mode = optimizer.rule.shared, ["train_mode"] if optimizer.evaluates_others else []
    names = [*(shared.kept if shared else ()), *mode]
    return [{name: group[name] for name in names} for group in optimizer.param_groups]


def buckets_of(optimizer: Optimizer) -> list[Any]:
    """The buckets that an optimizer remembers from its last step."""
    return [bucket for known in optimizer._dispatch.known.values() for bucket in known.buckets]


def _runs(cls: type[Optimizer], executor: str) -> bool:
    try:
        return bool(cls([torch.zeros(2, 2)], **SWITCHES[executor]).executor == executor)
    except RuntimeError:
        return False


@cache
def exactly(cls: type[Optimizer]) -> type[Optimizer]:
    """The class; if its rule rounds to a dtype of its own (Muon's bfloat16), one whose rule rounds to float64."""
    if cls.rule.precision is None:
        return cls
    return type(cls.__name__, (cls,), {"rule": dataclasses.replace(cls.rule, precision=torch.float64)})


NATIVE = {name: cls for name, cls in PLANNED.items() if "native" in executors_of(cls)}
"""Classes with a compiled kernel."""


# -- values ----------------------------------------------------------------------------------------------------------


OF_TRANSFORMS = transforms.options().keys() - {"ema_decay", "max_norm"}
"""Options of transforms that test_transforms.py tries with every class."""

OF_COMPANION = {*WithCompanion.fields.keys() - Optimizer.fields.keys(), "ns_dtype"}
OF_COMPANION = OF_COMPANION - {"lr_in_decay", "decoupled_weight_decay"} | {"spread"}
"""Options beside a rule of matrices, which test_companion.py and test_spread.py try with every class that has them."""


def hyperparameters(cls: type[Optimizer]) -> dict[str, Field]:
    """The arguments that change the mathematics; how state is kept is tested in test_storage.py, most transforms in
    test_transforms.py.
    """
    return {
        name: f
        for name, f in cls.fields.items()
        if f.is_hyperparameter and not f.fixed and name not in fields.STORAGE_OPTIONS | OF_TRANSFORMS | OF_COMPANION
    }


ALTERNATIVES: Options = {
    "ema_decay": 0.5,
    "gpa": (0.9, 0.7),
    "schedule_free": 0.9,
    "lookahead": (6, 0.5),
    "hessian_interval": 100,
}
"""A value of each option whose bounds do not tell what to try."""


def alternatives(field: Field) -> list[Any]:
    """Values beside the default that matter, inside the declared bounds."""
    if field.name in ALTERNATIVES:
        return [ALTERNATIVES[field.name]] if field.default is None or field.integer else [None]
    if field.candidates:
        return list(field.candidates)
    if field.choices:
        return [choice for choice in field.choices if choice != field.default]
    if field.is_flag:
        return [not field.default]
    if isinstance(field.default, tuple):
        return [tuple(telling(field) - 0.11 * index for index in range(len(field.default)))]
    if field.integer:
        usual, least = field.default or 32, int(field.low or 0)
        return sorted({max(least, usual // 2), max(least, usual // 8)} - {field.default}, reverse=True)
    if isinstance(field.default, int) and field.default > 0:
        return [field.default + 1, max(int(field.low or 0), field.default // 8)]
    return [telling(field)]


def telling(field: Field) -> float:
    """A number well away from the usual default: three quarters up the search range, or the middle of the bounds.

    Without either a quarter more, which half types hold exactly: state that starts there starts equal in all dtypes.
    """
    if field.search is not None:
        low, high = field.search.low, field.search.high
        value = low * (high / low) ** (0.75 if low * (high / low) ** 0.75 != field.default else 0.5)
        return 1 - value if field.search.complement else value
    if field.high is None:
        return float(field.default or 0) + 0.25
    return ((field.low or 0.0) + field.high) / 2


def is_valid(cls: type[Optimizer], options: Options) -> bool:
    """Whether the options go together and need no closure that the defaults do not need."""
    complete = {**defaults(cls), **options}
    try:
        cls([torch.nn.Parameter(torch.ones(2, 2))], **options)
    except ValueError:
        return False
    return cls.needs_closure(complete) == cls.needs_closure(defaults(cls))


def values(cls: type[Optimizer]) -> dict[str, list[Any]]:
    """Every hyperparameter with its default and its alternatives."""
    return {name: [field.default, *alternatives(field)] for name, field in hyperparameters(cls).items()}


def pairwise(cls: type[Optimizer], offered: Mapping[str, list[Any]] | None = None) -> list[Options]:
    """Valid combinations such that any two values of any two options meet at least once, if they may at all."""
    offered = dict(values(cls) if offered is None else offered)
    wanted = [
        {a: x, b: y}
        for a, b in itertools.combinations(offered, 2)
        for x, y in itertools.product(offered[a], offered[b])
    ]
    rows: list[Options] = []
    for pair in wanted:
        if not any(pair.items() <= row.items() for row in rows):
            rows += _completed(cls, pair, offered, [w for w in wanted if not any(w.items() <= r.items() for r in rows)])
    return rows


def _completed(
    cls: type[Optimizer], pair: Options, offered: dict[str, list[Any]], missing: list[Options]
) -> Iterator[Options]:
    """The pair inside one valid row that meets many missing pairs; nothing if no row may hold it."""
    row = dict(pair)
    for name in (n for n in offered if n not in pair):
        candidates = [{**row, name: value} for value in offered[name]]
        row = max(candidates, key=lambda r: (is_valid(cls, r), sum(w.items() <= r.items() for w in missing)))
    if is_valid(cls, row):
        yield row
    elif (found := _first_valid(cls, pair, offered)) is not None:
        yield found


def _first_valid(cls: type[Optimizer], pair: Options, offered: dict[str, list[Any]]) -> Options | None:
    rest = {name: v for name, v in offered.items() if name not in pair}
    rows = ({**pair, **dict(zip(rest, picked, strict=True))} for picked in itertools.product(*rest.values()))
    return next((row for row in rows if is_valid(cls, row)), None)


def structures(cls: type[Optimizer], names: Iterable[str]) -> list[Options]:
    """Valid combinations of what shapes the program (flags, words, terms that are off at 0): any three values that may
    meet do so in one of them (any two in an everyday run).

    Numbers that are worth searching are moved off their defaults in all of them.
    """
    offered = {name: v for name, v in values(cls).items() if name in set(names)}
    for name, field in hyperparameters(cls).items():
        if name in offered and field.search is not None and field.default != 0:
            offered[name] = offered[name][1:]
    rows = (dict(zip(offered, picked, strict=True)) for picked in itertools.product(*offered.values()))
    return _covering([row for row in rows if is_valid(cls, row)], 3 if is_full() else 2)


def _covering(rows: list[Options], size: int) -> list[Options]:
    """A few of the rows in which any ``size`` values meet that meet in any of them, the most telling first."""
    meetings = [set(itertools.combinations(row.items(), min(size, len(row)))) for row in rows]
    missing = set().union(*meetings)
    chosen: list[Options] = []
    while missing:
        row, met = max(zip(rows, meetings, strict=True), key=lambda candidate: len(candidate[1] & missing))
        chosen.append(row)
        missing -= met
    return chosen


def structure(cls: type[Optimizer]) -> tuple[str, frozenset[str]]:
    """What decides how a step is run and stored: the kind of the rule, and the kinds of state that it has."""
    return cls.rule.kind, frozenset(state.kind for state in cls.rule.state)


def given(options: Options, cls: type[Optimizer]) -> Options:
    """The options that differ from the defaults."""
    return {name: value for name, value in options.items() if value != cls.fields[name].default}


def decaying(cls: type[Optimizer], amount: float = 0.1) -> Options:
    """Weight decay, where the class has it."""
    return {"weight_decay": amount} if "weight_decay" in cls.fields else {}


# -- parameters for pytest -------------------------------------------------------------------------------------------


def label(cls: type[Optimizer], options: Options) -> str:
    """A readable test id."""
    return registry.Recipe(cls.__name__.lower(), given(options, cls)).label


def cases(rows: Iterable[tuple[type[Optimizer], Options]]) -> list[Any]:
    """``(cls, options)`` parameters, each under a readable id."""
    return [pytest.param(cls, options, id=label(cls, options)) for cls, options in rows]


def of_each_structure(rows: Iterable[tuple[type[Optimizer], Options]], most: int) -> list[Any]:
    """``(cls, options)`` parameters; of the rows whose classes share a structure all but a few are slow."""
    seen: dict[Any, int] = {}
    marked = []
    for (cls, options), param in zip(rows := list(rows), cases(rows), strict=True):
        count = seen[structure(cls)] = seen.get(structure(cls), 0) + 1
        marked.append(pytest.param(cls, options, id=param.id, marks=[pytest.mark.slow] if count > most else []))
    return marked


def oracle_options(name: str) -> list[str]:
    """The hyperparameters that both the class and its oracle have; lr changes every step, so it is left out."""
    known = inspect.signature(ORACLES[name]).parameters
    return [field for field in hyperparameters(CLASSES[name]) if field in known and field != "lr"]


def torch_values(name: str) -> dict[str, list[Any]]:
    """The hyperparameters that both our class and torch's have, with the values that torch's takes too."""
    cls, theirs = TWINS[name]
    offered = values(cls)
    return {option: [v for v in offered[option] if _is_taken(theirs, {option: v})] for option in torch_options(name)}


def _is_taken(theirs: type[torch.optim.Optimizer], options: Options) -> bool:
    try:
        theirs([torch.nn.Parameter(torch.zeros(2, 2))], **options)
    except (ValueError, RuntimeError):
        return False
    return True


def torch_options(name: str) -> list[str]:
    """The hyperparameters that both our class and torch's have."""
    known = inspect.signature(TWINS[name][1]).parameters
    return [field for field in hyperparameters(CLASSES[name]) if field in known]


def _first_of_each_structure(classes: Mapping[str, type[Optimizer]]) -> Iterator[Any]:
    """The classes; those whose structure an earlier one has are slow."""
    known: set[Any] = set()
    for name, cls in classes.items():
        yield pytest.param(cls, id=name, marks=[pytest.mark.slow] if structure(cls) in known else [])
        known.add(structure(cls))


every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=list(CLASSES))
every_separate_class = pytest.mark.parametrize("cls", SEPARATE.values(), ids=list(SEPARATE))
every_planned_class = pytest.mark.parametrize("cls", PLANNED.values(), ids=list(PLANNED))
every_structure = pytest.mark.parametrize("cls", list(_first_of_each_structure(PLANNED)))
every_recorded_structure = pytest.mark.parametrize(
    "cls", list(_first_of_each_structure({n: c for n, c in PLANNED.items() if n not in {*BRANCHING, *SHARING}}))
)
every_native_class = pytest.mark.parametrize("cls", NATIVE.values(), ids=list(NATIVE))
every_pointwise_executor = pytest.mark.parametrize("executor", executors_of(NATIVE["adam"]))
every_executor = pytest.mark.parametrize("executor", list(SWITCHES))


def class_under_test(item: Any) -> Any:
    """Our class that a test is called with; None where there is none."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    cls = given.get("cls", given.get("twins", (None,))[0])
    return cls if isinstance(cls, type) and issubclass(cls, Optimizer) else None


# -- how many of them ------------------------------------------------------------------------------------------------


def is_full() -> bool:
    """Whether all combinations and the slow tests are to run."""
    return os.environ.get("STEEPEST_MATRIX") == "full"


def some(values: Iterable[Any], every: int = 5) -> list[Any]:
    """Values for a parametrization, of which one in ``every`` is for the everyday run, and the others are slow."""
    return [
        value if place % every == 0 else pytest.param(value, marks=pytest.mark.slow)
        for place, value in enumerate(values)
    ]


def thin(rows: Sequence[Mapping[str, Any]], *names: str) -> list[int]:
    """Places of a few rows in which every value of every column occurs, and any two values that meet in two of the
    columns ``names``.

    Ties are broken by a fixed shuffle, so that a column that is not named takes turns.
    """
    meetings = [_meetings(row, names) for row in rows]
    order = random.Random(0).sample(range(len(rows)), len(rows))
    missing = set().union(*meetings)
    chosen: list[int] = []
    for least in range(max(map(len, meetings), default=0), 0, -1):
        for place in order:
            if len(meetings[place] & missing) >= least:
                chosen.append(place)
                missing -= meetings[place]
    return sorted(chosen)


def _meetings(row: Mapping[str, Any], names: Sequence[str]) -> set[Any]:
    pairs = itertools.combinations([(name, row[name]) for name in names if name in row], 2)
    return {*row.items(), *pairs}


def features(item: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """The values that a test is called with, by name: an object that has columns of its own as those, options one by
    one, any other that is not a plain value by its identity. An optimizer is there as its "structure", or as the "kind"
    of its rule. It is there by itself, with options of its own, where ``names`` have "cls".
    """
    found: dict[str, Any] = {}
    cls = class_under_test(item)
    owner = cls if "cls" in names else None
    for name, value in item.callspec.params.items() if hasattr(item, "callspec") else ():
        if hasattr(value, "columns"):
            found |= value.columns
        elif isinstance(value, dict) and name not in names:
            found |= {(owner, option): repr(chosen) for option, chosen in value.items()}
        else:
            found[name] = value if isinstance(value, type | str | int | float) else id(value)
    if cls is not None:
        found = {name: value for name, value in found.items() if name not in ("cls", "twins")}
        seen_as = next((name for name in ("cls", "kind") if name in names), "structure")
        found[seen_as] = {"cls": cls, "kind": cls.rule.kind, "structure": structure(cls)}[seen_as]
    return found


# -- running ---------------------------------------------------------------------------------------------------------


def parameters(arrays: Sequence[Any], dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    """Parameters with the arrays' values."""
    return [torch.nn.Parameter(torch.as_tensor(a).to(dtype, copy=True)) for a in arrays]


def give(params: Sequence[torch.Tensor], grads: Sequence[Any]) -> None:
    """Set the gradients (None stays None)."""
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else torch.as_tensor(g).to(p.dtype, copy=True).view(p.shape)


def loss_of(params: Iterable[torch.Tensor]) -> torch.Tensor:
    """A convex function with a curvature of its own for every element; its least value is away from 0."""
    total = torch.zeros((), dtype=torch.float64)
    for index, p in enumerate(params):
        x = torch.view_as_real(p) if p.is_complex() else p
        scale = torch.linspace(0.5, 2.0, x.numel(), dtype=torch.float64).view(x.shape)
        total = total + (scale * (x.double() - 0.3 * index - 0.1) ** 2).sum()
    return total


def closure_for(optimizer: torch.optim.Optimizer) -> Any:
    """A closure over all parameters of the optimizer, whichever they are when it is called."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(p for group in optimizer.param_groups for p in group["params"])
        backward(loss, optimizer)
        return loss

    return closure


def backward(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Gradients in the layout that the optimizer takes."""
    loss.backward()
    if type(optimizer).__name__.lower() in LAZY:
        for p in (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None):
            p.grad = p.grad.to_sparse()


def train(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Some steps on `loss_of`; works for every class, also for those that need a closure."""
    for _ in range(steps):
        optimizer.step(closure_for(optimizer))


def through_file(state: Any) -> Any:
    """What comes back from a file that is loaded safely."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


Snapshot = list[tuple[torch.Tensor, dict[str, Any]]]


def snapshot(optimizer: torch.optim.Optimizer) -> Snapshot:
    """Copies of every parameter and its state."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return [(p.detach().clone(), {k: copied(v) for k, v in optimizer.state.get(p, {}).items()}) for p in params]


def copied(value: Any) -> Any:
    """A copy of a tensor, a number, or a list of them."""
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def same(a: Any, b: Any) -> bool:
    """Bitwise equality of dtype, shape and values (a NaN equals a NaN); of numbers and lists too."""
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if not isinstance(a, torch.Tensor):
        return type(a) is type(b) and (a == b or (a != a and b != b))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    x, y = (torch.view_as_real(t.detach()) if t.is_complex() else t.detach() for t in (a, b))
    return bool(((x == y) & (torch.signbit(x) == torch.signbit(y)) | (x.isnan() & y.isnan())).all())


def assert_same(ours: Snapshot, theirs: Snapshot) -> None:
    """Two snapshots are equal bit by bit."""
    for (p, held), (q, other) in zip(ours, theirs, strict=True):
        assert same(p, q), (p, q)
        assert list(held) == list(other)
        for name in held:
            assert same(held[name], other[name]), (name, held[name], other[name])
