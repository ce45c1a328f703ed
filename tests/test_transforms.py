"""What surrounds every rule: each option against its formula, all of them together in every executor, and refusals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import steepest
from cases import CLASSES, COMPOSED, PLANNED, SWITCHES, Options, executors_of, is_valid
from oracles import ORACLES
from steepest import Optimizer, transforms

EXECUTORS = ("reference", "foreach", "native")
SHAPES = ((3, 4), (5,), (), (1,), (2, 3, 2), (0,), (70, 70))
F64 = torch.float64

every_executor = pytest.mark.parametrize("executor", EXECUTORS)


def numbers(shape: Sequence[int], seed: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(shape))).to(dtype)


def parameters(dtype: torch.dtype = F64, shapes: Sequence[Sequence[int]] = SHAPES) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(numbers(shape, seed, dtype)) for seed, shape in enumerate(shapes)]


def feed(optimizer: Optimizer, step: int) -> None:
    """Give every parameter the gradient of this step."""
    for index, p in enumerate(optimizer.param_groups[0]["params"]):
        p.grad = numbers(p.shape, 1000 + 100 * step + index, p.dtype)


def trained(cls: type[Optimizer], steps: int = 4, dtype: torch.dtype = F64, **options: Any) -> list[Tensor]:
    optimizer = cls(parameters(dtype), **options)
    for step in range(steps):
        feed(optimizer, step)
        optimizer.step()
    return [p.detach() for p in optimizer.param_groups[0]["params"]]


def trained_with_averages(cls: type[Optimizer], steps: int = 4, **options: Any) -> list[Tensor]:
    """The parameters, then all of their averages."""
    optimizer = cls(parameters(), **options)
    for step in range(steps):
        feed(optimizer, step)
        optimizer.step()
    averages = [x for state in optimizer.state.values() for name, x in state.items() if name.startswith("ema")]
    return [*(p.detach() for p in optimizer.param_groups[0]["params"]), *averages]


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor], k: float = 64) -> None:
    for a, b in zip(ours, theirs, strict=True):
        eps = torch.finfo(a.dtype).eps
        torch.testing.assert_close(a, b, rtol=k * eps, atol=k * eps)


# -- each against its formula ------------------------------------------------------------------------------------------


def by_hand(formula: Any, steps: int = 4, **options: Any) -> list[Tensor]:
    """SGD with momentum in numpy, with ``formula(p, g, u, lr, step)`` returning the new p from its update u."""
    lr, momentum = options.get("lr", 0.1), 0.9
    result = []
    for index, p in enumerate(parameters()):
        theta, buffer = p.detach().numpy().copy(), None
        for step in range(steps):
            g = numbers(p.shape, 1000 + 100 * step + index).numpy()
            g = options["gradient"](theta, g) if "gradient" in options else g
            buffer = g if buffer is None else momentum * buffer + g
            theta = formula(theta, g, buffer, lr, step)
        result.append(torch.from_numpy(np.asarray(theta)))
    return result


def sgd(executor: str, **options: Any) -> list[Tensor]:
    return trained(steepest.SGD, lr=0.1, momentum=0.9, **SWITCHES[executor], **options)


@every_executor
def test_cautious_is_the_mask_by_sign_over_its_mean(executor: str) -> None:
    def formula(p: Any, g: Any, u: Any, lr: float, step: int) -> Any:
        mask = (np.sign(u) == np.sign(g)) & (g != 0)
        return p - lr * u * mask / max(mask.mean() if mask.size else 1.0, 1e-3)

    ours = sgd(executor, cautious=True)
    assert_close(ours, by_hand(formula))
    assert not torch.equal(ours[0], sgd(executor)[0])


@every_executor
def test_cautious_compares_signs_where_a_product_would_be_zero(executor: str) -> None:
    """In float16 1e-5 times 1e-6 is 0, and the mask of products would stop all."""
    p = torch.nn.Parameter(torch.zeros(4, dtype=torch.float32))
    optimizer = steepest.SGD([p], lr=1e-30, cautious=True, **SWITCHES[executor])
    p.grad = torch.full((4,), 1e-12)
    optimizer.step()
    assert p.tolist() == pytest.approx([-1e-42] * 4, rel=0.01)


@every_executor
def test_one_entry_moves_whole_or_not_at_all(executor: str) -> None:
    """C-Lion's scale n / (sum + 1) would halve the step of a tensor of one element."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=F64))
    optimizer = steepest.SGD([p], lr=1.0, momentum=0.9, cautious=True, **SWITCHES[executor])
    for g in (1.0, -0.5):  # the momentum still points the other way
        p.grad = torch.tensor([g], dtype=F64)
        optimizer.step()
    assert p.item() == -1.0


@every_executor
def test_update_rms_shortens_long_updates_only(executor: str) -> None:
    def formula(p: Any, g: Any, u: Any, lr: float, step: int) -> Any:
        rms = math.sqrt(float(np.mean(u * u))) if u.size else 1.0
        return p - lr * u * min(1.0, 0.8 / rms)

    assert_close(sgd(executor, update_rms=0.8), by_hand(formula))


@every_executor
def test_an_update_of_rate_zero_is_not_a_nan(executor: str) -> None:
    ours = trained(steepest.SGD, lr=0.0, update_rms=0.5, **SWITCHES[executor])
    assert all(torch.equal(a, p) for a, p in zip(ours, parameters(), strict=True))


@every_executor
def test_max_value_is_torchs_clip_by_value(executor: str) -> None:
    plain = by_hand(lambda p, g, u, lr, step: p - lr * u, gradient=lambda p, g: np.clip(g, -0.3, 0.3))
    assert_close(sgd(executor, max_value=0.3), plain)


@pytest.mark.parametrize("executor", ["reference", "foreach"])
def test_agc_clips_unit_by_unit(executor: str) -> None:
    def norm(x: Any) -> Any:
        return np.sqrt((x * x).sum(tuple(range(1, x.ndim)), keepdims=True)) if x.ndim > 1 else np.sqrt((x * x).sum())

    def gradient(p: Any, g: Any) -> Any:
        return g * np.minimum(1.0, 0.05 * np.maximum(norm(p), 1e-3) / np.maximum(norm(g), 1e-30))

    ours = sgd(executor, agc=0.05)
    assert_close(ours, by_hand(lambda p, g, u, lr, step: p - lr * u, gradient=gradient))


@pytest.mark.parametrize("executor", ["reference", "foreach"])
def test_centralize_takes_the_mean_of_each_unit_from_it(executor: str) -> None:
    def gradient(p: Any, g: Any) -> Any:
        return g - g.mean(tuple(range(1, g.ndim)), keepdims=True) if g.ndim > 1 else g

    ours = sgd(executor, centralize=True)
    assert_close(ours, by_hand(lambda p, g, u, lr, step: p - lr * u, gradient=gradient))


@every_executor
def test_lookahead_is_torchs_step_with_slow_weights_moved_by_hand(executor: str) -> None:
    params = parameters()
    slow = [p.detach().clone() for p in params]
    plain = torch.optim.Adam(params, lr=0.1)
    for step in range(7):
        for index, p in enumerate(params):
            p.grad = numbers(p.shape, 1000 + 100 * step + index)
        plain.step()
        if step % 3 == 2:
            for p, s in zip(params, slow, strict=True):
                s += 0.5 * (p.detach() - s)
                p.data.copy_(s)
    ours = trained(steepest.Adam, 7, lr=0.1, lookahead=(3, 0.5), **SWITCHES[executor])
    assert_close(ours, [p.detach() for p in params])


@every_executor
def test_cautious_decay_acts_where_update_and_weight_agree(executor: str) -> None:
    def formula(p: Any, g: Any, u: Any, lr: float, step: int) -> Any:
        return p - lr * u - lr * 0.2 * p * (np.sign(u) * np.sign(p) >= 0)

    options = {"weight_decay": 0.2, "decoupled_weight_decay": True, "cautious_weight_decay": True}
    assert_close(sgd(executor, **options), by_hand(formula))


@every_executor
def test_corrected_decay_is_plain_at_the_largest_rate_and_falls_with_its_square(executor: str) -> None:
    def formula(p: Any, g: Any, u: Any, lr: float, step: int) -> Any:
        return p * (1 - lr**2 / 0.5 * 0.2) - lr * u

    options = {"weight_decay": 0.2, "decoupled_weight_decay": True}
    corrected = sgd(executor, **options, corrected_weight_decay=True, lr_max=0.5)
    assert_close(corrected, by_hand(formula))
    at_peak = sgd(executor, **options, corrected_weight_decay=True, lr_max=0.1)
    assert_close(at_peak, sgd(executor, **options))


@every_executor
def test_zclip_lets_usual_norms_pass_and_shortens_an_outlier(executor: str) -> None:
    """After 25 norms between 1 and 2 one of 100 is an outlier; z²/z of the deviations above the mean are left of it."""
    p = torch.nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = steepest.SGD([p], lr=1.0, zclip=2.5, **SWITCHES[executor])
    sizes = [1.0 + (index % 5) / 4 for index in range(25)]
    for size in sizes:
        p.grad = torch.tensor([0.6, 0.8], dtype=F64) * size
        optimizer.step()
    assert p.detach().norm().item() == pytest.approx(sum(sizes))
    before = p.detach().clone()
    p.grad = torch.tensor([60.0, 80.0], dtype=F64)
    optimizer.step()
    mean, deviation = np.mean(sizes), np.std(sizes)
    allowed = mean + 2.5**2 / ((100 - mean) / deviation) * deviation
    assert (p.detach() - before).norm().item() == pytest.approx(allowed)
    new_mean = 0.97 * mean + 0.03 * allowed
    assert optimizer.state[p]["norm_mean"].item() == pytest.approx(new_mean)
    assert optimizer.state[p]["norm_var"].item() == pytest.approx(
        0.97 * deviation**2 + 0.03 * (allowed - new_mean) ** 2
    )


@every_executor
def test_a_norm_that_is_not_finite_leaves_zclips_averages(executor: str) -> None:
    p = torch.nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = steepest.SGD([p], lr=0.0, zclip=2.5, **SWITCHES[executor])
    for entry in (1.0, math.nan, math.inf, 1.0):
        p.grad = torch.tensor([entry, 0.0], dtype=F64)
        optimizer.step()
    assert [optimizer.state[p][name].item() for name in ("norm_count", "norm_mean", "norm_var")] == [2.0, 1.0, 0.0]


# -- steps that are left out -------------------------------------------------------------------------------------------


@every_executor
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_a_step_with_a_gradient_that_is_not_finite_leaves_everything_untouched(executor: str, bad: float) -> None:
    optimizer, plain = (
        steepest.AdamW(parameters(), skip_nonfinite=True, ema_decay=0.5, **SWITCHES[executor]) for _ in range(2)
    )
    for step in range(4):
        feed(optimizer, step)
        if step == 1:
            for grad in (bad, bad):
                kept = optimizer.param_groups[0]["params"][4].grad.clone()
                optimizer.param_groups[0]["params"][4].grad[1, 2, 0] = grad
                optimizer.step()
                optimizer.param_groups[0]["params"][4].grad = kept
        optimizer.step()
        feed(plain, step)
        plain.step()
    assert optimizer.skipped == 2
    assert plain.skipped == 0
    for p, q in zip(optimizer.param_groups[0]["params"], plain.param_groups[0]["params"], strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == plain.state[q].keys()
        assert all(torch.equal(optimizer.state[p][name], plain.state[q][name]) for name in plain.state[q])


def test_too_many_such_steps_in_a_row_raise_and_a_good_one_starts_the_count_again() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = steepest.SGD([p], skip_nonfinite=True, skip_limit=3)

    def step(entry: float) -> None:
        p.grad = torch.tensor([entry, 0.0])
        optimizer.step()

    for entry in (math.nan, math.nan, 1.0, math.nan, math.inf):
        step(entry)
    with pytest.raises(RuntimeError, match=r"3 steps in a row had a NaN or infinite gradient .*skip_limit=3"):
        step(math.nan)
    assert optimizer.skipped == 5


def test_skipping_and_a_gradient_scaler() -> None:
    """The scaler's own skipped steps are not counted: they are its search for a scale."""
    p = torch.nn.Parameter(torch.ones(2))
    for options in ({"fused": True}, {"foreach": True}):
        optimizer = steepest.AdamW([p], skip_nonfinite=True, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in (1.0, math.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale((p * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert optimizer.skipped == 0
        assert optimizer.state[p]["step"].item() == 2


def test_sparse_and_complex_gradients_are_looked_at() -> None:
    table = torch.nn.Parameter(torch.zeros(4, 2))
    optimizer = steepest.SGD([table], skip_nonfinite=True)
    table.grad = torch.sparse_coo_tensor([[1]], [[math.nan, 0.0]], (4, 2), check_invariants=True)
    optimizer.step()
    wave = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    other = steepest.SGD([wave], skip_nonfinite=True)
    wave.grad = torch.tensor([1.0, complex(0, math.inf)])
    other.step()
    assert (optimizer.skipped, other.skipped) == (1, 1)
    assert not table.any()
    assert not wave.detach().abs().any()


# -- all of them together ----------------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[Any, ...]] = {
    "max_norm": (None, 0.7),
    "zclip": (None, 2.0),
    "max_value": (None, 0.4),
    "agc": (None, 0.1),
    "centralize": (False, True),
    "cautious": (False, True),
    "update_rms": (None, 0.5),
    "hyperball": (False, True),
    "weight_decay": (0.0, 0.1),
    "decoupled_weight_decay": (False, True),
    "cautious_weight_decay": (False, True),
    "corrected_weight_decay": (False, True),
    "lr_max": (None, 0.2),
    "gpa": (None, (0.9, 0.7)),
    "schedule_free": (None, 0.8),
    "lookahead": (None, (2, 0.4)),
    "ema_decay": (None, 0.8, "warmup", {"slow": 0.9, "equal": "swa"}),
    "ema_every": (1, 2),
    "ema_start": (0, 1),
    "maximize": (False, True),
    "skip_nonfinite": (False, True),
}
compositions = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()})
RULES = ("sgd", "adamw", "lion", "adopt", "lamb", "novograd", "rmsprop", "adan")


def fitting(cls: type[Optimizer], options: Options) -> Options:
    return {name: value for name, value in options.items() if name in cls.fields and not cls.fields[name].fixed}


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(RULES), options=compositions)
def test_random_compositions_run_alike_in_every_executor(name: str, options: Options) -> None:
    """In float64, which no executor widens; reductions add in other orders, 4 steps: 256 eps."""
    cls = CLASSES[name]
    options = fitting(cls, options)
    if not is_valid(cls, options):
        return
    wanted = trained_with_averages(cls, **options, **SWITCHES["reference"])
    for executor in executors_of(cls):
        switch = SWITCHES[executor]
        if executor == "native" and (options["agc"] is not None or options["centralize"]):
            with pytest.raises(RuntimeError, match="elements and whole tensors, no rows or columns"):
                trained(cls, **options, **switch)
            continue
        assert_close(trained_with_averages(cls, **options, **switch), wanted, 256)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_coded_state_is_the_same_in_every_executor(name: str, state_dtype: str) -> None:
    """The slow weights are kept in fewer bytes too; 16 ulps of float32 for the order of sums."""
    options = {"cautious": True, "lookahead": (2, 0.5), "state_dtype": state_dtype, "max_value": 0.5}
    options |= {"momentum": 0.9} if name == "sgd" else {}
    by = [trained(CLASSES[name], dtype=torch.float32, **options, **SWITCHES[e]) for e in EXECUTORS]
    assert_close(by[1], by[0], 16)
    assert_close(by[2], by[0], 16)


GRADIENT_OPTIONS: list[Options] = [
    {"max_value": 0.1},
    {"agc": 0.01},
    {"centralize": True},
    {"cautious": True},
    {"update_rms": 0.01},
    {"zclip": 2.0},
    {"lookahead": (2, 0.5)},
    {"gpa": (0.9, 0.7)},
    {"schedule_free": 0.9},
]

DIFFERENTIABLE = [
    (options, by)
    for options in GRADIENT_OPTIONS
    for by in ("lr", "gradients")
    if (by, *options) != ("lr", "schedule_free")  # state that is a number carries no graph: docs/transforms.md
]
"""Options, and the numbers that derivatives are taken by."""


@pytest.mark.parametrize("options", GRADIENT_OPTIONS, ids=str)
@pytest.mark.parametrize("executor", ["reference", "foreach", "native"])
def test_gradients_stay_as_they_are_so_that_they_can_be_accumulated(options: Options, executor: str) -> None:
    """Two backward passes of half a batch each are one of the whole batch."""
    if executor == "native" and {"agc", "centralize"} & options.keys():
        executor = "foreach"
    data = numbers((6, 4), 1)

    def loss(weight: Tensor, rows: Tensor) -> Tensor:
        return ((rows @ weight.T) ** 2).sum() / 6

    whole, halves = (torch.nn.Parameter(numbers((3, 4), 0)) for _ in range(2))
    one, two = (steepest.AdamW([p], lr=0.1, **options, **SWITCHES[executor]) for p in (whole, halves))
    for _ in range(3):
        one.zero_grad()
        loss(whole, data).backward()
        one.step()
        two.zero_grad()
        for part in data.split(3):
            loss(halves, part).backward()
        before = halves.grad.clone() if halves.grad is not None else None
        two.step()
        assert before is not None
        assert halves.grad is not None
        assert torch.equal(before, halves.grad)
    assert_close([halves.detach()], [whole.detach()], 1024)


@pytest.mark.parametrize("options", GRADIENT_OPTIONS, ids=str)
def test_every_planned_class_takes_every_option(options: Options) -> None:
    """Or refuses it at construction, with the option in the message."""
    for cls in PLANNED.values():
        shapes = [(3, 4)] if cls.rule.kind == "matrix" else [(3, 4), (5,)]
        params = [torch.nn.Parameter(numbers(shape, 0, torch.float32)) for shape in shapes]
        (option,) = options
        if cls.rule.kind == "matrix" and option not in ("gpa", "schedule_free"):
            with pytest.raises(ValueError, match=rf"{option}=.* works with pointwise and per_tensor rules"):
                cls(params, **options)
            continue
        if option in ("gpa", "schedule_free") and cls.evaluates_others:
            with pytest.raises(ValueError, match=option):
                cls(params, **options)
            continue
        optimizer = cls(params, **options, **SWITCHES["reference"])
        for step in range(3):
            feed(optimizer, step)
            optimizer.step()
        assert all(p.detach().isfinite().all() for p in params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("keep_dtype", [False, True], ids=["cast", "kept"])
@pytest.mark.parametrize("options", GRADIENT_OPTIONS, ids=str)
def test_checkpoints_go_on_as_they_were(options: Options, dtype: torch.dtype, keep_dtype: bool) -> None:
    """Counts and averages of norms stay numbers of their own dtype: bfloat16 counts to 256."""
    first, second = (steepest.AdamW(parameters(dtype), lr=0.1, **options) for _ in range(2))
    for step in range(3):
        feed(first, step)
        first.step()
    second.load_state_dict(first.state_dict(), keep_dtype=keep_dtype)
    for p, q in _pairs(first, second):
        q.data.copy_(p.data)
        assert {name: x.dtype for name, x in first.state[p].items()} == {n: x.dtype for n, x in second.state[q].items()}
    for step in range(3, 6):
        for optimizer in (first, second):
            feed(optimizer, step)
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in _pairs(first, second))


@pytest.mark.parametrize(("options", "by"), DIFFERENTIABLE, ids=str)
def test_derivatives_pass_through(options: Options, by: str) -> None:
    """A step of a differentiable optimizer has the derivative that central differences have."""
    one = torch.tensor(1.0, dtype=F64, requires_grad=True)

    def after(factor: Tensor) -> Tensor:
        p = numbers((3, 4), 0).requires_grad_()
        q = p.clone()
        lr = 0.1 * factor if by == "lr" else 0.1
        optimizer = steepest.Adam([q], lr=lr, differentiable=True, **options)
        for step in range(2):
            q.grad = numbers((3, 4), step + 1) * (1.0 if by == "lr" else factor**step)
            optimizer.step()
        return (q**2).sum()

    (slope,) = torch.autograd.grad(after(one), one)
    with torch.no_grad():
        h = 1e-5
        up, down = (after(torch.tensor(1.0 + d, dtype=F64)) for d in (h, -h))
    assert slope.item() == pytest.approx(((up - down) / (2 * h)).item(), rel=1e-6)


# -- compositions with a name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "eps": 1e-3}, {"maximize": True}], ids=str)
@pytest.mark.parametrize("executor", ["reference", "foreach"])
def test_ranger_is_its_oracle(options: Options, executor: str) -> None:
    params = parameters()
    grads = [[numbers(p.shape, 1000 + 100 * step + i).numpy() for i, p in enumerate(params)] for step in range(14)]
    wanted = ORACLES["ranger"]([p.detach().numpy() for p in params], grads, lr=0.1, **options)
    ours = trained(steepest.Ranger, 14, lr=0.1, **options, **SWITCHES[executor])
    assert_close(ours, [torch.from_numpy(np.asarray(result["param"])) for result in wanted], 256)


def test_ranger_is_radam_in_transforms() -> None:
    options = {"betas": (0.95, 0.999), "eps": 1e-5, "decoupled_weight_decay": True, "weight_decay": 0.1, "lr": 0.1}
    by_hand = trained(steepest.RAdam, 14, **options, centralize=True, lookahead=(6, 0.5))
    ours = trained(steepest.Ranger, 14, weight_decay=0.1, lr=0.1)
    bare = trained(steepest.Ranger, 14, weight_decay=0.1, lr=0.1, centralize=False, lookahead=None)
    assert all(torch.equal(a, b) for a, b in zip(ours, by_hand, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(bare, trained(steepest.RAdam, 14, **options), strict=True))


def test_every_composition_is_tested_here() -> None:
    assert COMPOSED.keys() == {"ranger"}


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (steepest.AdamW, {"lookahead": (0, 0.5)}, r"lookahead=\(0, 0.5\) must be \(k, alpha\)"),
        (steepest.AdamW, {"lookahead": (2.5, 0.5)}, "a whole number of at least 1"),
        (steepest.AdamW, {"lookahead": (5, 1.5)}, "more than 0 and at most 1"),
        (steepest.AdamW, {"max_norm": 1.0, "zclip": 2.5}, "both clip by the norm of all gradients"),
        (steepest.AdamW, {"corrected_weight_decay": True}, "needs lr_max"),
        (
            steepest.AdamW,
            {"corrected_weight_decay": True, "lr_max": 1.0, "lr_in_decay": False},
            "give one",
        ),
        (steepest.Adam, {"cautious_weight_decay": True}, "give decoupled_weight_decay=True too"),
        (steepest.Adam, {"lr_in_decay": False}, "give decoupled_weight_decay=True too"),
        (steepest.NovoGrad, {"cautious_weight_decay": True}, "which novograd does not have"),
        (steepest.Rprop, {"cautious_weight_decay": True}, "which rprop does not have"),
        (steepest.AdamW, {"max_value": -1.0}, "max_value"),
        (steepest.AdamW, {"agc": -1.0}, "agc"),
        (steepest.AdamW, {"zclip": 0.0}, "zclip"),
        (steepest.AdamW, {"skip_limit": 0}, "skip_limit"),
        (steepest.AdamW, {"skip_nonfinite": True, "capturable": True}, "a captured graph cannot"),
        (steepest.LBFGS, {"skip_nonfinite": True}, "evaluates the closure itself"),
        (steepest.LBFGS, {"cautious": True}, "lbfgs is a driver rule"),
        (steepest.Muon, {"centralize": True}, "muon is a matrix rule"),
    ],
    ids=str,
)
def test_contradictions_are_refused_at_construction(cls: type[Optimizer], options: Options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls([torch.nn.Parameter(torch.zeros(2, 2))], **options)


@pytest.mark.parametrize("option", ["agc", "centralize"])
def test_units_of_complex_tensors_are_refused(option: str) -> None:
    p = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))
    optimizer = steepest.SGD([p], **{option: 0.1 if option == "agc" else True})
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="does not support complex parameters"):
        optimizer.step()


@pytest.mark.parametrize(
    "option", ["agc", "centralize", "cautious", "update_rms", "hyperball", "zclip", "gpa", "schedule_free", "lookahead"]
)
def test_whole_tensors_are_not_looked_at_with_sparse_gradients(option: str) -> None:
    table = torch.nn.Parameter(torch.ones(4, 2))
    value = next((options[option] for options in GRADIENT_OPTIONS if option in options), True)
    optimizer = steepest.SGD([table], **{option: value})
    table.grad = torch.sparse_coo_tensor([[1]], [[1.0, 0.0]], (4, 2), check_invariants=True)
    with pytest.raises(RuntimeError, match=f"does not support sparse gradients with {option}="):
        optimizer.step()


def test_an_option_turned_on_later_acts_from_then_on() -> None:
    for options in GRADIENT_OPTIONS:
        (option, value), *_ = options.items()
        late, plain = (steepest.AdamW(parameters(), lr=0.1) for _ in range(2))
        for step in range(2):
            for optimizer in (late, plain):
                feed(optimizer, step)
                optimizer.step()
        late.param_groups[0][option] = value
        for step in range(2, 5):
            for optimizer in (late, plain):
                feed(optimizer, step)
                optimizer.step()
        is_moved = [not torch.equal(p, q) for p, q in _pairs(late, plain)]
        assert any(is_moved) or option == "zclip", option  # which only collects norms in its first 25 steps


def _pairs(a: Optimizer, b: Optimizer) -> list[tuple[Tensor, Tensor]]:
    return list(zip(a.param_groups[0]["params"], b.param_groups[0]["params"], strict=True))


def test_every_option_of_a_transform_is_tried_here() -> None:
    tried = {*CHOICES, "norm_group", "skip_limit"}
    assert transforms.options().keys() <= tried
    names = list(itertools.chain.from_iterable(t.options for t in transforms.order()))
    assert len(names) == len(set(names))
