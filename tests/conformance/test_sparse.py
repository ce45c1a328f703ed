"""Sparse gradients, where torch takes them: uncoalesced ones, against the dense run and against torch's class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .support import OURS, TORCHS, Info, assert_close, state_of, values

STEPS = 60

takers = [info for info in OURS.values() if info.supports_sparse or info.only_supports_sparse_grads]
every_taker = pytest.mark.parametrize("info", takers, ids=[info.name for info in takers])
every_start = pytest.mark.parametrize("maximize", [False, True], ids=["minimize", "maximize"])


def gradient(p: Tensor, step: int, sign: float) -> tuple[Tensor, Tensor]:
    """Rosenbrock's value and the gradient along one coordinate, in turn, as three uncoalesced parts."""
    x, y = p.detach()
    along = (2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2))[step % 2]
    parts = sign * along * torch.tensor([0.25, 0.5, 0.25], dtype=p.dtype)
    indices = torch.tensor([[step % 2] * 3])
    loss = sign * ((1 - x) ** 2 + 100 * (y - x**2) ** 2)
    return loss, torch.sparse_coo_tensor(indices, parts, (2,), check_invariants=False)


def trained(
    make: Any, info: Info, *, sparse: bool, maximize: bool = False, scheduled: bool = False
) -> tuple[list[Tensor], torch.optim.Optimizer]:
    """The parameter before every step, and the optimizer."""
    options, schedulers = info.metadata_for_sparse
    p = torch.nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    optimizer = make([p], **{**options, "maximize": maximize})
    made = [scheduler(optimizer) for scheduler in schedulers] if scheduled else []
    path = values([p])
    for step in range(STEPS):
        loss, p.grad = gradient(p, step, -1.0 if maximize else 1.0)
        assert not p.grad.is_coalesced()
        p.grad = p.grad if sparse else p.grad.to_dense()
        optimizer.step()
        path += values([p])
        for scheduler in made:
            scheduler.step(loss) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()
    return path, optimizer


@every_taker
@every_start
@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
def test_it_is_torchs(info: Info, maximize: bool, scheduled: bool) -> None:
    """Parameters at every step, and state at the end; and the valley's value falls."""
    ours, mine = trained(info.optim_cls, info, sparse=True, maximize=maximize, scheduled=scheduled)
    theirs, original = trained(TORCHS[info.name].optim_cls, info, sparse=True, maximize=maximize, scheduled=scheduled)
    assert_close(ours, theirs, 1024)
    assert_close(state_of(mine), state_of(original), 1024)
    first, last = (gradient(p, 0, 1.0)[0] for p in (ours[0], ours[-1]))
    assert last < first


@every_start
@pytest.mark.parametrize("info", [i for i in takers if not i.only_supports_sparse_grads], ids=lambda info: info.name)
def test_it_is_the_dense_run(info: Info, maximize: bool) -> None:
    sparse, _ = trained(info.optim_cls, info, sparse=True, maximize=maximize)
    for switches in ({}, *({switch: True} for switch in ("foreach", "fused") if switch in info.supported_impls)):
        dense, _ = trained(
            lambda params, given=switches, **options: info.optim_cls(params, **options, **given),
            info,
            sparse=False,
            maximize=maximize,
        )
        assert_close(sparse, dense, 1024)


@every_taker
def test_the_gradient_stays_as_it_is(info: Info) -> None:
    """Uncoalesced before and after."""
    p = torch.nn.Parameter(torch.tensor([1.5, 1.5], dtype=torch.float64))
    optimizer = info.optim_cls([p], **info.metadata_for_sparse[0])
    _, p.grad = gradient(p, 0, 1.0)
    before = p.grad.clone()
    optimizer.step()
    assert not p.grad.is_coalesced()
    assert_close(p.grad.to_dense(), before.to_dense())


@every_taker
def test_rows_that_are_not_in_the_gradient_rest(info: Info) -> None:
    p = torch.nn.Parameter(torch.ones(5, 3, dtype=torch.float64))
    optimizer = info.optim_cls([p], **info.metadata_for_sparse[0])
    for rows in ([1, 3], [3]):
        p.grad = torch.sparse_coo_tensor(
            [rows], torch.ones(len(rows), 3, dtype=torch.float64), (5, 3), check_invariants=False
        )
        optimizer.step()
    assert (p[[0, 2, 4]] == 1).all()
    assert (p[[1, 3]] < 1).all()
    assert (p[3] < p[1]).all()
