"""Adafactor: what no other rule has, and what the generic tests cannot know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import SWITCHES, executors_of
from steepest.functional import pair

every_executor = pytest.mark.parametrize("executor", executors_of(steepest.Adafactor))
STATE = {"row_var": (2, 3, 1), "col_var": (2, 1, 4)}


def stepped(p: Tensor, grads: list[Any], **options: Any) -> steepest.Adafactor:
    optimizer = steepest.Adafactor([p], **options)
    for g in grads:
        p.grad = torch.as_tensor(g, dtype=p.dtype)
        optimizer.step()
    return optimizer


@every_executor
def test_a_matrix_by_hand(executor: str) -> None:
    """t = 1: R and C are the means of g^2 = [[1, 9], [4, 16]], and Vhat their product over mean(R) = 7.5."""
    p = torch.nn.Parameter(torch.full((2, 2), 2.0, dtype=torch.float64))
    optimizer = stepped(p, [[[1.0, 3.0], [2.0, 4.0]]], lr=0.5, d=100.0, weight_decay=0.1, **SWITCHES[executor])
    assert optimizer.executor == executor
    assert optimizer.state[p]["row_var"].tolist() == [[5.0], [10.0]]
    assert optimizer.state[p]["col_var"].tolist() == [[2.5, 12.5]]
    vhat = torch.tensor([[12.5, 62.5], [25.0, 125.0]], dtype=torch.float64) / 7.5
    moved = 2.0 * 0.5 * torch.tensor([[1.0, 3.0], [2.0, 4.0]], dtype=torch.float64) / vhat.sqrt()
    torch.testing.assert_close(p.detach(), 2.0 * (1 - 0.5 * 0.1) - moved)  # RMS(theta) = 2 is of before the decay


@every_executor
def test_a_vector_by_hand(executor: str) -> None:
    """t = 2: half of the average is kept, V = (g1^2 + g2^2) / 2 = (1, 25) / 2."""
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = stepped(p, [[1.0, 0.0], [0.0, 5.0]], lr=9.0, beta2_decay=-1.0, eps=(0.0, 0.25), **SWITCHES[executor])
    assert optimizer.state[p]["variance"].tolist() == [0.5, 12.5]
    # First step: U = (1, 0 / 0), since eps1 = 0 is no floor.
    assert p.isnan().tolist() == [True, True]
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    stepped(p, [[1.0, 3.0], [1.0, 3.0]], lr=9.0, beta2_decay=-1.0, eps=(0.0, 0.25), **SWITCHES[executor])
    # U = (1, 1) both times; first alpha = .25 * 1; then theta = (-.25, -.25), RMS .25: .25 / sqrt(2).
    torch.testing.assert_close(p.detach(), torch.full((2,), -0.25 - 0.25 / 2**0.5, dtype=torch.float64))


@every_executor
def test_updates_are_clipped_at_d(executor: str) -> None:
    """A gradient 100 times the last one: U = 100 / sqrt(V) is far above d, and the step is d times the rate."""
    moves = []
    for d in (1.0, 2.0):
        p = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
        grads = [torch.ones(4)] * 30 + [100 * torch.ones(4)]
        optimizer = stepped(p, grads[:-1], lr=0.01, d=d, **SWITCHES[executor])
        before = p.detach().clone()
        p.grad = grads[-1].double()
        optimizer.step()
        moves.append(((before - p.detach()) / before)[0].item())
    assert moves == pytest.approx([0.01, 0.02], rel=1e-9)


@every_executor
def test_state_of_stacked_matrices_and_of_vectors(executor: str) -> None:
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 3, 4), (5,), ())]
    optimizer = steepest.Adafactor(params, **SWITCHES[executor])
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    held = [{name: tuple(x.shape) for name, x in optimizer.state[p].items()} for p in params]
    assert held == [{"step": (), **STATE}, {"step": (), "variance": (5,)}, {"step": (), "variance": ()}]


@every_executor
def test_each_matrix_of_a_stack_is_its_own_but_for_the_sizes(executor: str) -> None:
    """R, C and their mean are of each matrix; RMS(theta) and RMS(U) are of the whole tensor, as in torch."""
    source = torch.Generator().manual_seed(3)
    x, g = (torch.randn(2, 3, 4, generator=source, dtype=torch.float64) for _ in range(2))
    whole = torch.nn.Parameter(x.clone())
    optimizer = stepped(whole, [g, -g], **SWITCHES[executor])
    for i in range(2):
        single = torch.nn.Parameter(x[i].clone())
        other = stepped(single, [g[i], -g[i]], **SWITCHES[executor])
        for name in STATE:
            torch.testing.assert_close(optimizer.state[whole][name][i], other.state[single][name])


@every_executor
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.bfloat16)], ids=str)
def test_eps1_of_none_is_each_parameters_own(dtypes: tuple[torch.dtype, ...], executor: str) -> None:
    """torch's class takes the first parameter's for the whole group. A gradient below it moves by g / eps1."""
    params = [torch.nn.Parameter(torch.ones(4, dtype=dtype)) for dtype in dtypes]
    optimizer = steepest.Adafactor(params, lr=1.0, d=1e30, **SWITCHES[executor])
    for p in params:
        p.grad = torch.full_like(p, torch.finfo(p.dtype).eps / 4)
    optimizer.step()
    assert [p.tolist() for p in params] == [[0.75] * 4] * 2


@every_executor
def test_eps1_that_is_given_is_a_floor_of_the_root(executor: str) -> None:
    p = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    stepped(p, [torch.full((2, 2), 0.25)], lr=1.0, eps=(0.5, 1e-3), **SWITCHES[executor])
    assert p.tolist() == [[0.5, 0.5], [0.5, 0.5]]


@every_executor
def test_empty_parameters_rest(executor: str) -> None:
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((0,), (3, 0), (0, 3), (2,))]
    optimizer = steepest.Adafactor(params, **SWITCHES[executor])
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert params[-1].isfinite().all()
    assert params[-1].ne(0).all()


MESSAGES = [
    ({"lr": -0.5}, "Learning rate should be >= 0 but is: -0.5"),
    ({"beta2_decay": 0.8}, "beta2_decay should be <= 0 but is: 0.8"),
    ({"eps": (-1e-30, 1e-3)}, "epsilon1 should be >= 0 but is: -1e-30"),
    ({"eps": (None, -1.0)}, "epsilon2 should be >= 0 but is: -1.0"),
    ({"d": 0.0}, "Clipping threshold d should be >= 1 but is: 0.0"),
    ({"weight_decay": -1.0}, "weight_decay should be >= 0 but is: -1.0"),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES, ids=[m for _, m in MESSAGES])
def test_errors_are_torchs(options: dict[str, Any], message: str) -> None:
    for cls in (torch.optim.Adafactor, steepest.Adafactor):
        with pytest.raises(ValueError, match=f"^{message}"):
            cls([torch.zeros(2)], **options)


def test_a_complex_parameter_is_refused_in_every_way() -> None:
    p = torch.zeros(2, 2, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=r"^Adafactor does not support complex parameters"):
        stepped(p, [torch.ones(2, 2)])
    init, step = pair(steepest.Adafactor)
    with pytest.raises(RuntimeError, match=r"^Adafactor does not support complex parameters"):
        step({"p": p}, {"p": p}, init({"p": p}))


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("shape", [(2, 3), (4,)], ids=str)
def test_a_step_is_differentiable(shape: tuple[int, ...]) -> None:
    """In the rate, the decay, where it starts and the gradients; of matrices too."""
    source = torch.Generator().manual_seed(2)
    inputs = [torch.randn(shape, generator=source).add(2).requires_grad_() for _ in range(3)]
    rate, decay = (torch.tensor(x, requires_grad=True) for x in (0.05, 0.3))

    def two_steps(start: Tensor, *numbers: Tensor) -> Tensor:
        lr, weight_decay, *grads = numbers
        p = start.clone()
        optimizer = steepest.Adafactor([p], lr=lr, weight_decay=weight_decay, differentiable=True)
        for g in grads:
            p.grad = g
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(two_steps, (inputs[0], rate, decay, *inputs[1:]))
