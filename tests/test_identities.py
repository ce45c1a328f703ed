"""What must be equal by mathematics, whatever the code says. float64; 1e-11 of the largest element unless said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import (
    PLANNED,
    SWITCHES,
    Options,
    decaying,
    every_executor,
    every_planned_class,
    every_separate_class,
    parameters,
)
from oracles import problem
from steepest import Optimizer

STEPS = 12
SHAPES = [(3, 4), (5,), ()]
Gradient = Callable[[list[Tensor]], Sequence[Tensor]]


def fixed(grads: list[list[Any]]) -> list[list[Tensor]]:
    return [[torch.as_tensor(g).reshape(s) for g, s in zip(of_step, SHAPES, strict=True)] for of_step in grads]


def start_and_gradients(seed: int = 1) -> tuple[list[Any], list[list[Tensor]]]:
    theta0, grads = problem(seed, SHAPES, STEPS)
    return theta0, [[g + 0.01 for g in of_step] for of_step in fixed(grads)]


def path(cls: type[Optimizer], grads: list[list[Tensor]], theta0: Any = None, **options: Any) -> list[Tensor]:
    """Where the parameters are after the given gradients."""
    rates = options.pop("rates", None)
    params = parameters(problem(1, SHAPES, 1)[0] if theta0 is None else theta0)
    optimizer = cls(params, **options)
    for k, of_step in enumerate(grads):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[k]
        for p, g in zip(params, of_step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach() for p in params]


def assert_near(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-11) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, b.abs().max().item()))


def differ(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return any((a - b).abs().max() > 1e-3 for a, b in zip(ours, theirs, strict=True))


every_switch = pytest.mark.parametrize("switch", SWITCHES.values(), ids=list(SWITCHES))


@every_switch
def test_nesterov_and_momentum_of_zero_are_plain_descent(switch: Options) -> None:
    _, grads = start_and_gradients()
    plain = path(steepest.SGD, grads, lr=0.1, **switch)
    for cls in (steepest.NAG, steepest.Momentum):
        assert_near(path(cls, grads, lr=0.1, momentum=0.0, **switch), plain)
    tiny = path(steepest.SGD, grads, lr=0.1, momentum=1e-300, nesterov=True, **switch)
    assert_near(tiny, plain)


@every_switch
def test_classical_momentum_is_sgds_at_a_constant_rate(switch: Options) -> None:
    _, grads = start_and_gradients()
    for cls, nesterov in ((steepest.Momentum, False), (steepest.NAG, True)):
        ours = path(cls, grads, lr=0.05, momentum=0.9, weight_decay=0.1, **switch)
        assert_near(ours, path(steepest.SGD, grads, lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=0.1))


@every_switch
def test_after_a_change_of_rate_they_differ_as_derived(switch: Options) -> None:
    """SGD's buffer b = v / lr is scaled by the new rate; the classical v is not. Changing lr from a to c after k steps,
    the next step of SGD is c (mu b + g) and of Momentum mu v + c g = mu a b + c g: they differ by mu (c - a) b.
    """
    _, grads = start_and_gradients()
    k, a, c, mu = 4, 0.05, 0.02, 0.9
    rates = [a] * k + [c]
    b = [torch.zeros(s, dtype=torch.float64) for s in SHAPES]
    for of_step in grads[:k]:
        b = [mu * x + g for x, g in zip(b, of_step, strict=True)]
    classical = path(steepest.Momentum, grads[: k + 1], rates=rates, lr=a, momentum=mu, **switch)
    outside = path(steepest.SGD, grads[: k + 1], rates=rates, lr=a, momentum=mu, **switch)
    assert_near([x - y for x, y in zip(classical, outside, strict=True)], [mu * (c - a) * x for x in b])
    assert differ(classical, outside)


@every_switch
def test_nag_rewritten_is_lookahead_at_the_point_ahead(switch: Options) -> None:
    """theta - mu v of the look-ahead form is the rewritten form's theta, at every step of a smooth function."""
    mu, lr = 0.8, 0.03
    start = problem(2, [(6,)], 1)[0]
    scale = torch.linspace(0.3, 4.0, 6, dtype=torch.float64)

    def loss(p: Tensor) -> Tensor:
        return (scale * p**2).sum() + torch.log(torch.cosh(p)).sum()

    (rewritten,), (ahead,) = parameters(start), parameters(start)
    first = steepest.NAG([rewritten], lr=lr, momentum=mu, **switch)
    second = steepest.NAG([ahead], lr=lr, momentum=mu, true_lookahead=True)
    for _ in range(20):
        for optimizer, p in ((first, rewritten), (second, ahead)):
            optimizer.step(closure(optimizer, p, loss))
        point_ahead = ahead - mu * second.state[ahead]["momentum_buffer"]
        torch.testing.assert_close(rewritten.detach(), point_ahead.detach(), rtol=1e-11, atol=1e-12)
    assert not torch.allclose(rewritten, ahead, atol=1e-6)


def closure(optimizer: torch.optim.Optimizer, p: Tensor, loss: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = loss(p)
        value.backward()
        return value

    return evaluate


@every_switch
def test_adamw_without_decay_is_adam(switch: Options) -> None:
    _, grads = start_and_gradients()
    plain = path(steepest.Adam, grads, lr=0.05, **switch)
    assert_near(path(steepest.AdamW, grads, lr=0.05, weight_decay=0, **switch), plain, 0.0)
    decayed = path(steepest.AdamW, grads, lr=0.05, weight_decay=0.1, **switch)
    same = path(steepest.Adam, grads, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True, **switch)
    assert_near(same, decayed, 0.0)
    assert differ(decayed, plain)


@every_switch
def test_amsgrad_is_adam_while_gradients_grow(switch: Options) -> None:
    _, grads = start_and_gradients()
    growing = [[2.0**k * g for g in grads[0]] for k in range(STEPS)]
    adam = path(steepest.Adam, growing, lr=0.05, **switch)
    assert_near(path(steepest.Adam, growing, lr=0.05, amsgrad=True, **switch), adam)
    falling = growing[::-1]
    assert differ(
        path(steepest.Adam, falling, lr=0.05, betas=(0.9, 0.5), **switch),
        path(steepest.Adam, falling, lr=0.05, betas=(0.9, 0.5), amsgrad=True, **switch),
    )


SCALE_FREE: dict[str, tuple[type[Optimizer], Options]] = {
    "Adam": (steepest.Adam, {"eps": 0.0}),
    "AMSGrad": (steepest.Adam, {"eps": 0.0, "amsgrad": True}),
    "AdamW": (steepest.AdamW, {"eps": 0.0, "weight_decay": 0.1}),
    "Adamax": (steepest.Adamax, {"eps": 0.0}),
    "NAdam": (steepest.NAdam, {"eps": 0.0}),
    "RMSprop": (steepest.RMSprop, {"eps": 0.0}),
    "RMSprop-momentum": (steepest.RMSprop, {"eps": 0.0, "momentum": 0.9}),
    "Adagrad": (steepest.Adagrad, {"eps": 0.0}),
    "NovoGrad": (steepest.NovoGrad, {"eps": 0.0}),
}


@every_switch
@pytest.mark.parametrize(("cls", "options"), SCALE_FREE.values(), ids=list(SCALE_FREE))
def test_without_eps_the_size_of_the_gradients_does_not_matter(
    cls: type[Optimizer], options: Options, switch: Options
) -> None:
    """Scaling by 3 (not a power of two, so every rounding changes)."""
    _, grads = start_and_gradients()
    scaled = [[3.0 * g for g in of_step] for of_step in grads]
    assert_near(path(cls, scaled, **options, **switch), path(cls, grads, **options, **switch))


@every_switch
def test_novograd_scales_every_tensor_by_itself(switch: Options) -> None:
    _, grads = start_and_gradients()
    scaled = [[(10.0**i) * g for i, g in enumerate(of_step)] for of_step in grads]
    options: Options = {"eps": 0.0, **switch}
    assert_near(path(steepest.NovoGrad, scaled, **options), path(steepest.NovoGrad, grads, **options))


@every_switch
def test_adadelta_has_the_units_of_its_parameter(switch: Options) -> None:
    """Its step is a ratio of root mean squares times g: with eps negligible beside g^2 the size of g cancels, and only
    sqrt(eps), where d starts, sets the scale: eps -> 49 eps makes every step 7 times longer.
    """
    _, grads = start_and_gradients()
    zero = [torch.zeros(s, dtype=torch.float64) for s in SHAPES]
    grads = [[g.sign() + g for g in of_step] for of_step in grads]
    step = path(steepest.Adadelta, grads, zero, eps=1e-30, **switch)
    smaller = [[g / 7.0 for g in of_step] for of_step in grads]
    longer = path(steepest.Adadelta, grads, zero, eps=49e-30, **switch)
    for p, q, r in zip(step, path(steepest.Adadelta, smaller, zero, eps=1e-30, **switch), longer, strict=True):
        torch.testing.assert_close(q, p, rtol=1e-11, atol=0.0)
        torch.testing.assert_close(r, 7.0 * p, rtol=1e-11, atol=0.0)


@every_switch
def test_radam_begins_as_momentum_without_its_warm_up_bias(switch: Options) -> None:
    """While rho <= 5 (the first five steps at beta2 = 0.999) its step is lr mhat: Adam's first average alone."""
    _, grads = start_and_gradients()
    start = problem(1, SHAPES, 1)[0]
    beta, lr = 0.9, 0.05
    wanted = [torch.as_tensor(p).clone() for p in start]
    m = [torch.zeros_like(p) for p in wanted]
    for t, of_step in enumerate(grads[:5], start=1):
        m = [beta * x + (1 - beta) * g for x, g in zip(m, of_step, strict=True)]
        wanted = [p - lr * x / (1 - beta**t) for p, x in zip(wanted, m, strict=True)]
    assert_near(path(steepest.RAdam, grads[:5], lr=lr, **switch), wanted)
    m = [beta * x + (1 - beta) * g for x, g in zip(m, grads[5], strict=True)]
    wanted = [p - lr * x / (1 - beta**6) for p, x in zip(wanted, m, strict=True)]
    assert differ(path(steepest.RAdam, grads[:6], lr=lr, **switch), wanted)


@every_switch
def test_radam_becomes_adam(switch: Options) -> None:
    """The rectification tends to 1: after 100 steps at beta2 = 0.8 its next step is Adam's within 1e-6."""
    torch_grads = [[torch.full(s, 0.5, dtype=torch.float64) for s in SHAPES]] * 100
    options: Options = {"lr": 1e-3, "betas": (0.9, 0.8), "eps": 0.0, **switch}
    radam, adam = (
        [a - b for a, b in zip(path(cls, torch_grads, **options), path(cls, torch_grads[:-1], **options), strict=True)]
        for cls in (steepest.RAdam, steepest.Adam)
    )
    for a, b in zip(radam, adam, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0.0)


@pytest.mark.thin("structure", "executor")
@every_planned_class
@every_executor
def test_maximizing_is_minimizing_the_negative(cls: type[Optimizer], executor: str) -> None:
    _, grads = start_and_gradients()
    negative = [[-g for g in of_step] for of_step in grads]
    for decay in (0.0, 0.1):
        options: Options = {**decaying(cls, decay), **SWITCHES[executor]}
        assert_near(path(cls, grads, maximize=True, **options), path(cls, negative, **options), 0.0)


def couples(cls: type[Optimizer]) -> bool:
    """Whether weight decay joins the gradient (it may be decoupled, or the rule's own, or there is none)."""
    if "weight_decay" not in cls.fields:
        return False
    return "weight_decay" not in cls.rule.names and not cls.fields.get("decoupled_weight_decay", cls.fields["lr"]).fixed


def decouples(cls: type[Optimizer]) -> bool:
    """Whether weight decay may be taken out of the gradient, or is by default."""
    return "decoupled_weight_decay" in cls.fields


@pytest.mark.parametrize("cls", [c for c in PLANNED.values() if couples(c)], ids=lambda c: c.__name__)
@every_executor
def test_coupled_decay_is_a_penalty_in_the_loss(cls: type[Optimizer], executor: str) -> None:
    """lambda/2 |theta|^2 added to the loss."""
    options: Options = {"weight_decay": 0.1, **({"decoupled_weight_decay": False} if decouples(cls) else {})}
    target = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)
    (p,), (q,) = parameters(problem(2, [(6,)], 1)[0]), parameters(problem(2, [(6,)], 1)[0])
    first = cls([p], **options, **SWITCHES[executor])
    second = cls([q], **SWITCHES[executor])
    for _ in range(STEPS):
        first.step(closure(first, p, lambda x: ((x - target) ** 4).sum()))
        second.step(closure(second, q, lambda x: ((x - target) ** 4).sum() + 0.1 / 2 * (x * x).sum()))
    torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)


def keeps_the_start(cls: type[Optimizer]) -> bool:
    """Whether the parameter of the first step is state, if there is momentum."""
    return "momentum" in cls.fields and any(state.init == "param" for state in cls.rule.state)


DECOUPLED = [c for c in PLANNED.values() if decouples(c)]


@pytest.mark.parametrize("cls", DECOUPLED, ids=lambda c: c.__name__)
@every_executor
def test_decoupled_decay_shrinks_before_the_step(cls: type[Optimizer], executor: str) -> None:
    """One step from theta with decay is one step from theta (1 - lr lambda) without: the moments never see it.

    A step of rate 0 comes before it, because some rules only fill their state at the first step and do not decay.
    MADGRAD keeps where it started, unless it has no momentum: the start does not decay.
    """
    theta0, grads = start_and_gradients()
    rates = [0.0, 0.05]
    flag = {} if cls.fields["decoupled_weight_decay"].fixed else {"decoupled_weight_decay": True}
    options: Options = {**SWITCHES[executor], **({"momentum": 0.0} if keeps_the_start(cls) else {})}
    ours = path(cls, grads[:2], theta0, rates=rates, weight_decay=0.3, **flag, **options)
    shrunk = [p * (1 - 0.05 * 0.3) for p in theta0]
    assert_near(ours, path(cls, grads[:2], shrunk, rates=rates, weight_decay=0, **options))


def has_rate(cls: type[Optimizer]) -> bool:
    """Whether lr scales the steps: it may be where state starts, and no more."""
    return "lr" in cls.rule.names


@pytest.mark.parametrize("cls", [c for c in PLANNED.values() if has_rate(c)], ids=lambda c: c.__name__)
@every_executor
def test_a_rate_of_zero_moves_nothing(cls: type[Optimizer], executor: str) -> None:
    theta0, grads = start_and_gradients()
    stayed = path(cls, grads, theta0, lr=0.0, **decaying(cls), **SWITCHES[executor])
    assert all(torch.equal(p, torch.as_tensor(q)) for p, q in zip(stayed, theta0, strict=True))


@pytest.mark.thin("structure", "executor")
@every_separate_class
@every_executor
def test_tensors_of_a_list_do_not_meet(cls: type[Optimizer], executor: str) -> None:
    """The order of the parameters does not matter, and neither does company."""
    theta0, grads = start_and_gradients()
    together = path(cls, grads, theta0, **SWITCHES[executor])
    for i, shape in enumerate(SHAPES):
        (p,) = parameters([theta0[i]])
        optimizer = cls([p], **SWITCHES[executor])
        for of_step in grads:
            p.grad = of_step[i].reshape(shape).clone()
            optimizer.step()
        assert torch.equal(p, together[i])


@pytest.mark.parametrize("cls", [c for c in PLANNED.values() if c.rule.kind == "pointwise"], ids=lambda c: c.__name__)
@every_executor
def test_pointwise_rules_do_not_know_shapes(cls: type[Optimizer], executor: str) -> None:
    """One matrix is its elements, each a parameter of its own. 1e-14: vector code may fuse a multiply and an add."""
    theta0, grads = start_and_gradients()
    (whole,), pieces = parameters(theta0[:1]), parameters(list(theta0[0].reshape(-1)))
    options: Options = {**decaying(cls), **SWITCHES[executor]}
    first, second = cls([whole], **options), cls(pieces, **options)
    for of_step in grads:
        whole.grad = of_step[0].clone()
        for p, g in zip(pieces, of_step[0].reshape(-1), strict=True):
            p.grad = g.clone()
        first.step()
        second.step()
    torch.testing.assert_close(whole.detach().reshape(-1), torch.stack(pieces).detach(), rtol=1e-14, atol=1e-14)


def test_the_three_nadams_at_their_limits() -> None:
    """With beta1 = 0 there is no momentum, and all three are RMSprop with bias correction: Adam with beta1 = 0."""
    _, grads = start_and_gradients()
    adam = path(steepest.Adam, grads, lr=0.05, betas=(0.0, 0.9))
    for schedule in steepest.NAdam.fields["momentum_schedule"].choices:
        assert_near(path(steepest.NAdam, grads, lr=0.05, betas=(0.0, 0.9), momentum_schedule=schedule), adam)


def test_adagrads_first_step_is_signs() -> None:
    theta0, grads = start_and_gradients()
    moved = path(steepest.Adagrad, grads[:1], theta0, lr=0.05, eps=0.0)
    wanted = [torch.as_tensor(p) - 0.05 * g.sign() for p, g in zip(theta0, grads[0], strict=True)]
    assert_near(moved, wanted)


def test_where_eps_stands_does_not_matter_without_one() -> None:
    _, grads = start_and_gradients()
    for cls in PLANNED.values():
        if "eps_in_sqrt" in cls.fields:
            inside, outside = (path(cls, grads, eps=0.0, eps_in_sqrt=flag) for flag in (True, False))
            assert_near(inside, outside, 0.0)
