"""Identities and traps of rules whose steps belong to tensors, rows or bounds: LAMB, MARS, AdamMini, SM3, AdamP, ..."""

from __future__ import annotations

import copy
import math
from dataclasses import KW_ONLY
from typing import Any

import pytest
import torch
from torch import Tensor

import steepest
from cases import SWITCHES, Options, buckets_of, executors_of, parameters
from oracles import problem
from steepest import Optimizer, Rule, fields
from steepest.vocabulary import absolute, axis_max, axis_mean, axis_total, head_mean, mean, norm, rms, sigmoid, total
from test_identities import assert_near, differ, every_switch, path, start_and_gradients

CLASSES = [
    steepest.LAMB,
    steepest.LARS,
    steepest.StableAdamW,
    steepest.MARS,
    steepest.Grams,
    steepest.AdamS,
    steepest.MADGRAD,
    steepest.AdaBound,
    steepest.Padam,
    steepest.AdaMod,
    steepest.DiffGrad,
    steepest.AdamMini,
    steepest.SM3,
    steepest.AdamP,
    steepest.SGDP,
]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
MATRICES = [(3, 4), (4, 2), (2, 3, 2)]


def small(grads: list[list[Tensor]]) -> list[list[Tensor]]:
    """Gradients of norm below 1, which MARS does not clip."""
    return [[0.5 * g / g.norm().clamp(min=1.0) for g in of_step] for of_step in grads]


def matrices(seed: int = 3, steps: int = 8) -> tuple[list[Any], list[list[Tensor]]]:
    theta0, grads = problem(seed, MATRICES, steps)
    return theta0, [[torch.as_tensor(g) for g in of_step] for of_step in grads]


def lengths(before: list[Tensor], after: list[Tensor]) -> list[float]:
    return [float((a - b).norm()) for a, b in zip(after, before, strict=True)]


def tensors_of(theta0: list[Any]) -> list[Tensor]:
    return [torch.as_tensor(p) for p in theta0]


# -- identities ------------------------------------------------------------------------------------------------------

PLAIN: Options = {"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.1}
ADAMW = (steepest.AdamW, {**PLAIN, "eps": 1e-8})
EPS_HAT = (steepest.Adam, {"lr": 0.05, "eps_hat": True})
EQUAL = {
    "MARS without correction": (steepest.MARS, {**PLAIN, "gamma": 0.0}, *ADAMW),
    "AdamMini by element": (steepest.AdamMini, {**PLAIN, "block": "element"}, *ADAMW),
    "AdamP that never projects": (steepest.AdamP, {**PLAIN, "delta": 0.0}, *ADAMW),
    "SGDP that never projects": (
        steepest.SGDP,
        {"lr": 0.05, "momentum": 0.9, "delta": 0.0, "nesterov": True},
        steepest.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    "Padam with a half": (steepest.Padam, {"lr": 0.05, "partial": 0.5, "amsgrad": False}, *EPS_HAT),
    "Padam with a half and AMSGrad": (
        steepest.Padam,
        {"lr": 0.05, "partial": 0.5},
        steepest.Adam,
        {"lr": 0.05, "eps_hat": True, "amsgrad": True},
    ),
    "AdaMod without a long average": (steepest.AdaMod, {"lr": 0.05, "beta3": 0.0}, *EPS_HAT),
    "AdaBound within its bounds": (steepest.AdaBound, {"lr": 0.05, "gamma": 1e-9, "final_lr": 1e-3}, *EPS_HAT),
    "LARS that trusts nothing else": (
        steepest.LARS,
        {"lr": 0.05, "momentum": 0.0, "trust_coefficient": 0.0},
        steepest.SGD,
        {"lr": 0.0},
    ),
    "AdaBound at the end of its bounds": (
        steepest.AdaBound,
        {"lr": 0.05, "gamma": 1e12, "final_lr": 0.1},
        steepest.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.9},
    ),
}


EQUAL_ON = [
    pytest.param(*row, SWITCHES[executor], id=f"{name}-{executor}")
    for name, row in EQUAL.items()
    for executor in executors_of(row[0])
]


@pytest.mark.parametrize(("cls", "options", "other", "others", "switch"), EQUAL_ON)
def test_a_rule_is_another_at_its_limit(
    cls: type[Optimizer], options: Options, other: type[Optimizer], others: Options, switch: Options
) -> None:
    """1e-9: bounds that are nearly closed differ from closed ones by 1 / (γt)."""
    _, grads = start_and_gradients()
    grads = small(grads)
    if other is steepest.SGD and "dampening" in others:  # SGD does not dampen the first gradient
        grads = [[0.0 * g for g in grads[0]], *grads]
    assert_near(path(cls, grads, **options, **switch), path(other, grads, **others), 1e-9)


@every_switch
def test_mars_clips_a_large_gradient_and_adamw_does_not(switch: Options) -> None:
    _, grads = start_and_gradients()
    large = [[100.0 * (k + 1) * g for g in of_step] for k, of_step in enumerate(grads)]
    assert differ(path(steepest.MARS, large, **PLAIN, gamma=0.0, **switch), path(steepest.AdamW, large, **PLAIN))


@every_switch
def test_stable_adamw_is_adamw_on_step_one_and_lowers_a_jump(switch: Options) -> None:
    """At step 1 RMS = 1. Then a gradient 100 times larger is stepped by AdamW at the whole rate."""
    _, grads = start_and_gradients()
    once = path(steepest.StableAdamW, grads[:1], **PLAIN, **switch)
    assert_near(once, path(steepest.AdamW, grads[:1], **PLAIN))
    ones = [torch.ones_like(g) for g in grads[0]]
    jump = [*[ones] * 6, [100.0 * g for g in ones]]
    ours, theirs = (
        lengths(path(cls, jump[:-1], **PLAIN, **extra), path(cls, jump, **PLAIN, **extra))
        for cls, extra in ((steepest.StableAdamW, switch), (steepest.AdamW, {}))
    )
    assert all(a < 0.5 * b for a, b in zip(ours, theirs, strict=True))


def test_stable_adamw_keeps_corrected_averages() -> None:
    _, grads = start_and_gradients()
    ours, theirs = (
        steepest.StableAdamW(a := parameters(problem(1, [(3, 4)], 1)[0])),
        steepest.AdamW(b := parameters(problem(1, [(3, 4)], 1)[0]), betas=(0.9, 0.99)),
    )
    for of_step in grads[:4]:
        for p, optimizer in ((a[0], ours), (b[0], theirs)):
            p.grad = of_step[0].clone()
            optimizer.step()
    for name, beta in (("exp_avg", 0.9), ("exp_avg_sq", 0.99)):
        torch.testing.assert_close(ours.state[a[0]][name], theirs.state[b[0]][name] / (1 - beta**4))


@every_switch
def test_sm3_of_a_vector_is_adagrad_from_zero(switch: Options) -> None:
    theta0, grads = problem(4, [(7,), ()], 8)
    given = [[torch.as_tensor(g) for g in of_step] for of_step in grads]
    ours = path(steepest.SM3, given, theta0, lr=0.1, **({} if "fused" in switch else switch))
    assert_near(ours, path(steepest.Adagrad, given, theta0, lr=0.1, eps=0.0))


def test_sm3_bounds_every_sum_of_squares_by_the_numbers_of_its_axes() -> None:
    theta0, grads = problem(5, [(3, 4, 2, 5)], 6)
    (p,) = parameters(theta0)
    optimizer = steepest.SM3([p])
    squares = torch.zeros_like(p)
    for (g,) in grads:
        p.grad = torch.as_tensor(g).clone()
        squares += p.grad**2
        optimizer.step()
    held = [optimizer.state[p][f"accumulator_{i}"] for i in range(4)]
    assert [tuple(a.shape) for a in held] == [(3, 1, 1, 1), (1, 4, 1, 1), (1, 1, 2, 1), (1, 1, 1, 5)]
    bound = torch.minimum(torch.minimum(held[0], held[1]), torch.minimum(held[2], held[3]))
    assert (bound >= squares - 1e-12).all()


def test_sm3_takes_eight_dimensions_and_no_more() -> None:
    p = torch.nn.Parameter(torch.ones([1] * 8))
    p.grad = torch.ones_like(p)
    steepest.SM3([p]).step()
    with pytest.raises(ValueError, match=r"at most 8 dimensions, and a parameter has shape .* reshape it"):
        steepest.SM3([torch.nn.Parameter(torch.ones([1] * 9))])


# -- lengths of steps ------------------------------------------------------------------------------------------------


@every_switch
def test_lambs_steps_are_as_long_as_its_tensors_from_the_first_on(switch: Options) -> None:
    """With the correction of m outside the ratio the first would be 10, the second 5.3 times too long."""
    _, grads = start_and_gradients()
    for decay in (0.0, 0.1):
        at = tensors_of(problem(1, [(3, 4), (5,), ()], 1)[0])
        for k in range(1, 6):
            after = path(steepest.LAMB, grads[:k], lr=0.02, weight_decay=decay, **switch)
            wanted = [0.02 * float(p.norm()) for p in at]
            assert lengths(at, after) == pytest.approx(wanted, rel=1e-11)
            at = after


@every_switch
def test_where_a_norm_is_zero_the_ratio_is_one(switch: Options) -> None:
    zero = [torch.zeros(3, dtype=torch.float64)]
    g = [[torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)]]
    assert_near(path(steepest.LARS, g, zero, lr=0.1, **switch), [-0.1 * g[0][0]])
    assert_near(path(steepest.LAMB, g, zero, lr=0.1, eps=0.0, **switch), [-0.1 * g[0][0].sign()])
    start = [torch.ones(3, dtype=torch.float64)]
    for cls in (steepest.LARS, steepest.LAMB):
        assert torch.equal(path(cls, [zero], start, weight_decay=0.0, **switch)[0], start[0])


@every_switch
def test_lars_starts_at_its_first_scaled_gradient(switch: Options) -> None:
    """A buffer that starts at 0 with an average would make the first step shorter; and it is as long as promised."""
    theta0, grads = start_and_gradients()
    for momentum in (0.0, 0.9):
        once = path(steepest.LARS, grads[:1], theta0, lr=3.0, momentum=momentum, eps=0.0, **switch)
        wanted = [3.0 * 1e-3 * float(torch.as_tensor(p).norm()) for p in theta0]
        assert lengths(tensors_of(theta0), once) == pytest.approx(wanted, rel=1e-11)


FIRST_STEPS: dict[str, tuple[type[Optimizer], float]] = {
    "Grams": (steepest.Grams, 1.0),
    "MARS": (steepest.MARS, 1.0),
    "StableAdamW": (steepest.StableAdamW, 1.0),
    "AdaMod": (steepest.AdaMod, 0.001),
    "AdamS": (steepest.AdamS, 0.1 / math.sqrt(0.05)),
    "AdamP": (steepest.AdamP, 1.0),
    "DiffGrad": (steepest.DiffGrad, 1 / (1 + math.exp(-2.0))),
}


@every_switch
@pytest.mark.parametrize(("cls", "length"), FIRST_STEPS.values(), ids=list(FIRST_STEPS))
def test_first_steps_have_the_length_that_is_documented(cls: type[Optimizer], length: float, switch: Options) -> None:
    start = [torch.zeros(4, dtype=torch.float64)]
    g = [[torch.tensor([2.0, -2.0, 2.0, 2.0], dtype=torch.float64)]]
    options: Options = {"lr": 0.1, "weight_decay": 0.0, "eps": 1e-12, **({} if cls is steepest.AdamP else switch)}
    assert_near(path(cls, g, start, **options), [-0.1 * length * g[0][0].sign()], 1e-9)


@every_switch
def test_diffgrad_is_half_of_adam_where_the_gradient_stays(switch: Options) -> None:
    g = [[torch.full((4,), 0.7, dtype=torch.float64)]] * 6
    start = [torch.zeros(4, dtype=torch.float64)]
    ours, theirs = (
        [path(cls, g[:k], start, **extra)[0] for k in range(1, 7)]
        for cls, extra in ((steepest.DiffGrad, switch), (steepest.Adam, {"eps_hat": True}))
    )
    for k in range(1, 6):
        torch.testing.assert_close(ours[k] - ours[k - 1], 0.5 * (theirs[k] - theirs[k - 1]), rtol=1e-9, atol=0.0)


@every_switch
def test_scaling_the_gradients_by_eight_changes_nothing(switch: Options) -> None:
    _, grads = start_and_gradients()
    scaled = [[8.0 * g for g in of_step] for of_step in grads]
    for cls in (steepest.LAMB, steepest.Grams, steepest.AdamS, steepest.StableAdamW):
        options: Options = {"eps": 0.0, "weight_decay": 0.0, **switch}
        assert_near(path(cls, scaled, **options), path(cls, grads, **options))


# -- gradients that are 0, or written over ---------------------------------------------------------------------------


@every_switch
def test_grams_rests_where_the_gradient_is_zero_and_its_momentum_runs_on(switch: Options) -> None:
    (p,) = parameters([torch.ones(3, dtype=torch.float64)])
    optimizer = steepest.Grams([p], **switch)
    p.grad = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    optimizer.step()
    before, momentum = p.detach().clone(), optimizer.state[p]["exp_avg"].clone()
    p.grad = torch.tensor([0.0, -0.0, 1.0], dtype=torch.float64)
    optimizer.step()
    assert torch.equal(p[:2], before[:2])
    assert p[2] != before[2]
    torch.testing.assert_close(optimizer.state[p]["exp_avg"][:2], 0.9 * momentum[:2])


@every_switch
@pytest.mark.parametrize(
    ("cls", "name"), [(steepest.MARS, "last_grad"), (steepest.DiffGrad, "previous_grad")], ids=["MARS", "DiffGrad"]
)
def test_the_last_gradient_is_a_copy(cls: type[Optimizer], name: str, switch: Options) -> None:
    """Kept by reference, a gradient that is zeroed in place leaves a last gradient of 0."""
    _, grads = start_and_gradients()
    fresh = path(cls, grads, **switch)
    params = parameters(problem(1, [(3, 4), (5,), ()], 1)[0])
    optimizer = cls(params, **switch)
    for p in params:
        p.grad = torch.zeros_like(p)
    for of_step in grads:
        for p, g in zip(params, of_step, strict=True):
            assert p.grad is not None
            p.grad.copy_(g)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    for p, wanted, g in zip(params, fresh, grads[-1], strict=True):
        assert torch.equal(p.detach(), wanted)
        assert torch.equal(optimizer.state[p][name], g)


@every_switch
def test_mars_first_gradients_show_from_the_second_step_on(switch: Options) -> None:
    _, grads = start_and_gradients()
    grads = small(grads)
    options: Options = {"gamma": 0.1, "eps": 0.0, **switch}
    for steps, same in ((1, True), (2, False)):
        zero, gradient = (path(steepest.MARS, grads[:steps], **options, first=word) for word in ("zero", "gradient"))
        assert all(torch.allclose(a, b, rtol=1e-12, atol=0.0) for a, b in zip(zero, gradient, strict=True)) == same


# -- rates of 0, and options that belong to groups -------------------------------------------------------------------


@every_switch
def test_madgrad_may_warm_up_from_zero(switch: Options) -> None:
    """With ε outside the condition the first step would move by ε√1 and divide by ∛(ε g²)."""
    theta0, grads = start_and_gradients()
    for momentum in (0.0, 0.9):
        options: Options = {"momentum": momentum, **switch}
        still = path(steepest.MADGRAD, grads[:1], theta0, rates=[0.0], **options)
        assert all(torch.equal(p, torch.as_tensor(q)) for p, q in zip(still, theta0, strict=True))
        moved = path(steepest.MADGRAD, grads, theta0, rates=[0.0] + [0.01] * (len(grads) - 1), **options)
        assert all(p.isfinite().all() for p in moved)
        assert differ(moved, tensors_of(theta0))


def test_madgrad_keeps_its_start_only_with_momentum() -> None:
    for momentum, names in ((0.0, {"step", "grad_sum_sq", "s"}), (0.9, {"step", "grad_sum_sq", "s", "x0"})):
        (p,) = parameters([torch.ones(3, dtype=torch.float64)])
        p.grad = torch.ones_like(p)
        optimizer = steepest.MADGRAD([p], momentum=momentum)
        optimizer.step()
        assert optimizer.state[p].keys() == names
    assert torch.equal(optimizer.state[p]["x0"], torch.ones(3, dtype=torch.float64))


def test_adabounds_first_rate_is_an_option_of_its_group() -> None:
    """The official code keeps the rates of the constructor's groups in a list outside."""
    p, q = parameters([torch.ones(3), torch.ones(2)])
    optimizer = steepest.AdaBound([p], lr=0.02)
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    assert [group["base_lr"] for group in optimizer.param_groups] == [0.02, 0.5]
    for group in optimizer.param_groups:
        group["lr"] *= 0.1
    copied = copy.deepcopy(optimizer)
    loaded = steepest.AdaBound([{"params": [p]}, {"params": [q]}], lr=7.0)
    loaded.load_state_dict(optimizer.state_dict())
    for other in (copied, loaded):
        assert [group["base_lr"] for group in other.param_groups] == [0.02, 0.5]
        assert [group["lr"] for group in other.param_groups] == pytest.approx([0.002, 0.05])
    assert steepest.AdaBound([torch.nn.Parameter(torch.ones(1))], lr=0.02, base_lr=3.0).param_groups[0]["base_lr"] == 3


@every_switch
def test_adabounds_bounds_follow_the_schedule(switch: Options) -> None:
    """At closed bounds the rate is final_lr times lr / base_lr."""
    _, grads = start_and_gradients()
    options: Options = {"gamma": 1e12, "betas": (0.0, 0.9), **switch}
    halved = path(steepest.AdaBound, grads, rates=[0.05] * len(grads), lr=0.1, final_lr=0.2, **options)
    assert_near(halved, path(steepest.SGD, grads, lr=0.1), 1e-9)


@every_switch
def test_adabound_may_warm_up_from_zero(switch: Options) -> None:
    """A group that is made at a rate of 0 has none to compare with: the official code divides by it."""
    _, grads = start_and_gradients()
    for base in ({"lr": 0.0}, {"lr": 0.0, "base_lr": 0.01}):
        rates = [0.0] + [0.01] * (len(grads) - 1)
        moved = path(steepest.AdaBound, grads, rates=rates, **base, **switch)
        assert all(p.isfinite().all() for p in moved)
        assert differ(moved, tensors_of(problem(1, [(3, 4), (5,), ()], 1)[0]))


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_adam_minis_heads_are_tensors_of_their_own() -> None:
    """A projection of three heads is three parameters with one second moment each."""
    theta0, grads = problem(6, [(6, 4)], 5)
    (whole,) = parameters(theta0)
    parts = parameters([torch.as_tensor(theta0[0])[i : i + 2] for i in (0, 2, 4)])
    first, second = steepest.AdamMini([whole], block=("head", 3)), steepest.AdamMini(parts, block="tensor")
    for (g,) in grads:
        whole.grad = torch.as_tensor(g).clone()
        for i, p in enumerate(parts):
            p.grad = whole.grad[2 * i : 2 * i + 2].clone()
        first.step()
        second.step()
    assert_near([whole.detach()], [torch.cat([p.detach() for p in parts])])
    by_row = path(steepest.AdamMini, [[torch.as_tensor(g)] for (g,) in grads], theta0)
    assert not torch.allclose(by_row[0], whole.detach(), rtol=1e-9)


def test_heads_that_do_not_fit_are_told() -> None:
    q, k = torch.nn.Parameter(torch.ones(6, 4)), torch.nn.Parameter(torch.ones(4, 4))
    message = r"the 4 rows of a parameter of shape \(4, 4\) out among 3 heads, and 3 does not divide 4; give the number"
    with pytest.raises(ValueError, match=message):
        steepest.AdamMini([q, k], block=("head", 3))
    optimizer = steepest.AdamMini([q], block=("head", 3))
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [k]})
    optimizer.add_param_group({"params": [k], "block": ["head", 2]})
    assert optimizer.param_groups[1]["block"] == ("head", 2)


@pytest.mark.parametrize("block", ["rows", ("head", 0), ("head", 1.5), ("tail", 2), 3])
def test_unknown_blocks_are_told(block: Any) -> None:
    with pytest.raises(ValueError, match=r"Invalid block value: .* one of 'row', 'tensor', 'element' or \('head',"):
        steepest.AdamMini([torch.nn.Parameter(torch.ones(2, 2))], block=block)


def test_a_block_is_never_none() -> None:
    with pytest.raises(TypeError, match="block must be 'row', 'tensor', 'element' or"):
        steepest.AdamMini([torch.nn.Parameter(torch.ones(2, 2))], block=None)


def test_adam_minis_state_is_as_small_as_its_blocks() -> None:
    shapes = {"row": ((6, 1), (5,)), "tensor": ((), ()), "element": ((6, 4), (5,)), ("head", 2): ((6, 1), (5,))}
    for block, wanted in shapes.items():
        p, b = torch.nn.Parameter(torch.ones(6, 4)), torch.nn.Parameter(torch.ones(5))
        optimizer = steepest.AdamMini([p, b], block=block)
        for x in (p, b):
            x.grad = torch.ones_like(x)
        optimizer.step()
        held = [optimizer.state[x] for x in (p, b)]
        moments = [h.get("vmean", h.get("exp_avg_sq")) for h in held]
        assert tuple(tuple(v.shape) for v in moments) == wanted


@pytest.mark.parametrize("block", ["row", "tensor", "element"])
def test_blocks_have_kernels(block: str) -> None:
    theta0, grads = matrices()
    options: Options = {"block": block, "weight_decay": 0.1}
    native = path(steepest.AdamMini, grads, theta0, **options)
    assert_near(native, path(steepest.AdamMini, grads, theta0, foreach=False, **options))
    assert steepest.AdamMini([torch.nn.Parameter(torch.ones(2, 2))], **options).executor == "native"


@pytest.mark.parametrize(("cls", "options"), [(steepest.AdamMini, {"block": ("head", 2)}), (steepest.SM3, {})])
def test_what_has_no_kernel_says_so(cls: type[Optimizer], options: Options) -> None:
    executor = cls([torch.nn.Parameter(torch.ones(2, 2))], **options).executor
    assert executor == "foreach"
    assert "does not have the word" in executor.reason


# -- projections -----------------------------------------------------------------------------------------------------

LISTS = [{"foreach": False}, {"foreach": True}, {"fused": True}]


@pytest.mark.parametrize("switch", LISTS, ids=["reference", "foreach", "native"])
def test_projected_steps_are_orthogonal_to_the_weights(switch: Options) -> None:
    """delta = 100: every row is taken for orthogonal. The decay is then shorter by wd_ratio."""
    theta0, grads = matrices()
    start = tensors_of(theta0)
    after = path(steepest.AdamP, grads[:1], theta0, lr=0.1, delta=100.0, eps=1e-12, **switch)
    free = path(steepest.AdamP, grads[:1], theta0, lr=0.1, delta=0.0, **switch)
    for p, a, b in zip(start, after, free, strict=True):
        along = ((a - p) * p).flatten(1).sum(1)
        assert along.abs().max() < 1e-9
        assert ((b - p) * p).flatten(1).sum(1).abs().max() > 1e-3
    decayed = path(steepest.AdamP, grads[:1], theta0, lr=0.1, delta=100.0, eps=1e-12, weight_decay=0.5, **switch)
    assert_near(decayed, [a - 0.1 * 0.5 * 0.1 * p for a, p in zip(after, start, strict=True)], 1e-9)


@pytest.mark.parametrize("switch", LISTS, ids=["reference", "foreach", "native"])
def test_the_whole_tensor_is_asked_after_its_rows(switch: Options) -> None:
    """One row along the weights, the other against them: no row is orthogonal, the tensor is."""
    p = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    g = torch.stack([p[0], -p[1]])
    (after,) = path(steepest.SGDP, [[g]], [p], lr=0.1, **switch)
    torch.testing.assert_close(after, p - 0.1 * g)
    decayed = path(steepest.SGDP, [[g]], [p], lr=0.1, weight_decay=0.5, momentum=0.5, **switch)[0]
    torch.testing.assert_close(decayed, p * (1 - 0.1 * 0.5 * 0.1 / 0.5) - 0.1 * g)


@pytest.mark.parametrize("switch", LISTS, ids=["reference", "foreach", "native"])
def test_sgdp_does_not_project_its_buffer(switch: Options) -> None:
    """The official code without Nesterov's form does, in place."""
    theta0, grads = matrices()
    params, others = parameters(theta0), parameters(theta0)
    first = steepest.SGDP(params, momentum=0.9, delta=100.0, **switch)
    second = steepest.SGD(others, momentum=0.9)
    for of_step in grads:
        for p, q, g in zip(params, others, of_step, strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        first.step()
        second.step()
    assert differ([p.detach() for p in params], [q.detach() for q in others])
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(first.state[p]["momentum"], second.state[q]["momentum_buffer"])


# -- shapes, layouts, complex numbers --------------------------------------------------------------------------------

ON = [(cls, SWITCHES[name]) for cls in CLASSES for name in executors_of(cls) if name != "stacked"]
named = lambda x: getattr(x, "__name__", str(x))  # noqa: E731
every_executor_of_it = pytest.mark.parametrize(("cls", "switch"), ON, ids=named)


@every_executor_of_it
def test_numbers_single_elements_and_nothing(cls: type[Optimizer], switch: Options) -> None:
    """Numbers, tensors of one element in any number of dimensions, and tensors without any: none is NaN or stuck."""
    shapes = [(), (1,), (1, 1), (1, 1, 1), (0,), (0, 3), (3, 0)]
    params = [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes]
    optimizer = cls(params, **switch)
    for _ in range(4):
        for p in params:
            p.grad = torch.full_like(p, 0.3)
        optimizer.step()
    assert all(p.isfinite().all() for p in params)
    assert all((p != 0.5).all() for p in params if p.dim() < 2)
    flat = torch.cat([p.detach().reshape(-1) for p in params[:2]])
    assert torch.equal(flat, flat[:1].expand(2))


@every_executor_of_it
def test_transposed_parameters(cls: type[Optimizer], switch: Options) -> None:
    """A parameter that is a transposed view gets the numbers of a contiguous one of its shape."""
    theta0, grads = matrices()
    plain = parameters(theta0[:2])
    turned = [torch.nn.Parameter(p.detach().mT.contiguous().mT) for p in plain]
    assert not turned[0].is_contiguous()
    for params in (plain, turned):
        optimizer = cls(params, **switch)
        for of_step in grads:
            for p, g in zip(params, of_step[:2], strict=True):
                p.grad = g.clone()
            optimizer.step()
    assert_near([p.detach() for p in turned], [p.detach() for p in plain], 1e-12)


COMPLEX = [(cls, switch) for cls, switch in ON if cls not in (steepest.AdamMini, steepest.SM3)]


@pytest.mark.parametrize(("cls", "switch"), COMPLEX, ids=named)
def test_complex_numbers_are_pairs_of_real_ones(cls: type[Optimizer], switch: Options) -> None:
    theta0, grads = problem(8, [(3, 4, 2)], 6)
    real = parameters(theta0)
    paired = [torch.nn.Parameter(torch.view_as_complex(p.detach().clone())) for p in real]
    first, second = cls(real, **switch), cls(paired, **switch)
    for (g,) in grads:
        real[0].grad = torch.as_tensor(g).clone()
        paired[0].grad = torch.view_as_complex(torch.as_tensor(g).clone())
        first.step()
        second.step()
    assert_near([torch.view_as_real(paired[0].detach())], [real[0].detach()], 1e-12)


@pytest.mark.parametrize("cls", [steepest.AdamMini, steepest.SM3])
def test_rules_with_rows_refuse_complex_matrices(cls: type[Optimizer]) -> None:
    """The pairs would be a dimension of their own. Vectors have no rows."""
    for shape, allowed in (((3,), True), ((2, 2), False)):
        p = torch.nn.Parameter(torch.ones(shape, dtype=torch.complex64))
        p.grad = torch.ones_like(p)
        if allowed:
            cls([p]).step()
        else:
            with pytest.raises(RuntimeError, match="does not support complex parameters"):
                cls([p]).step()


def test_vectors_of_a_group_run_natively_beside_matrices_that_cannot() -> None:
    p, b = torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(5))
    optimizer = steepest.SM3([p, b])
    for x in (p, b):
        x.grad = torch.ones_like(x)
    optimizer.step()
    optimizer.step()
    assert optimizer.executor == "foreach and native"
    assert [type(bucket).__name__ for bucket in buckets_of(optimizer)] == ["BatchBucket", "KernelBucket"]


# -- words -----------------------------------------------------------------------------------------------------------


def of_whole_tensors(p, g, *, lr):  # type: ignore[no-untyped-def]
    """p, g: same shape. Every number of a whole tensor, one inside another, and a sigmoid."""
    a = mean(g * g)
    b = rms(g - a) + total(p * g) / (1 + norm(p))
    return p - lr * sigmoid(b * g) * mean(absolute(g - b)) - lr * rms(a) * total(b) * mean(b)


def of_axes(p, g, *, lr):  # type: ignore[no-untyped-def]
    """p, g: same shape, a matrix."""
    rows = axis_total(p * g, 0) / (1 + axis_max(absolute(g), 1))
    return p - lr * rows * axis_mean(g, 1) - lr * head_mean(g, 2) * axis_max(rows, 0)


class WholeTensors(Optimizer):
    """Rule of this file."""

    lr: float = fields.lr(0.1)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()

    rule = Rule(of_whole_tensors, "per_tensor")


class Axes(Optimizer):
    """Rule of this file."""

    lr: float = fields.lr(0.1)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()

    rule = Rule(of_axes, "per_tensor")


@pytest.mark.parametrize("executor", ["foreach", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.bfloat16], ids=str)
def test_words_of_whole_tensors_are_alike_in_every_executor(executor: str, dtype: torch.dtype) -> None:
    """More than a block of the kernel, one element, and none. 64 eps of the largest element, 8 of half types."""
    shapes = [(5_000,), (3, 7), (1,), (), (0, 2)]
    results = []
    for switch in (SWITCHES[executor], {"foreach": False}):
        source = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(shape, generator=source).to(dtype)) for shape in shapes]
        optimizer = WholeTensors(params, **switch)
        for p in params:
            p.grad = torch.randn(p.shape, generator=source).to(dtype)
        optimizer.step()
        results.append([p.detach() for p in params])
    factor = (8 if dtype == torch.bfloat16 else 64) * torch.finfo(dtype).eps
    for ours, theirs in zip(*results, strict=True):
        largest = theirs.abs().max().item() if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=factor, atol=factor * largest)


def test_words_of_axes_are_alike_in_both_executors() -> None:
    theta0, grads = problem(9, [(4, 3), (2, 5), (2, 0)], 3)
    given = [[torch.as_tensor(g) for g in of_step] for of_step in grads]
    listed, plain = (path(Axes, given, theta0, foreach=foreach) for foreach in (True, False))
    assert_near(listed[:2], plain[:2], 1e-12)
    assert listed[2].shape == (2, 0)
    assert Axes([torch.nn.Parameter(torch.ones(4, 3))]).executor == "foreach"
