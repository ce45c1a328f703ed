"""``differentiable=True`` differentiates: autograd against finite differences, in float64.

One step, with respect to the parameter, its gradient and every tensor of its state; and several steps, with respect
to the hyperparameters, through gradients that depend on where the parameter is. For every class with the switch, those
that torch lacks among them, pointwise and per-tensor rules alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import CLASSES, Options, alternatives, defaults, hyperparameters, is_valid
from steepest import Field, Optimizer, State

from .support import source

pytestmark = pytest.mark.usefixtures("float64_default")

DIFFERENTIABLE = {name: cls for name, cls in CLASSES.items() if "differentiable" in cls.fields}
COUNT = 7.0
"""The steps before the one step: bias corrections are at work, and RAdam's variance is rectified."""


def is_switch(field: Field) -> bool:
    return field.is_flag or bool(field.choices)


def numbers(cls: type[Optimizer]) -> Options:
    """Every number that is worth tuning, away from its default, so that all terms are on."""
    found = {name: f for name, f in hyperparameters(cls).items() if f.search is not None and not is_switch(f)}
    return {name: alternatives(field)[0] for name, field in found.items()}


def variants() -> Iterator[Any]:
    """Every class as it is, with each of its switches and words turned alone, and with all of them that go together."""
    for cls in DIFFERENTIABLE.values():
        turned = [{n: v} for n, f in hyperparameters(cls).items() if is_switch(f) for v in alternatives(f)]
        together: Options = {}
        for each in turned:
            together |= each if is_valid(cls, {**numbers(cls), **together, **each}) else {}
        for row in ({}, *turned, together):
            if not is_valid(cls, {**numbers(cls), **row}):
                continue
            chosen = ",".join(f"{n}={v}" for n, v in row.items())
            yield pytest.param(cls, {**numbers(cls), **row}, id=f"{cls.__name__}[{chosen}]")


every_variant = pytest.mark.parametrize(("cls", "options"), list(variants()))


def test_both_kinds_are_tried() -> None:
    assert {cls.rule.kind for cls in DIFFERENTIABLE.values()} >= {"pointwise", "per_tensor"}


def uniform(shape: tuple[int, ...], seed: int) -> Tensor:
    """Between 0.5 and 1.5: away from where a root or an absolute value has a corner, and each a different number."""
    return torch.rand(shape, generator=source(seed), dtype=torch.float64) + 0.5


# -- one step --------------------------------------------------------------------------------------------------------


def held_state(cls: type[Optimizer], options: Options) -> list[State]:
    """The state under the options, but for the count."""
    rule = cls.rule_for({**defaults(cls), **options})
    return [s for s in rule.state if s.kind != "step" and s.when({**defaults(cls), **options})]


@every_variant
def test_one_step(cls: type[Optimizer], options: Options) -> None:
    """New parameter and new state by the old ones and the gradient; the state is put in by hand."""
    states = held_state(cls, options)
    inputs = [uniform((3,), 1), uniform((3,), 2)]
    like = {s.name: s.create(inputs[0], {**defaults(cls), **options}) for s in states}
    # A second moment is larger than the square of its first, or RMSprop's centered root is NaN.
    moments = {s.name: 3.0 if s.nonnegative else 0.0 for s in states}
    inputs += [uniform(tuple(x.shape), 3 + i) + moments[name] for i, (name, x) in enumerate(like.items())]

    def step(p: Tensor, g: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        p = p.clone()
        optimizer = cls([p], differentiable=True, **options)
        optimizer.state[p] = {name: x.clone() for name, x in zip(like, held, strict=True)}
        if any(s.kind == "step" for s in cls.rule.state):
            optimizer.state[p]["step"] = torch.tensor(COUNT)
        p.grad = g
        optimizer.step()
        assert optimizer.executor == "reference"
        return p, *(optimizer.state[p][name] for name in like)

    assert torch.autograd.gradcheck(step, [x.requires_grad_() for x in inputs])


# -- several steps ---------------------------------------------------------------------------------------------------


def loss(p: Tensor) -> Tensor:
    """No quadratic: the gradient's own derivative changes from point to point, and no rate makes the steps diverge."""
    return (torch.tensor([0.2, 0.3, 0.5]) * torch.log(torch.cosh(p - 3))).sum()


def tunable(cls: type[Optimizer]) -> dict[str, int]:
    """Rate, decay, and what says how fast an average forgets; with how many numbers each is."""
    found = {n: f for n, f in hyperparameters(cls).items() if n in numbers(cls)}
    return {n: len(f.names) for n, f in found.items() if f.is_decay or n in ("lr", "weight_decay")}


@every_variant
def test_several_steps_by_their_hyperparameters(cls: type[Optimizer], options: Options) -> None:
    """Three steps, and the loss at their end: by the start and by lr, betas, weight decay given as tensors."""
    sizes = tunable(cls)
    flat = [x for n in sizes for x in (options[n] if isinstance(options[n], tuple) else (options[n],))]

    def train(start: Tensor, *given: Tensor) -> Tensor:
        left = iter(given)
        tensors = {n: tuple(next(left) for _ in range(size)) if size > 1 else next(left) for n, size in sizes.items()}
        p = start.clone()
        optimizer = cls([p], differentiable=True, **{**options, **tensors})
        for _ in range(3):
            (p.grad,) = torch.autograd.grad(loss(p), p, create_graph=True)
            optimizer.step()
        return loss(p)

    inputs = [uniform((3,), 5), *(torch.tensor(x, dtype=torch.float64) for x in flat)]
    assert torch.autograd.gradcheck(train, [x.requires_grad_() for x in inputs])


@every_variant
def test_a_differentiable_step_is_the_loop(cls: type[Optimizer], options: Options) -> None:
    """Floats or tensors, the graph or none: the same three steps, 64 eps."""
    tensors = {n: torch.tensor(options[n]) for n, size in tunable(cls).items() if size == 1}
    ended = []
    for given in ({"foreach": False}, {"differentiable": True}, {"differentiable": True, **tensors}):
        p = uniform((3,), 5)
        optimizer = cls([p], **{**options, **given})
        for seed in range(3):
            p.grad = uniform((3,), 9 + seed)
            optimizer.step()
        ended.append(p)
    for other in ended[1:]:
        torch.testing.assert_close(other, ended[0], rtol=64 * torch.finfo(torch.float64).eps, atol=0.0)
