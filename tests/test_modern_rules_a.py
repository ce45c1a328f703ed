"""Pointwise rules since 2018: identities, lengths of first steps, and traps in which other implementations are caught.

A test of a trap says what the trap would give, and that this library does not give it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import steepest
from cases import CLASSES, SWITCHES, Options, executors_of, parameters, snapshot, through_file
from oracles.long_memory import half_life_between
from steepest import Optimizer
from test_identities import assert_near, differ, every_switch, path, start_and_gradients

RULES: list[type[Optimizer]] = [
    *(steepest.Lion, steepest.Signum, steepest.AdEMAMix, steepest.SimplifiedAdEMAMix, steepest.ADOPT, steepest.Adan),
    *(steepest.AdamAtan2, steepest.LaProp, steepest.AdaBelief, steepest.QHM, steepest.QHAdam, steepest.AggMo),
    steepest.Yogi,
]
every_rule = pytest.mark.parametrize("cls", RULES, ids=lambda cls: cls.__name__)
every_way = pytest.mark.parametrize("executor", executors_of(steepest.Lion))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def steps(cls: type[Optimizer], grads: list[Tensor], p: Tensor | None = None, **options: Any) -> list[Tensor]:
    """The parameter after each step, from 0 unless told."""
    start = torch.nn.Parameter(torch.zeros_like(grads[0]) if p is None else p.clone())
    return run(cls([start], **options), start, grads)


def run(optimizer: Optimizer, p: torch.nn.Parameter, grads: list[Tensor]) -> list[Tensor]:
    seen = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        seen.append(p.detach().clone())
    return seen


def state_after(cls: type[Optimizer], grads: list[Tensor], **options: Any) -> dict[str, Any]:
    p = torch.nn.Parameter(torch.zeros_like(grads[0]))
    optimizer = cls([p], **options)
    run(optimizer, p, grads)
    ((_, held),) = snapshot(optimizer)
    return held


# -- identities ------------------------------------------------------------------------------------------------------

SAME: dict[str, tuple[type[Optimizer], Options, type[Optimizer], Options]] = {
    "QHM at nu = beta is Nesterov's form": (
        steepest.QHM,
        {"lr": 0.5, "momentum": 0.9, "nu": 0.9, "weight_decay": 0.1},
        steepest.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "QHM at nu = 1 is momentum": (
        steepest.QHM,
        {"lr": 0.5, "momentum": 0.9, "nu": 1.0},
        steepest.SGD,
        {"lr": 0.05, "momentum": 0.9},
    ),
    "QHM at nu = 0 is descent": (steepest.QHM, {"lr": 0.05, "nu": 0.0}, steepest.SGD, {"lr": 0.05}),
    "QHAdam at nu = 1, 1 is Adam": (
        steepest.QHAdam,
        {"lr": 0.05, "weight_decay": 0.1},
        steepest.Adam,
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "QHAdam at nu = 0, 0 is signs": (
        steepest.QHAdam,
        {"lr": 0.05, "nus": (0.0, 0.0), "eps": 0.0},
        steepest.Signum,
        {"lr": 0.05, "momentum": 0.0},
    ),
    "AggMo of equal betas is momentum": (
        steepest.AggMo,
        {"lr": 0.05, "betas": (0.9, 0.9, 0.9), "weight_decay": 0.1},
        steepest.SGD,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "AdEMAMix at alpha = 0 is AdamW": (
        steepest.AdEMAMix,
        {"lr": 0.05, "alpha": 0.0, "weight_decay": 0.1},
        steepest.AdamW,
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "simplified AdEMAMix without memory is Adam without momentum": (
        steepest.SimplifiedAdEMAMix,
        {"lr": 0.05, "betas": (0.0, 0.95)},
        steepest.Adam,
        {"lr": 0.05, "betas": (0.0, 0.95)},
    ),
    "LaProp without momentum is Adam without momentum": (
        steepest.LaProp,
        {"lr": 0.05, "betas": (0.0, 0.999), "eps": 1e-8},
        steepest.Adam,
        {"lr": 0.05, "betas": (0.0, 0.999)},
    ),
    "Lion at beta1 = beta2 is Signum": (
        steepest.Lion,
        {"lr": 0.05, "betas": (0.9, 0.9), "weight_decay": 0.1},
        steepest.Signum,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "Lion at beta1 = 0 is sign descent": (
        steepest.Lion,
        {"lr": 0.05, "betas": (0.0, 0.99)},
        steepest.Signum,
        {"lr": 0.05, "momentum": 0.0},
    ),
    "Adam-atan2 of small angles is Adam": (
        steepest.AdamAtan2,
        {"lr": 0.05, "a": 1e7, "b": 1e7, "weight_decay": 0.1},
        steepest.AdamW,
        {"lr": 0.05, "betas": (0.9, 0.99), "eps": 0.0, "weight_decay": 0.1},
    ),
}


@every_switch
@pytest.mark.parametrize(("ours", "mine", "theirs", "their_options"), SAME.values(), ids=list(SAME))
def test_one_rule_is_another(
    ours: type[Optimizer], mine: Options, theirs: type[Optimizer], their_options: Options, switch: Options
) -> None:
    _, grads = start_and_gradients()
    assert_near(path(ours, grads, **mine, **switch), path(theirs, grads, **their_options, **switch))


SCALE_FREE: dict[str, tuple[type[Optimizer], Options]] = {
    "Lion": (steepest.Lion, {"weight_decay": 0.1}),
    "Signum": (steepest.Signum, {"nesterov": True}),
    "AdamAtan2": (steepest.AdamAtan2, {"weight_decay": 0.1}),
    "ADOPT": (steepest.ADOPT, {"eps": 0.0}),
    "Adan": (steepest.Adan, {"eps": 0.0}),
    "AdEMAMix": (steepest.AdEMAMix, {"eps": 0.0}),
    "SimplifiedAdEMAMix": (steepest.SimplifiedAdEMAMix, {"eps": 0.0}),
    "LaProp": (steepest.LaProp, {"eps": 0.0}),
    "QHAdam": (steepest.QHAdam, {"eps": 0.0, "nus": (0.7, 0.9)}),
    "Yogi": (steepest.Yogi, {"eps": 0.0, "initial_accumulator_value": 0.0}),
    "AdaBelief": (steepest.AdaBelief, {"eps": 0.0, "rectify": False}),
}


@every_switch
@pytest.mark.parametrize(("cls", "options"), SCALE_FREE.values(), ids=list(SCALE_FREE))
def test_the_size_of_the_gradients_does_not_matter(cls: type[Optimizer], options: Options, switch: Options) -> None:
    """Scaling by 3, which changes every rounding; 8 changes none, so that Lion and Signum stay on their side of 0."""
    _, grads = start_and_gradients()
    usual = path(cls, grads, lr=0.05, **options, **switch)
    for factor, tolerance in ((3.0, 1e-10), (8.0, 0.0 if cls is not steepest.AdamAtan2 else 1e-14)):
        scaled = [[factor * g for g in of_step] for of_step in grads]
        assert_near(path(cls, scaled, lr=0.05, **options, **switch), usual, tolerance)


FIRST_STEPS: dict[str, tuple[type[Optimizer], Options, float]] = {
    "Lion": (steepest.Lion, {}, 1.0),
    "Signum": (steepest.Signum, {}, 1.0),
    "SignSGD": (steepest.Signum, {"momentum": 0.0}, 1.0),
    "AdEMAMix": (steepest.AdEMAMix, {}, 1.0 + 5.0 * 1e-4),
    "AdEMAMix, warming up": (steepest.AdEMAMix, {"total_steps": 10**6}, 1.0),
    "SimplifiedAdEMAMix": (steepest.SimplifiedAdEMAMix, {"alpha": 3.0}, 4.0),
    "ADOPT": (steepest.ADOPT, {}, 0.0),
    "Adan": (steepest.Adan, {}, 1.0),
    "AdamAtan2": (steepest.AdamAtan2, {}, 1.27 * math.pi / 4),
    "LaProp": (steepest.LaProp, {}, 1.0),
    "AdaBelief": (steepest.AdaBelief, {"rectify": False}, 1.0 / 0.9),
    "QHAdam": (steepest.QHAdam, {"nus": (0.7, 0.9)}, 1.0),
}


@every_way
@pytest.mark.parametrize(("cls", "options", "length"), FIRST_STEPS.values(), ids=list(FIRST_STEPS))
def test_the_length_of_the_first_step(cls: type[Optimizer], options: Options, length: float, executor: str) -> None:
    """In units of lr, against the gradient; 1e-5 for eps, and for half-lives near the fast average's."""
    (p,) = steps(cls, [numbers(3.0, -0.25, 700.0)], lr=0.5, **options, **SWITCHES[executor])
    torch.testing.assert_close(p, numbers(-0.5, 0.5, -0.5) * length, rtol=1e-5, atol=0.0)


@every_way
def test_rectified_adabelief_begins_with_the_gradient_itself(executor: str) -> None:
    g = numbers(3.0, -0.25)
    (p,) = steps(steepest.AdaBelief, [g], lr=0.5, **SWITCHES[executor])
    torch.testing.assert_close(p, -0.5 * g, rtol=1e-12, atol=0.0)


# -- signs -----------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (steepest.Lion, {}),
        (steepest.Signum, {}),
        (steepest.Signum, {"nesterov": True}),
        (steepest.Signum, {"momentum": 0}),
    ],
    ids=str,
)
def test_without_any_gradient_signs_move_nothing(cls: type[Optimizer], options: Options, executor: str) -> None:
    """Zeros of both signs; after a gradient its memory moves on."""
    zero = numbers(0.0, -0.0)
    (p,) = steps(cls, [zero], numbers(1.0, -2.0), **options, **SWITCHES[executor])
    assert p.tolist() == [1.0, -2.0]
    first, second = steps(cls, [numbers(1.0, -1.0), zero], lr=0.5, **options, **SWITCHES[executor])
    assert first.tolist() == [-0.5, 0.5]
    remembers = options.get("momentum") != 0
    assert second.tolist() == ([-1.0, 1.0] if remembers else [-0.5, 0.5])


def test_sign_descent_keeps_no_state() -> None:
    assert state_after(steepest.Signum, [numbers(1.0)], momentum=0) == {}
    assert list(state_after(steepest.Signum, [numbers(1.0)])) == ["momentum_buffer"]


@every_way
def test_lion_looks_at_the_momentum_from_before_the_step(executor: str) -> None:
    """At beta1 = 0.5 and beta2 = 0.1 the average of the second step points with the new g, and the direction still with
    the old m: 0.5 * 0.9 - 0.5 * 0.8 > 0, but of the new m it would be 0.5 * (0.09 - 0.72) - 0.4 < 0.
    """
    seen = steps(steepest.Lion, [numbers(1.0), numbers(-0.8)], lr=1.0, betas=(0.5, 0.1), **SWITCHES[executor])
    assert [p.item() for p in seen] == [-1.0, -2.0]


def test_signum_starts_at_zero_and_not_at_the_weights() -> None:
    """From a copy of the weights, as one benchmark has it, the first step would go along their sign."""
    (p,) = steps(steepest.Signum, [numbers(-1.0)], numbers(1000.0), lr=1.0)
    assert p.item() == 1001.0


# -- AdEMAMix --------------------------------------------------------------------------------------------------------


@every_way
def test_the_schedules_of_ademamix_end_and_stay(executor: str) -> None:
    """Beyond the last of the steps the rule is that without a schedule: one state goes on as both."""
    grads = [numbers(1.0 + 0.1 * k, -2.0 + 0.3 * k) for k in range(8)]
    options: Options = {"lr": 0.1, "betas": (0.9, 0.99, 0.999), **SWITCHES[executor]}
    warm, plain = (torch.nn.Parameter(numbers(0.0, 0.0)) for _ in range(2))
    warming = steepest.AdEMAMix([warm], total_steps=4, **options)
    without = steepest.AdEMAMix([plain], **options)
    run(warming, warm, grads[:4])
    assert differ([warm.detach()], steps(steepest.AdEMAMix, grads[:4], **options)[-1:])
    plain.data.copy_(warm.data)
    without.load_state_dict({**without.state_dict(), "state": warming.state_dict()["state"]})
    assert all(map(torch.equal, run(warming, warm, grads[4:]), run(without, plain, grads[4:])))


@every_way
def test_half_lives_grow_linearly(executor: str) -> None:
    """One gradient at step 1, then none: what the slow average keeps at each step is the rate of that step."""
    start, end, total = 0.5, 0.999, 5
    p = torch.nn.Parameter(numbers(0.0))
    optimizer = steepest.AdEMAMix([p], betas=(start, 0.9, end), total_steps=total, **SWITCHES[executor])
    kept = []
    for step in range(1, 8):
        before = optimizer.state[p]["exp_avg_slow"].item() if step > 1 else 0.0
        run(optimizer, p, [numbers(1.0 if step == 1 else 0.0)])
        after = optimizer.state[p]["exp_avg_slow"].item()
        kept.append(1.0 - after if step == 1 else after / before)
    lives = [math.log(0.5) / math.log(rate) for rate in kept]
    ends = [math.log(0.5) / math.log(rate) for rate in (start, end)]
    wanted = [ends[0] + (ends[1] - ends[0]) * min(step / total, 1.0) for step in range(1, 8)]
    np.testing.assert_allclose(lives, wanted, rtol=1e-9)


@every_way
def test_a_schedule_from_a_rate_of_zero(executor: str) -> None:
    """Others take the logarithm of 0 here, or put 1e-8 into every logarithm. The fast average is g, and not kept."""
    grads = [numbers(1.0 + 0.1 * k, -2.0 + 0.3 * k) for k in range(6)]
    for end in (0.99, 0.0):
        slow = numbers(0.0, 0.0)
        for step, g in enumerate(grads, start=1):
            rate = half_life_between(step / 5, 0.0, end)
            assert rate == pytest.approx(end ** (5 / step) if step < 5 else end, rel=1e-12)
            slow = rate * slow + (1 - rate) * g
        options: Options = {"betas": (0.0, 0.0, end), "eps": 0.0, "total_steps": 5, **SWITCHES[executor]}
        held = state_after(steepest.AdEMAMix, grads, **options)
        assert "exp_avg_fast" not in held
        torch.testing.assert_close(held["exp_avg_slow"], slow, rtol=1e-12, atol=0.0)


def test_a_resumed_schedule_continues() -> None:
    """If the step count were lost, alpha and beta3 would start again."""
    grads = [numbers(1.0 + 0.1 * k) for k in range(10)]
    whole = steps(steepest.AdEMAMix, grads, lr=0.1, total_steps=8)
    first, second = torch.nn.Parameter(numbers(0.0)), torch.nn.Parameter(numbers(0.0))
    begun = steepest.AdEMAMix([first], lr=0.1, total_steps=8)
    run(begun, first, grads[:5])
    second.data.copy_(first.data)
    resumed = steepest.AdEMAMix([second], lr=0.1, total_steps=8)
    resumed.load_state_dict(through_file(begun.state_dict()))
    assert torch.equal(run(resumed, second, grads[5:])[-1], whole[-1])
    begun.state[first]["step"] = torch.tensor(0.0)
    assert not torch.equal(run(begun, first, grads[5:])[-1], whole[-1])


def test_the_slow_average_is_not_corrected() -> None:
    """Its part of the first step is alpha (1 - beta3) g; corrected it would be alpha g, five times Adam's step."""
    (p,) = steps(steepest.AdEMAMix, [numbers(2.0)], lr=1.0, eps=0.0)
    assert p.item() == pytest.approx(-(1 + 5 * (1 - 0.9999)), rel=1e-12)


def test_simplified_ademamix_keeps_a_sum() -> None:
    """Of constant gradients the sum tends to 1 / (1 - beta1); an average would tend to 1."""
    p, q = steps(steepest.SimplifiedAdEMAMix, [numbers(1.0)] * 600, lr=1.0, betas=(0.95, 0.9))[-2:]
    assert (p - q).item() == pytest.approx(20.0, rel=1e-6)


# -- ADOPT -----------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("options", [{}, {"decoupled_weight_decay": True}], ids=str)
def test_adopts_first_step_fills_v_and_no_more(options: Options, executor: str) -> None:
    """Others decay at it. With coupled decay v has the penalty's gradient too."""
    theta, g = numbers(1.0, -2.0), numbers(0.5, 4.0)
    p = torch.nn.Parameter(theta.clone())
    optimizer = steepest.ADOPT([p], lr=0.5, weight_decay=0.25, **options, **SWITCHES[executor])
    run(optimizer, p, [g])
    assert torch.equal(p, theta)
    held = optimizer.state[p]
    assert held["exp_avg"].tolist() == [0.0, 0.0]
    seen = g if options else g + 0.25 * theta
    assert torch.equal(held["exp_avg_sq"], seen * seen)
    (moved,) = run(optimizer, p, [torch.zeros_like(g)])
    factor = 1.0 - 0.5 * 0.25
    assert torch.equal(moved, factor * theta) if options else not torch.equal(moved, theta)


@every_way
def test_adopt_clips_at_a_power_of_the_steps_before(executor: str) -> None:
    """Step t is clipped at (t - 1)^(1/4): 1, 2^(1/4), ...; counted from t it would be 2^(1/4) at once."""
    grads = [numbers(1e-3)] + [numbers(1e3 * 100.0**k) for k in range(3)]
    options: Options = {"lr": 1.0, "betas": (0.0, 0.9), **SWITCHES[executor]}
    lengths = [(a - b).item() for a, b in pairwise(steps(steepest.ADOPT, grads, **options))]
    np.testing.assert_allclose(lengths, [1.0, 2**0.25, 3**0.25], rtol=1e-12)
    unclipped = steps(steepest.ADOPT, grads[:2], clip_exp=None, **options)
    assert unclipped[-1].item() == pytest.approx(-1e6, rel=1e-12)


def test_adopt_bounds_the_root_by_eps() -> None:
    """max(sqrt(v), eps) is eps where v is 0; sqrt(v) + eps would halve the step where they are equal."""
    for first, length in ((0.0, 0.5), (1e-6, 0.5)):
        seen = steps(steepest.ADOPT, [numbers(first), numbers(0.5e-6)], lr=1.0, betas=(0.0, 0.9), eps=1e-6)
        assert seen[-1].item() == pytest.approx(-length, rel=1e-9)


# -- Adan ------------------------------------------------------------------------------------------------------------


@every_way
def test_adan_copies_the_last_gradient(executor: str) -> None:
    """`zero_grad(set_to_none=False)` and a backward pass write into the same memory. An alias of it would make every
    difference 0, and the rule one without its second average.
    """
    grads = [numbers(1.0, -3.0), numbers(0.5, 2.0), numbers(-4.0, 1.0)]
    fresh = steps(steepest.Adan, grads, lr=0.1, **SWITCHES[executor])
    p = torch.nn.Parameter(numbers(0.0, 0.0))
    p.grad = torch.zeros_like(p)
    optimizer = steepest.Adan([p], lr=0.1, **SWITCHES[executor])
    for g, wanted in zip(grads, fresh, strict=True):
        optimizer.zero_grad(set_to_none=False)
        p.grad.add_(g)
        optimizer.step()
        assert torch.equal(p, wanted)
        assert torch.equal(optimizer.state[p]["neg_pre_grad"], -g)
    assert optimizer.state[p]["neg_pre_grad"].data_ptr() != p.grad.data_ptr()
    assert differ(fresh[-1:], [aliased_adan(grads, 0.1)])


def aliased_adan(grads: list[Tensor], lr: float, b1: float = 0.98, b3: float = 0.99) -> Tensor:
    """Adan whose differences are all 0."""
    p, m, n = (torch.zeros_like(grads[0]) for _ in range(3))
    for t, g in enumerate(grads, start=1):
        m, n = b1 * m + (1 - b1) * g, b3 * n + (1 - b3) * g * g
        p = p - lr * m / (1 - b1**t) / ((n / (1 - b3**t)).sqrt() + 1e-8)
    return p


@every_way
def test_adan_weighs_the_difference_by_beta2(executor: str) -> None:
    """Weighed by 1 - beta2, as one library does, it would be another step from the second on."""
    b1, b2, b3, lr = 0.98, 0.92, 0.99, 0.1
    g, h = numbers(1.0), numbers(-0.5)
    first, second = steps(steepest.Adan, [g, h], lr=lr, eps=0.0, **SWITCHES[executor])

    def wanted(weight: float) -> Tensor:
        m, v = b1 * (1 - b1) * g + (1 - b1) * h, (1 - b2) * (h - g)
        n = b3 * (1 - b3) * g * g + (1 - b3) * (h + weight * (h - g)) ** 2
        return (m / (1 - b1**2) + weight * v / (1 - b2**2)) / (n / (1 - b3**2)).sqrt()

    torch.testing.assert_close(second, first - lr * wanted(b2), rtol=1e-12, atol=0.0)
    assert differ([second], [first - lr * wanted(1 - b2)])


def test_adan_of_constant_gradients_does_not_know_beta2() -> None:
    grads = [numbers(1.0, -2.0)] * 6
    one, other = (steps(steepest.Adan, grads, betas=(0.98, b2, 0.99), lr=0.1)[-1] for b2 in (0.92, 0.3))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0.0)


@every_way
def test_adans_two_decays(executor: str) -> None:
    """Proximal: the whole new point is divided. Else the old one shrinks."""
    theta, g = numbers(3.0), numbers(0.5)
    proximal, decoupled = (
        steps(steepest.Adan, [g], theta, lr=0.5, eps=0.0, weight_decay=0.2, prox=prox, **SWITCHES[executor])[0].item()
        for prox in (True, False)
    )
    assert proximal == pytest.approx((3.0 - 0.5) / 1.1, rel=1e-12)
    assert decoupled == pytest.approx(3.0 * 0.9 - 0.5, rel=1e-12)


# -- the others ------------------------------------------------------------------------------------------------------


@every_way
def test_laprop_under_a_rate_that_starts_at_zero(executor: str) -> None:
    """lr over its average would be 0/0; and the gradients of that time have no weight later."""
    grads = [numbers(1.0, -3.0), numbers(0.5, 2.0), numbers(-4.0, 1.0)]
    p = torch.nn.Parameter(numbers(0.0, 0.0))
    optimizer = steepest.LaProp([p], lr=0.0, **SWITCHES[executor])
    assert [q.tolist() for q in run(optimizer, p, grads[:2])] == [[0.0, 0.0]] * 2
    optimizer.param_groups[0]["lr"] = 0.1
    (moved,) = run(optimizer, p, grads[2:])
    v = sum((1 - 0.999) * 0.999 ** (2 - k) * g * g for k, g in enumerate(grads)) / (1 - 0.999**3)
    torch.testing.assert_close(moved, -0.1 * grads[2] / v.sqrt(), rtol=1e-6, atol=0.0)


@every_way
def test_laprop_has_the_rate_inside_its_momentum(executor: str) -> None:
    """Outside it the steps of a falling rate would be shorter at once; while it is constant both are the same."""
    grads = [numbers(1.0), numbers(1.0)]
    p = torch.nn.Parameter(numbers(0.0))
    optimizer = steepest.LaProp([p], lr=1.0, betas=(0.9, 0.999), **SWITCHES[executor])
    (first,) = run(optimizer, p, grads[:1])
    optimizer.param_groups[0]["lr"] = 0.5
    (second,) = run(optimizer, p, grads[1:])
    m, a = 0.9 * 0.1 * 1.0 + 0.1 * 0.5, 0.9 * 0.1 + 0.1 * 0.5
    torch.testing.assert_close(second - first, numbers(-0.5 * m / a), rtol=1e-6, atol=0.0)
    held = optimizer.state[p]
    assert held["exp_avg"].item() == pytest.approx(m, rel=1e-6)
    assert held["exp_avg_lr_1"].item() == pytest.approx(a, rel=1e-6)


@every_way
def test_adabelief_keeps_the_eps_that_it_adds(executor: str) -> None:
    """Without gradients s is a sum of eps; added once at the division, it would stay 0."""
    held = state_after(steepest.AdaBelief, [numbers(0.0)] * 5, eps=1e-3, **SWITCHES[executor])
    assert held["exp_avg_var"].item() == pytest.approx(1e-3 * sum(0.999**k for k in range(5)), rel=1e-12)


@every_way
def test_adabelief_of_constant_gradients_walks_ever_faster(executor: str) -> None:
    """Adam's steps stay lr; here the residual goes to 0 and eps alone stops the growth."""
    seen = steps(steepest.AdaBelief, [numbers(1.0)] * 60, lr=1.0, rectify=False, betas=(0.5, 0.9), **SWITCHES[executor])
    lengths = [(a - b).item() for a, b in pairwise(seen)]
    assert all(later > earlier for earlier, later in pairwise(lengths))
    assert lengths[-1] > 10 * lengths[0]


@every_way
def test_rectified_adabelief_corrects_s(executor: str) -> None:
    """At the sixth step of beta2 = 0.999 by r mhat / sqrt(s / (1 - b2^6)); without the correction by 13 times that."""
    g, b1, b2, t = numbers(1.0), 0.9, 0.999, 6
    before, after = steps(steepest.AdaBelief, [g] * t, lr=1.0, **SWITCHES[executor])[-2:]
    s = sum((1 - b2) * b2 ** (t - k) * b1 ** (2 * k) for k in range(1, t + 1))
    limit = 2 / (1 - b2) - 1
    rho = limit - 2 * t * b2**t / (1 - b2**t)
    r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    assert rho >= 5
    assert (before - after).item() == pytest.approx(r / math.sqrt(s / (1 - b2**t)), rel=1e-9)
    assert r / math.sqrt(s) > 12 * (before - after).item()


@every_way
def test_yogi_falls_by_no_more_than_the_square(executor: str) -> None:
    """After one large gradient Adam's v falls by a part of itself; Yogi's by a part of the small g²."""
    grads = [numbers(100.0), *[numbers(1.0)] * 10]
    yogi = state_after(steepest.Yogi, grads, **SWITCHES[executor])["exp_avg_sq"].item()
    assert yogi == pytest.approx(1e-6 + 0.001 * 1e4 - 10 * 0.001, rel=1e-12)


def test_yogi_starts_both_averages_at_a_small_number() -> None:
    held = state_after(steepest.Yogi, [numbers(0.0)], betas=(0.0, 0.999))
    assert held["exp_avg"].item() == 0.0
    held = state_after(steepest.Yogi, [numbers(0.0)])
    assert held["exp_avg"].item() == pytest.approx(0.9e-6, rel=1e-12)
    assert held["exp_avg_sq"].item() == 1e-6


@every_way
def test_adam_atan2_needs_no_eps(executor: str) -> None:
    """An element without any gradient stays, and one of 1e-150, whose square is 1e-300, moves as any other."""
    (p,) = steps(steepest.AdamAtan2, [numbers(0.0, 1e-150, -1e150)], lr=1.0, **SWITCHES[executor])
    full = 1.27 * math.pi / 4
    torch.testing.assert_close(p, numbers(0.0, -full, full), rtol=1e-9, atol=0.0)
    options: Options = {"lr": 1.0, "betas": (0.999999, 0.0), **SWITCHES[executor]}
    falling = steps(steepest.AdamAtan2, [numbers(1.0)] * 3 + [numbers(1e-8)], **options)
    longest = max((a - b).item() for a, b in pairwise(falling))
    assert longest == pytest.approx(1.27 * math.pi / 2, rel=1e-6)


def test_aggmo_keeps_a_tensor_for_each_beta() -> None:
    held = state_after(steepest.AggMo, [numbers(1.0, 2.0)] * 2)
    assert {name: x.tolist() for name, x in held.items()} == {
        "momentum_buffer_1": [1.0, 2.0],
        "momentum_buffer_2": [1.9, 3.8],
        "momentum_buffer_3": [1.99, 3.98],
    }


# -- all of them -----------------------------------------------------------------------------------------------------


@every_rule
@every_way
def test_complex_numbers_are_pairs(cls: type[Optimizer], executor: str) -> None:
    """Both parts are numbers of their own; the unit z/|z| in place of signs would be another step."""
    generator = torch.Generator().manual_seed(5)
    grads = [torch.randn(3, 2, generator=generator, dtype=torch.float64) for _ in range(4)]
    start = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    options: Options = {"lr": 0.1, "weight_decay": 0.1, **SWITCHES[executor]}
    real = steps(cls, grads, start, **options)
    pairs = steps(cls, [torch.view_as_complex(g) for g in grads], torch.view_as_complex(start), **options)
    for p, z in zip(real, pairs, strict=True):
        torch.testing.assert_close(torch.view_as_real(z), p, rtol=1e-12, atol=1e-12)
    assert differ(real[-1:], [start])


@every_rule
@every_way
def test_numbers_single_elements_and_nothing(cls: type[Optimizer], executor: str) -> None:
    """A 0-dim tensor and one of a single element move as an element of a larger one; an empty one is left alone."""
    grads = [numbers(1.0 + 0.3 * k, -2.0 + k) for k in range(4)]
    options: Options = {"lr": 0.1, "weight_decay": 0.1, **SWITCHES[executor]}
    whole = steps(cls, grads, numbers(0.5, -0.5), **options)[-1]
    params = parameters([np.array(0.5), np.array([-0.5]), np.zeros((0, 3))])
    optimizer = cls(params, **options)
    for g in grads:
        for p, part in zip(params, (g[0], g[1:], g[:0].expand(3, 0).T), strict=True):
            p.grad = part.clone()
        optimizer.step()
    assert [p.shape for p in params] == [(), (1,), (0, 3)]
    torch.testing.assert_close(torch.cat([params[0].detach().view(1), params[1].detach()]), whole, rtol=1e-14, atol=0.0)


REFUSED: list[tuple[type[Optimizer], Options, str]] = [
    (steepest.AdEMAMix, {"total_steps": 0}, "total_steps must be an int or None >= 1"),
    (steepest.AdEMAMix, {"total_steps": -3}, "total_steps must be an int or None >= 1"),
    (steepest.AdEMAMix, {"betas": (0.9, 0.999)}, "betas must be 3 numbers"),
    (steepest.AdEMAMix, {"betas": (0.9, 0.999, 1.0)}, "Invalid beta parameter at index 2: 1.0"),
    (steepest.AdEMAMix, {"alpha": -1.0}, "alpha must be a number >= 0"),
    (steepest.SimplifiedAdEMAMix, {"total_steps": 0}, "total_steps must be an int or None >= 1"),
    (steepest.SimplifiedAdEMAMix, {"beta_min": 0.5}, "give total_steps, the steps of the run, too"),
    (steepest.Adan, {"betas": (0.9, 0.9, 0.9, 0.9)}, "betas must be 3 numbers"),
    (steepest.ADOPT, {"clip_exp": -0.25}, "clip_exp must be a number or None >= 0"),
    (steepest.Signum, {"momentum": 0.0, "nesterov": True}, "give momentum > 0 too"),
    (steepest.Signum, {"momentum": 1.0}, "momentum must be a number >= 0 and < 1"),
    (steepest.QHM, {"momentum": 1.0}, "momentum must be a number >= 0 and < 1"),
    (steepest.QHAdam, {"nus": (0.7, 1.1)}, "nus must be 2 numbers >= 0 and <= 1"),
    (steepest.AdaBelief, {"amsgrad": True}, "give rectify=False too"),
    (steepest.AggMo, {"betas": (0.9,)}, "betas must be 3 numbers"),
]


@pytest.mark.parametrize(("cls", "options", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(cls: type[Optimizer], options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(parameters([1.0]), **options)


def test_steps_are_whole() -> None:
    with pytest.raises(TypeError, match="total_steps must be an int or None >= 1"):
        steepest.AdEMAMix(parameters([1.0]), total_steps=0.5)


def test_none_where_it_is_a_candidate_is_read_from_the_command_line() -> None:
    assert steepest.registry.parse("adopt[clip_exp=none]").options == {"clip_exp": None}
    assert "number or None" in CLASSES["adopt"].fields["clip_exp"].allowed
    with pytest.raises(TypeError, match="eps must be a number"):
        steepest.ADOPT(parameters([1.0]), eps=None)  # type: ignore[arg-type]
