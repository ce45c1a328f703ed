"""Numbers that parameters share: a small rule of the test's own, against a loop in float64 that is written out here."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import steepest
from cases import SHARING, SWITCHES, kept_numbers, snapshot, through_file
from steepest import Optimizer, Rule, State, fields
from steepest.functional import pair
from steepest.rule import Shared
from steepest.vocabulary import total

F64 = torch.float64
SHAPES = [(3, 4), (5,), (), (2, 3), (70, 70)]


def moving(p, g, m, *, t, lr, scale):
    """p, g, m: same shape. Returns new (p, m)."""
    m = m + g
    return p - lr * scale * m / t, m


def measuring(p, g, m, *, lr, limit, G):
    """p, g, m: same shape. Returns ‖g‖² and <p, m>, with a number of the last step and one of the group."""
    return total(g * g) + 0 * G, limit * total(p * m)


def renewing(*, square: float, along: float, limit: float, G: float, k: int) -> dict[str, Any] | None:
    """Return the new numbers; None for gradients of 0."""
    if square == 0:
        return None
    G = G + square
    return {"G": G, "k": k + 1, "scale": 1 / (G**0.5 + along * along)}


class OverAll(Optimizer):
    """Steps over the root of the sum of all squares."""

    lr: float = fields.lr(0.1)
    limit: float = fields.hyper(0.5, "factor", low=0.0)
    weight_decay: float = fields.weight_decay(0.0)
    start: float = fields.hyper(1.0, "first sum", low=0.0)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        moving,
        "pointwise",
        (State("step", "step"), State("m")),
        shared=Shared(
            renewing, {"G": "start", "k": 0}, ("scale",), sums=("square", "along"), measure=measuring, over="all"
        ),
    )


class OverGroup(OverAll):
    """The same for each group."""

    rule = Rule(
        moving,
        "pointwise",
        OverAll.rule.state,
        shared=Shared(renewing, {"G": "start", "k": 0}, ("scale",), sums=("square", "along"), measure=measuring),
    )


CLASSES = [OverAll, OverGroup]
every_class = pytest.mark.parametrize("cls", CLASSES)
every_executor = pytest.mark.parametrize("executor", ["reference", "foreach", "native"])


def numbers(shape: Sequence[int], seed: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def parameters(dtype: torch.dtype = F64) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(numbers(shape, i, dtype)) for i, shape in enumerate(SHAPES)]


def groups(params: Sequence[Any], **second: Any) -> list[dict[str, Any]]:
    return [{"params": params[:2]}, {"params": params[2:], **second}]


def feed(params: Sequence[Any], step: int, *, without: Sequence[int] = (), scale: float = 1.0) -> None:
    for i, p in enumerate(params):
        p.grad = None if i in without else scale * numbers(p.shape, 100 * (step + 1) + i, p.dtype)


MISSING: dict[int, tuple[int, ...]] = {1: (0,), 2: (0, 1), 4: (2, 3, 4)}
"""Places without a gradient, by step; the first group has none at step 2."""

See = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The weights and the gradient that the rule sees in place of these."""


def expected(over_all: bool, steps: int = 6, lr: Sequence[float] = (0.1, 0.1), see: See | None = None) -> list[Tensor]:
    """The loop, written out."""
    params = [p.detach() for p in parameters()]
    m, t = [torch.zeros_like(p) for p in params], [0] * len(params)
    sums = [1.0, 1.0]
    for step in range(steps):
        places = [i for i in range(len(params)) if i not in MISSING.get(step, ())]
        seen = {}
        for i in places:
            p, g = params[i], numbers(params[i].shape, 100 * (step + 1) + i)
            seen[i] = (p, g) if see is None else see(p, g)
        scales = []
        for group in range(2):
            own = [i for i in places if over_all or (i >= 2) == bool(group)]
            along = 0.5 * sum(float((seen[i][0] * m[i]).sum()) for i in own)
            sums[group] += sum(float((seen[i][1] ** 2).sum()) for i in own)
            scales.append(1 / (sums[group] ** 0.5 + along**2))
        for i in places:
            m[i] = m[i] + seen[i][1]
            t[i] += 1
            params[i] = seen[i][0] - lr[i >= 2] * scales[i >= 2] * m[i] / t[i]
    return params


def trained(cls: type[Optimizer], steps: int = 6, dtype: torch.dtype = F64, lr: float = 0.1, **options: Any) -> Any:
    """An optimizer of two groups after some steps, some without some gradients; ``lr`` is the second group's."""
    params = parameters(dtype)
    optimizer = cls(groups(params, lr=lr), **options)
    for step in range(steps):
        feed(params, step, without=MISSING.get(step, ()))
        optimizer.step()
    return optimizer


def weights(optimizer: Any) -> list[Tensor]:
    return [p.detach() for group in optimizer.param_groups for p in group["params"]]


def close(ours: Sequence[Tensor], theirs: Sequence[Tensor], tolerance: float = 1e-12) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def same(ours: Any, theirs: Any) -> None:
    """Bit by bit, the numbers too."""
    assert kept_numbers(ours) == kept_numbers(theirs)
    for (p, held), (q, other) in zip(snapshot(ours), snapshot(theirs), strict=True):
        assert torch.equal(p, q)
        assert held.keys() == other.keys()
        assert all(torch.equal(held[name], other[name]) for name in held)


# -- the numbers -----------------------------------------------------------------------------------------------------


@every_executor
@every_class
def test_it_is_the_loop(cls: type[Optimizer], executor: str) -> None:
    """Sums are taken before any parameter of any group has moved, with gradients missing here and there."""
    optimizer = trained(cls, **SWITCHES[executor])
    assert optimizer.executor == executor
    close(weights(optimizer), expected(cls is OverAll))
    sums = [group["G"] for group in optimizer.param_groups]
    assert (sums[0] == sums[1]) == (cls is OverAll)


def test_the_numbers_are_plain_and_in_every_group() -> None:
    optimizer = trained(OverAll, steps=2)
    assert [(type(g["G"]), type(g["k"])) for g in optimizer.param_groups] == [(float, int)] * 2
    assert [g["k"] for g in optimizer.param_groups] == [2, 2]


def test_the_first_number_may_be_that_of_a_field() -> None:
    assert OverAll(parameters(), start=3.0).param_groups[0]["G"] == 3.0


@every_executor
def test_groups_may_differ_in_what_the_renewal_does_not_read(executor: str) -> None:
    close(weights(trained(OverAll, lr=0.3, **SWITCHES[executor])), expected(True, lr=(0.1, 0.3)))


@pytest.mark.parametrize("name", ["limit"])
def test_groups_that_differ_in_what_it_reads_are_an_error(name: str) -> None:
    params = parameters()
    optimizer = OverAll(groups(params, **{name: 0.7}))
    feed(params, 0)
    before = [p.detach().clone() for p in params]
    with pytest.raises(ValueError, match=rf"all groups share G, k, so they need one {name}, not 0.5, 0.7"):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    each = OverGroup(groups(params, **{name: 0.7}))
    each.step()


SEEN: dict[str, tuple[dict[str, Any], See]] = {
    "maximize": ({"maximize": True}, lambda p, g: (p, -g)),
    "coupled decay": ({"weight_decay": 0.3}, lambda p, g: (p, g + 0.3 * p)),
    "decoupled decay": ({"weight_decay": 0.3, "decoupled_weight_decay": True}, lambda p, g: (p * (1 - 0.03), g)),
    "clipped by value": ({"max_value": 0.5}, lambda p, g: (p, g.clamp(-0.5, 0.5))),
}


@every_executor
@every_class
@pytest.mark.parametrize("what", SEEN)
def test_sums_are_of_what_the_rule_sees(what: str, cls: type[Optimizer], executor: str) -> None:
    options, see = SEEN[what]
    close(weights(trained(cls, **options, **SWITCHES[executor])), expected(cls is OverAll, see=see))


@pytest.mark.parametrize("executor", ["reference", "foreach"])
@pytest.mark.parametrize("options", [{"agc": 0.01}, {"centralize": True}], ids=str)
def test_transforms_of_units_come_before_the_sums(options: dict[str, Any], executor: str) -> None:
    plain = trained(OverAll, **options, foreach=False)
    close(weights(trained(OverAll, **options, **SWITCHES[executor])), weights(plain))
    assert plain.param_groups[0]["G"] != trained(OverAll).param_groups[0]["G"]


@every_executor
def test_max_norm_comes_before_the_sums(executor: str) -> None:
    params = parameters()
    optimizer = OverAll(params, max_norm=2.0, **SWITCHES[executor])
    feed(params, 0)
    optimizer.step()
    assert optimizer.param_groups[0]["G"] == pytest.approx(1 + 4, rel=1e-5)  # torch adds 1e-6 to the norm


@every_executor
@every_class
def test_the_slow_weights_of_lookahead_are_the_rules_own_start(cls: type[Optimizer], executor: str) -> None:
    """With k=1 and α=1 they are the weights; with α=½ the rule and its sums see the weights in the middle."""
    close(weights(trained(cls, lookahead=(1, 1.0), **SWITCHES[executor])), expected(cls is OverAll))
    params, plain = parameters(), parameters()
    optimizer, other = cls(params, lookahead=(1, 0.5), **SWITCHES[executor]), cls(plain, foreach=False)
    for step in range(3):
        feed(params, step)
        feed(plain, step)
        old = [p.detach().clone() for p in plain]
        optimizer.step()
        other.step()
        for p, before in zip(plain, old, strict=True):
            p.data.lerp_(before, 0.5)
    close(weights(optimizer), weights(other))


@every_executor
@every_class
def test_the_sums_are_of_the_gradients_that_zclip_has_shortened(cls: type[Optimizer], executor: str) -> None:
    """An outlier after 30 steps. SGD with zclip says what is left of it; its averages move once in a step."""
    params, plain, seen = parameters(), parameters(), parameters()
    optimizer, other = cls(groups(params), zclip=2.5, **SWITCHES[executor]), cls(groups(plain), foreach=False)
    clipping = steepest.SGD(seen, lr=1.0, zclip=2.5, foreach=False)
    for step in range(33):
        for each in (params, plain, seen):
            feed(each, step, scale=50.0 if step == 30 else 1.0)
        before = [p.detach().clone() for p in seen]
        clipping.step()
        for p, q, old in zip(plain, seen, before, strict=True):
            p.grad = old - q.detach()
        optimizer.step()
        other.step()
        given, left = (sum(p.grad.norm().item() for p in each if p.grad is not None) for each in (params, plain))
        assert (left < 0.1 * given) == (step == 30)
    close(weights(optimizer), weights(other))
    for kept, alike in zip(kept_numbers(optimizer), kept_numbers(other), strict=True):
        assert kept == pytest.approx(alike, rel=1e-6)
    for name in ("norm_count", "norm_mean", "norm_var"):
        assert optimizer.state[params[0]][name].item() == pytest.approx(clipping.state[seen[0]][name].item())


# -- how state is kept -----------------------------------------------------------------------------------------------


@every_executor
@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
def test_coded_state_is_read_and_not_written_by_the_sums(state_dtype: str, executor: str) -> None:
    plain, coded = (
        trained(OverAll, dtype=torch.float32, **SWITCHES[executor], **how) for how in ({}, {"state_dtype": state_dtype})
    )
    assert f"m_{state_dtype}" in coded.state[coded.param_groups[1]["params"][-1]]
    assert coded.param_groups[0]["G"] == pytest.approx(plain.param_groups[0]["G"], rel=1e-6)
    close(weights(coded), weights(plain), 0.05)


@pytest.mark.parametrize("executor", ["foreach", "native"])
@pytest.mark.parametrize("options", [{"parameter_rounding": "stochastic"}, {"parameter_rounding": "kahan"}], ids=str)
def test_executors_agree_on_rounded_parameters(options: dict[str, Any], executor: str) -> None:
    """Sums are added in another order, which may move a last bit of bfloat16: all but a few in a thousand agree."""
    plain, fast = (
        trained(OverAll, dtype=torch.bfloat16, **options, **SWITCHES[switch]) for switch in ("reference", executor)
    )
    for a, b in zip(weights(plain), weights(fast), strict=True):
        assert (a != b).float().mean() < 0.01


@pytest.mark.parametrize("options", [{"parameter_rounding": "stochastic"}, {"state_dtype": "int8"}], ids=str)
@every_executor
def test_a_step_that_is_left_out_changes_nothing(options: dict[str, Any], executor: str) -> None:
    """The sums were taken all the same: neither they, nor decay, counts or random bits may leave a trace."""
    dtype = torch.bfloat16 if "parameter_rounding" in options else torch.float32
    switches = {**options, **SWITCHES[executor], "weight_decay": 0.1, "decoupled_weight_decay": True}
    optimizer, other = (trained(OverAll, dtype=dtype, **switches) for _ in range(2))
    for p in (p for group in optimizer.param_groups for p in group["params"]):
        p.grad = torch.zeros_like(p)
    optimizer.step()
    same(optimizer, other)
    for each in (optimizer, other):
        feed([p for group in each.param_groups for p in group["params"]], 9)
        each.step()
    same(optimizer, other)


def test_a_first_step_that_is_left_out_is_not_the_first() -> None:
    optimizer = OverAll(params := parameters())
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert kept_numbers(optimizer) == [{"G": 1.0, "k": 0}]
    assert all(not held["step"] and not held["m"].any() for held in optimizer.state.values())


@every_executor
def test_gradients_that_are_views_of_state_are_read_before_they_are_written(executor: str) -> None:
    results = []
    for is_view in (True, False):
        optimizer = trained(OverAll, steps=2, **SWITCHES[executor])
        for p, held in optimizer.state.items():
            p.grad = held["m"].view(p.shape) if is_view else held["m"].clone()
        optimizer.step()
        results.append(optimizer)
    same(*results)


@every_executor
def test_replaced_state_is_seen(executor: str) -> None:
    """Of the same values too: the sums must be taken of the new tensor when it changes."""
    optimizer, other = (trained(OverAll, **SWITCHES[executor]) for _ in range(2))
    for each in (optimizer, other):
        params = [p for group in each.param_groups for p in group["params"]]
        for p in params:
            if each is optimizer:
                each.state[p]["m"] = each.state[p]["m"].clone()
            each.state[p]["m"].mul_(0.5)
        feed(params, 7)
        each.step()
    same(optimizer, other)


@every_executor
def test_parameters_of_two_dtypes_share_numbers(executor: str) -> None:
    params = [torch.nn.Parameter(numbers((4,), 1)), torch.nn.Parameter(numbers((3,), 2, torch.float32))]
    optimizer = OverAll(params, **SWITCHES[executor])
    feed(params, 0)
    squares = sum(float(p.grad.double().square().sum()) for p in params if p.grad is not None)
    optimizer.step()
    assert optimizer.param_groups[0]["G"] == pytest.approx(1 + squares, rel=1e-6)


def test_sums_of_half_types_are_wide() -> None:
    """4096 squares of 0.1 sum up to 41 and not to what bfloat16 makes of them."""
    p = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    optimizer = OverAll([p])
    p.grad = torch.full_like(p, 0.1)
    optimizer.step()
    assert optimizer.param_groups[0]["G"] == pytest.approx(1 + 4096 * float(p.grad[0]) ** 2, rel=1e-5)


def test_complex_parameters_are_pairs() -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex128))
    optimizer = OverAll([p])
    p.grad = torch.full_like(p, 1 + 2j)
    optimizer.step()
    assert optimizer.param_groups[0]["G"] == 1 + 3 * 5


# -- groups, files, copies -------------------------------------------------------------------------------------------


def test_a_late_group_joins_the_numbers_of_all() -> None:
    params = parameters()
    late, early = OverAll(params[:2]), OverGroup(parameters()[:2])
    for optimizer in (late, early):
        feed([p for group in optimizer.param_groups for p in group["params"]], 0)
        optimizer.step()
    late.add_param_group({"params": params[2:]})
    early.add_param_group({"params": parameters()[2:]})
    assert late.param_groups[1]["G"] == late.param_groups[0]["G"] > 1
    assert early.param_groups[1]["G"] == 1.0
    feed(params, 1)
    late.step()
    assert late.param_groups[0]["G"] == late.param_groups[1]["G"]
    assert late.param_groups[1]["k"] == 2


@every_executor
@every_class
def test_a_run_that_is_loaded_resumes_bit_by_bit(cls: type[Optimizer], executor: str) -> None:
    whole = trained(cls, **SWITCHES[executor])
    source, target = trained(cls, steps=3, **SWITCHES[executor]), cls(groups(parameters()), **SWITCHES[executor])
    target.load_state_dict(through_file(source.state_dict()))
    params = [p for group in target.param_groups for p in group["params"]]
    for p, q in zip(params, weights(source), strict=True):
        p.data.copy_(q)
    for step in range(3, 6):
        feed(params, step, without=MISSING.get(step, ()))
        target.step()
    same(target, whole)


@every_class
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_resume(cls: type[Optimizer], copied: Callable[[Any], Any]) -> None:
    optimizer = trained(cls, steps=3)
    other = copied(optimizer)
    for each in (optimizer, other):
        feed([p for group in each.param_groups for p in group["params"]], 3)
        each.step()
    same(optimizer, other)


def test_a_state_dict_that_has_lost_the_numbers_is_refused() -> None:
    saved = trained(OverAll).state_dict()
    del saved["param_groups"][1]["G"]
    optimizer = OverAll(groups(parameters()))
    with pytest.raises(ValueError, match="the state dict has lost G, which its groups keep, and OverAll would start"):
        optimizer.load_state_dict(saved)
    saved["state"] = {}
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[1]["G"] == optimizer.param_groups[0]["G"]


def test_an_edited_number_acts() -> None:
    optimizer, params = OverAll(made := parameters()), made
    optimizer.param_groups[0]["G"] = 100.0
    feed(params, 0)
    optimizer.step()
    assert optimizer.param_groups[0]["G"] > 100


# -- scaled gradients, compilers, modes ------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [{}, {"fused": True}], ids=str)
def test_a_grad_scaler_unscales_before_the_sums_and_skips_overflows(switch: dict[str, Any]) -> None:
    params, plain = parameters(torch.float32), parameters(torch.float32)
    optimizer, other = OverAll(params, **switch), OverAll(plain, **switch)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=100)
    for step in range(4):
        feed(params, step, scale=8.0)
        feed(plain, step)
        scaler.scale(torch.zeros(()))
        if step == 2:
            before = kept_numbers(optimizer)
            params[1].grad = torch.full_like(params[1], torch.inf)
        scaler.step(optimizer)
        if step == 2:
            assert kept_numbers(optimizer) == before
        else:
            other.step()
        scaler._per_optimizer_states.clear()
    close(weights(optimizer), weights(other), 1e-6)
    assert optimizer.param_groups[0]["k"] == 3


def test_a_step_with_a_bad_gradient_is_skipped_whole() -> None:
    optimizer = OverAll(params := parameters(), skip_nonfinite=True)
    feed(params, 0)
    params[0].grad = torch.full_like(params[0], torch.nan)
    optimizer.step()
    assert kept_numbers(optimizer) == [{"G": 1.0, "k": 0}]


def test_a_compiled_step_runs_as_it_is() -> None:
    params, plain = parameters(), parameters()
    optimizer, other = OverAll(params), OverAll(plain)
    step = torch.compile(optimizer.step, backend="eager")
    for k in range(3):
        feed(params, k)
        feed(plain, k)
        step()
        other.step()
    same(optimizer, other)
    assert optimizer.executor == "native"


def test_a_recording_that_would_freeze_the_numbers_is_refused() -> None:
    params = parameters()
    optimizer = OverAll(params)
    feed(params, 0)
    optimizer.step()

    def step(x: Tensor) -> Tensor:
        params[0].grad = x
        optimizer.step()
        return params[0] + 0

    with pytest.raises(RuntimeError, match="the step reads G, k from tensors, which ProxyTorchDispatchMode cannot"):
        make_fx(step)(numbers((3, 4), 3))


def test_fake_tensors_try_a_step_out_and_leave_the_numbers() -> None:
    with FakeTensorMode():
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = OverAll([p])
        p.grad = torch.ones(3)
        optimizer.step()
        assert "m" in optimizer.state[p]
    assert kept_numbers(optimizer) == [{"G": 1.0, "k": 0}]


def test_a_pure_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="OverAll has numbers that all parameters share; a pure step has none to keep"):
        pair(OverAll)


# -- declarations ----------------------------------------------------------------------------------------------------


def test_a_rule_that_measures_keeps_no_scalar_state() -> None:
    def rule(p: Any, g: Any, c: Any) -> Any:
        return p, c

    with pytest.raises(TypeError, match="rule measures sums, so it cannot keep scalar state; keep it in Shared"):
        Rule(rule, "pointwise", (State("c", "scalar"),), shared=OverAll.rule.shared)


def test_a_rule_that_shares_takes_no_first() -> None:
    def rule(p: Any, g: Any, *, first: bool) -> Any:
        return p

    with pytest.raises(TypeError, match="rule takes first, which a step that is left out would use up"):
        Rule(rule, "pointwise", shared=OverAll.rule.shared)


def test_a_matrix_rule_does_not_share() -> None:
    def rule(p: Any, g: Any) -> Any:
        return p

    with pytest.raises(TypeError, match="rule is a matrix rule; pointwise and per_tensor rules share numbers"):
        Rule(rule, "matrix", shared=OverAll.rule.shared)


@pytest.mark.parametrize("cls", SHARING.values(), ids=list(SHARING))
def test_all_that_renewals_read_exists(cls: type[Optimizer]) -> None:
    shared = cls.rule.shared
    assert shared is not None
    options = {entry for name, field in cls.fields.items() for entry in (name, *field.names)}
    assert set(shared.read) <= {*shared.kept, *shared.sums, *options}
    assert (shared.measure is None) == (not shared.sums)
    if shared.measure is None:
        return
    named = {a.name for a in inspect.signature(shared.measure).parameters.values() if a.kind is a.KEYWORD_ONLY}
    assert named <= {*shared.kept, *options}


def test_a_late_parameter_of_a_group_joins() -> None:
    """A gradient that comes later makes the state later; the sums are those of the parameters that have one."""
    optimizer = trained(OverAll, steps=1)
    assert len(optimizer.state) == len(SHAPES)
    fresh = OverAll(params := parameters())
    feed(params, 0, without=(0,))
    fresh.step()
    assert params[0] not in fresh.state
    feed(params, 1)
    fresh.step()
    assert fresh.param_groups[0]["k"] == 2
    assert fresh.state[params[0]]["step"] == 1
