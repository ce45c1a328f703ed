"""Every hyperparameter matters: moving one moves the result by more than ten times what parity would forgive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from cases import CLASSES, alternatives, backward, hyperparameters
from steepest import Optimizer
from steepest.drivers.line_search import LineSearchError

PARITY = 1e-12
"""The oracles' tolerance in float64."""

MOVES = [
    (cls, name, value)
    for cls in CLASSES.values()
    if not cls.takes_estimates
    for name, field in hyperparameters(cls).items()
    for value in alternatives(field)
]


Chosen = tuple[tuple[str, Any], ...]
"""Options by name, of which results are kept."""


@cache
def result(cls: type[Optimizer], chosen: Chosen, with_state: bool = False) -> torch.Tensor | str:
    """Parameters, and averages where they are kept, after twelve steps on Rosenbrock's valley with many valleys.

    Half-way the rate is halved: only then does it matter whether a buffer holds it. One direction is nearly flat: only
    there does a lower bound of a root matter. Rules of whole tensors get a matrix, rules
    of matrices a wide one, a tall one and a vector.
    """
    start = torch.tensor([-1.2, 1.0, 0.5, 0.7, 0.3, 0.4], dtype=torch.float64)
    parts = [start]
    if cls.rule.kind == "per_tensor":
        parts = [start.view(2, 3)]
    if cls.rule.kind == "matrix":
        start = start.repeat(3)[:14]
        parts = [start[:6].view(2, 3), start[6:12].view(3, 2), start[12:]]
    params = [torch.nn.Parameter(part.clone()) for part in parts]
    optimizer = cls(params, **dict(chosen))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        x = torch.cat([p.reshape(-1) for p in params])
        if optimizer.param_groups[0].get("line_search") == "exact":
            loss = (torch.arange(1.0, 7.0, dtype=torch.float64) * x * x).sum()
        else:
            q, flat = x[:-1], x[-1]
            loss = ((q[1:] - q[:-1] ** 2) ** 2).sum() * 10 + ((1 - q) ** 2).sum() + 1e-7 * flat
        backward(loss, optimizer)
        return loss

    try:
        for step in range(12):
            if step == 6 and "lr" in optimizer.param_groups[0]:
                optimizer.param_groups[0]["lr"] /= 2
            optimizer.step(closure)
    except LineSearchError as error:
        return str(error)
    held = [entry for p in params for entry in optimizer.state.get(p, {}).items()]
    seen = [x.reshape(-1).double() for name, x in held if with_state or name == "ema"]
    return torch.cat([*(p.detach().reshape(-1) for p in params), *seen])


def moves(before: torch.Tensor | str, after: torch.Tensor | str) -> bool:
    if isinstance(before, str) or isinstance(after, str):
        return before != after
    if before.shape != after.shape or not torch.equal(before.isfinite(), after.isfinite()):
        return True
    return bool(((before - after).abs() > 10 * PARITY * before.abs().clamp(min=1.0)).any())


def settings(cls: type[Optimizer], name: str) -> Iterator[Chosen]:
    """Where to look: the defaults first, then one other option moved (dampening needs momentum, c2 a Wolfe search),
    then two (lr_in_decay needs a decay, and a decoupled one), then three (wd_ratio: a decay and projected steps).
    """
    others = {n: alternatives(field) for n, field in hyperparameters(cls).items() if n != name}
    for size in range(4):
        for chosen in itertools.combinations(others, size):
            for picked in itertools.product(*(others[n] for n in chosen)):
                yield tuple(zip(chosen, picked, strict=True))


@cache
def usable(cls: type[Optimizer], chosen: Chosen) -> bool:
    try:
        cls([torch.nn.Parameter(torch.zeros(2))], **dict(chosen))
    except ValueError:
        return False
    return True


@pytest.mark.every(3)
@pytest.mark.parametrize(("cls", "name", "value"), MOVES, ids=[f"{c.__name__}-{n}={v}" for c, n, v in MOVES])
def test_moving_it_moves_the_result(cls: type[Optimizer], name: str, value: Any) -> None:
    """The move happens under the defaults, or under one or two others that bring this one to life, or it is refused.

    Where the parameters cannot move the state does: an average that the rule keeps and does not read (ASGD's ``ax``),
    or gradients of another size under a rule that looks at their signs alone (Rprop).
    """
    looked = False
    for with_state in (False, True):
        for base in settings(cls, name):
            moved = (*base, (name, value))
            if usable(cls, base) and usable(cls, moved):
                looked = True
                if moves(result(cls, base, with_state), result(cls, moved, with_state)):
                    return
    assert not looked, f"{name}={value} changes nothing"
