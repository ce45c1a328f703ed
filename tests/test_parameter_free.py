"""Rules that find their step size: the traps of other packages, and the numbers that groups keep."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import steepest
from cases import CLASSES, SWITCHES, kept_numbers, through_file
from oracles import ORACLES, problem
from steepest import MoMo, MoMoAdam, Optimizer, Prodigy
from test_oracles import assert_equal

F64 = torch.float64
FREE = [CLASSES[name] for name in ("prodigy", "dadaptadam", "dadaptsgd", "dog", "ldog", "dowg", "cocob")]
SEARCHING = [CLASSES[name] for name in ("prodigy", "dadaptadam", "dadaptsgd")]
every_free_class = pytest.mark.parametrize("cls", FREE, ids=lambda cls: cls.__name__)
every_searching_class = pytest.mark.parametrize("cls", SEARCHING, ids=lambda cls: cls.__name__)
every_executor = pytest.mark.parametrize("executor", ["reference", "foreach", "native"])


def quadratic(dtype: torch.dtype = F64) -> list[torch.nn.Parameter]:
    """Two parameters; `give` has the gradient of the squared distance from 1."""
    source = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=source, dtype=F64).to(dtype)) for shape in ((4, 3), (5,))]


def give(params: list[torch.nn.Parameter], scale: float = 1.0) -> float:
    """Set the gradients, and return the loss."""
    for p in params:
        p.grad = scale * (p.detach() - 1)
    return scale * sum(float((p.detach() - 1).square().sum()) / 2 for p in params)


def descend(optimizer: Optimizer, steps: int, scale: float = 1.0) -> list[torch.nn.Parameter]:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        give(params, scale)
        optimizer.step()
    return params


@every_free_class
def test_nothing_needs_to_be_tuned(cls: type[Optimizer]) -> None:
    """Of the defaults a hundred steps take the loss down, wherever the rate of another class would have to be."""
    for scale in (1e-3, 1.0, 1e3):
        params = quadratic()
        before = give(params) if cls is not steepest.DoWG else 50 * give(params)  # DoWG's ε is not free of scale
        descend(cls(params, **({"reps_rel": 1e-3} if "reps_rel" in cls.fields else {})), 300, scale)
        assert give(params) < before, (cls, scale)


@pytest.mark.parametrize(("lr", "diverges"), [(1.0, True), (0.1, False)])
def test_dadaptsgd_scales_its_steps_by_the_first_gradient(lr: float, diverges: bool) -> None:
    """Its bound d holds, but a gradient that grows as it moves makes steps of d / ‖g0‖ too long."""
    p = torch.nn.Parameter(torch.tensor([1.0, 1e-3], dtype=F64))
    curvature, distance = torch.tensor([1.0, 18.0], dtype=F64), float(p.detach().norm())
    optimizer = steepest.DAdaptSGD([p], lr=lr)
    for _ in range(300):
        p.grad = curvature * p.detach()
        optimizer.step()
        assert optimizer.param_groups[0]["d"] <= distance
    assert (float(p.detach().norm()) > 1e3, float(p.detach().norm()) < 0.1) == (diverges, not diverges)


@every_free_class
@every_executor
def test_gradients_of_zero_from_the_start_do_nothing(cls: type[Optimizer], executor: str) -> None:
    params, kept = quadratic(), quadratic()
    optimizer = cls(params, **SWITCHES[executor])
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(map(torch.equal, params, kept))
    numbers = kept_numbers(optimizer)[0]
    assert all(math.isfinite(x) for x in numbers.values())
    if "d" in numbers:
        assert (numbers["d"], numbers["k"]) == (1e-6, 0)
    descend(optimizer, 2)
    assert all(p.isfinite().all() for p in params)


@every_free_class
def test_lr_is_a_factor_that_is_not_searched(cls: type[Optimizer]) -> None:
    assert cls.fields["lr"].default == 1.0
    assert cls.fields["lr"].search is None
    assert cls.takes_schedule == (cls in SEARCHING)


@every_searching_class
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_scale_of_the_loss_does_not_matter(cls: type[Optimizer], scale: float) -> None:
    options: dict[str, Any] = {"eps": 0.0} if "eps" in cls.fields else {}
    if cls is steepest.DAdaptAdam:
        options = {"eps": 1e-200}  # the first ratio is s/√v = 0/0 without it
    one, other = (cls(quadratic(), d0=1e-2, **options) for _ in range(2))
    for p, q in zip(descend(one, 30), descend(other, 30, scale), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)
    assert one.param_groups[0]["d"] == pytest.approx(other.param_groups[0]["d"], rel=1e-9)
    assert one.param_groups[0]["d"] > 1e-2


@every_searching_class
def test_a_group_whose_rate_is_zero_rests_and_counts_for_nothing(cls: type[Optimizer]) -> None:
    params, alone = quadratic(), quadratic()
    both = cls([{"params": params[:1]}, {"params": params[1:], "lr": 0.0}], d0=1e-2)
    one = cls(alone[:1], d0=1e-2)
    for _ in range(10):
        give(params)
        give(alone)
        both.step()
        one.step()
    assert torch.equal(params[1], quadratic()[1])
    torch.testing.assert_close(params[0], alone[0], rtol=1e-12, atol=1e-12)
    assert [group["d"] for group in both.param_groups] == [pytest.approx(one.param_groups[0]["d"], rel=1e-12)] * 2
    both.param_groups[1]["lr"] = 0.5
    with pytest.raises(ValueError, match=r"they need one lr, not 1\.0, 0\.5; a group that rests has lr=0"):
        both.step()


@pytest.mark.parametrize("cls", [MoMo, MoMoAdam])
@every_executor
def test_a_group_of_momo_whose_rate_is_zero_rests_and_counts_for_nothing(cls: type[Optimizer], executor: str) -> None:
    params, alone = quadratic(), quadratic()
    switch = SWITCHES[executor]
    both = cls([{"params": params[:1]}, {"params": params[1:], "lr": 0.0}], weight_decay=0.1, **switch)
    one = cls(alone[:1], weight_decay=0.1, **switch)
    for _ in range(10):
        loss = give(params)
        give(alone)
        both.step(loss=loss)
        one.step(loss=loss)
    assert torch.equal(params[1], quadratic()[1])
    assert not any(x.any() for name, x in both.state[params[1]].items() if name != "step")
    torch.testing.assert_close(params[0], alone[0], rtol=1e-12, atol=1e-12)
    assert not torch.equal(params[0], quadratic()[0])


@every_searching_class
def test_a_group_that_comes_to_rest_keeps_its_state(cls: type[Optimizer]) -> None:
    params = quadratic()
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}], d0=1e-2)
    descend(optimizer, 5)
    before = {name: x.clone() for name, x in optimizer.state[params[1]].items()}
    p = params[1].detach().clone()
    optimizer.param_groups[1]["lr"] = 0.0
    descend(optimizer, 5)
    assert torch.equal(params[1], p)
    assert all(torch.equal(x, before[name]) for name, x in optimizer.state[params[1]].items())


@every_searching_class
def test_a_search_that_lost_its_numerator_is_not_resumed(cls: type[Optimizer]) -> None:
    optimizer = cls(quadratic(), d0=1e-2)
    descend(optimizer, 5)
    saved = through_file(optimizer.state_dict())
    name = "d_numerator" if cls is Prodigy else "numerator_weighted"
    del saved["param_groups"][0][name]
    with pytest.raises(ValueError, match=f"the state dict has lost {name}, which its groups keep"):
        cls(quadratic()).load_state_dict(saved)


@every_searching_class
def test_growth_is_bounded(cls: type[Optimizer]) -> None:
    free, slow = cls(quadratic(), d0=1e-3), cls(quadratic(), d0=1e-3, growth_rate=1.02)
    for _ in range(20):
        before = slow.param_groups[0]["d"]
        descend(slow, 1)
        descend(free, 1)
        assert slow.param_groups[0]["d"] <= max(1.02 * before, free.param_groups[0]["d"] if before == 1e-3 else 0)
    assert slow.param_groups[0]["d"] < free.param_groups[0]["d"]
    assert cls(quadratic(), growth_rate=math.inf).param_groups[0]["growth_rate"] is None


# -- Prodigy ---------------------------------------------------------------------------------------------------------


def test_prodigys_first_step_is_a_sign() -> None:
    """d0·η(1 - β1)/√(1 - β2) = 3.1623 d0·η for every coordinate, and d does not move, because p is p0."""
    params, start = quadratic(), quadratic()
    optimizer = Prodigy(params, d0=1e-3, eps=0.0)
    descend(optimizer, 1)
    for p, q in zip(params, start, strict=True):
        torch.testing.assert_close(q - p, 0.1 / math.sqrt(0.001) * 1e-3 * (q - 1).sign(), rtol=1e-9, atol=0)
    assert optimizer.param_groups[0]["d"] == 1e-3


def test_prodigys_first_rise_is_whole_and_later_ones_are_bounded() -> None:
    """d0's rule: as long as d is d0 it may jump, from then on it grows by growth_rate at most (prodigy #27)."""
    optimizer = Prodigy(quadratic(), growth_rate=1.1)
    seen = [1e-6]
    for _ in range(8):
        descend(optimizer, 1)
        seen.append(optimizer.param_groups[0]["d"])
    ratios = [b / a for a, b in itertools.pairwise(seen)]
    first = next(i for i, ratio in enumerate(ratios) if ratio > 1)
    assert all(ratio <= 1.1 * 1.0000001 for ratio in ratios[first + 1 :])


def test_clipping_makes_d_larger() -> None:
    """A trap of the method and not of a package (prodigy #13): it sees gradients that stay large as the loss falls."""
    free, clipped = Prodigy(quadratic(), d0=1e-2), Prodigy(quadratic(), d0=1e-2, max_norm=0.1)
    descend(free, 60)
    descend(clipped, 60)
    assert clipped.param_groups[0]["d"] > free.param_groups[0]["d"]


def test_a_distance_for_each_group_is_an_optimizer_for_each() -> None:
    """One number for all is the method; prodigy #20 asks for more."""
    params = quadratic()
    one, other = Prodigy(params[:1], d0=1e-2), Prodigy(params[1:], d0=1e-2)
    for _ in range(10):
        give(params)
        one.step()
        other.step()
    assert one.param_groups[0]["d"] != other.param_groups[0]["d"]


def test_parameters_of_zero_have_a_start_of_their_own_shape() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = Prodigy([p])
    p.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.state[p]["p0"].shape == (3,)


# -- D-Adaptation ----------------------------------------------------------------------------------------------------


def test_the_first_norm_of_dadapt_sgd_has_the_decay() -> None:
    """dadaptation adds λθ there out of place, and loses it: the first norm is then that of g alone."""
    params = quadratic()
    optimizer = steepest.DAdaptSGD(params, weight_decay=0.5)
    give(params)
    lost = math.sqrt(sum(float((p.grad**2).sum()) for p in params if p.grad is not None))
    whole = math.sqrt(sum(float(((p.grad + 0.5 * p.detach()) ** 2).sum()) for p in params if p.grad is not None))
    optimizer.step()
    assert optimizer.param_groups[0]["g0_norm"] == pytest.approx(whole, rel=1e-12)
    assert abs(whole - lost) > 0.1 * whole


# -- DoG -------------------------------------------------------------------------------------------------------------


def test_dog_is_of_groups_and_dowg_of_all() -> None:
    """Dividing the parameters makes another DoG, with a distance for each group."""
    for cls, same in ((steepest.DoG, False), (steepest.DoWG, True), (steepest.LDoG, True)):
        params, divided = quadratic(), quadratic()
        descend(cls(params), 20)
        descend(cls([{"params": divided[:1]}, {"params": divided[1:]}]), 20)
        near = [torch.allclose(p, q, rtol=1e-9) for p, q in zip(params, divided, strict=True)]
        assert all(near) == same, cls


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
def test_dog_takes_parameters_without_gradients(name: str) -> None:
    params = quadratic()
    optimizer = CLASSES[name.lower()](params)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert params[1] not in optimizer.state
    assert set(optimizer.state_dict()["state"]) == {0}  # no flag among the parameters


def test_dogs_sums_of_half_types_are_wide() -> None:
    p = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    optimizer = steepest.LDoG([p])
    for _ in range(600):
        p.grad = torch.full_like(p, 1.0)
        optimizer.step()
    assert optimizer.state[p]["G"].dtype == torch.float32
    assert float(optimizer.state[p]["G"]) == pytest.approx(4800, rel=1e-3)  # bfloat16 stops at 2048


def test_dogs_average_is_the_polynomial_one() -> None:
    params = quadratic()
    optimizer = steepest.DoG(params, ema_decay="polynomial", reps_rel=0.1)
    mean = params[0].detach().clone()
    for t in range(1, 20):
        descend(optimizer, 1)
        mean = mean + (1 + 8) / (t + 8) * (params[0].detach() - mean)
    with optimizer.averaged():
        torch.testing.assert_close(params[0].detach(), mean, rtol=1e-12, atol=1e-12)


def test_dowgs_eps_is_added_as_it_is() -> None:
    """The package dowg divides by √v + 1 - ε."""
    params, start = quadratic(), quadratic()
    give(params)
    square = 1e-4 * sum(float((p.grad**2).sum()) for p in params if p.grad is not None)
    steepest.DoWG(params, eps=1e-4).step()
    for p, q in zip(params, start, strict=True):
        torch.testing.assert_close(p.detach(), q - 1e-4 / (math.sqrt(square) + 1e-4) * (q - 1), rtol=1e-12, atol=1e-12)


# -- MoMo ------------------------------------------------------------------------------------------------------------

MOMO: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1, "lower_bound": 0.5},
    {"adapt_lower_bound": True, "lower_bound": -3.0, "beta": 0.5},
    {"maximize": True, "lower_bound": -9.0},
]


MOMOS: list[tuple[str, dict[str, Any]]] = [
    *(("momo", options) for options in MOMO),
    ("momoadam", {}),
    ("momoadam", {"weight_decay": 0.1, "lower_bound": 0.5, "eps": 0.1}),
    ("momoadam", {"adapt_lower_bound": True, "lower_bound": -3.0, "betas": (0.5, 0.9), "weight_decay": 0.1}),
    ("momoadam", {"maximize": True, "lower_bound": -9.0}),
]


@every_executor
@pytest.mark.parametrize(("name", "options"), MOMOS, ids=str)
def test_momo_is_its_oracle(name: str, options: dict[str, Any], executor: str) -> None:
    theta0, grads = problem(3, [(3, 4), (5,), ()], 10)
    losses, rates = [5.0 / (k + 1) for k in range(10)], [1.0 + k for k in range(10)]
    params = [torch.nn.Parameter(torch.tensor(x)) for x in theta0]
    optimizer = CLASSES[name](params, **options, **SWITCHES[executor])
    assert optimizer.executor == executor
    for loss, rate, of_step in zip(losses, rates, grads, strict=True):
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step(loss=loss)
    assert_equal(optimizer, params, ORACLES[name](theta0, grads, lr=rates, loss=losses, **options), 1e-12)


def test_momo_reaches_the_least_loss_with_polyaks_rate() -> None:
    """With the least loss known a quadratic of one curvature is solved by halves, however large η is."""
    params = quadratic()
    optimizer = MoMo(params, lr=1e6, beta=0.0)
    for _ in range(40):
        optimizer.step(loss=give(params))
    assert give(params) < 1e-12


def test_the_loss_of_a_closure_is_that_of_the_step() -> None:
    params, plain = quadratic(), quadratic()
    optimizer, other = MoMo(params), MoMo(plain)
    for _ in range(5):
        assert optimizer.step(lambda: torch.tensor(give(params), dtype=F64)) is not None
        assert other.step(loss=torch.tensor(give(plain), dtype=F64)) is None
    assert all(map(torch.equal, params, plain))
    assert kept_numbers(optimizer) == kept_numbers(other)


def test_a_step_without_a_loss_says_what_to_give() -> None:
    optimizer = MoMo(params := quadratic())
    give(params)
    with pytest.raises(ValueError, match=r"MoMo depends on the loss, .* call step\(loss=loss"):
        optimizer.step()
    assert not optimizer.state


def test_other_rules_ignore_the_loss() -> None:
    params, plain = quadratic(), quadratic()
    give(params)
    give(plain)
    steepest.AdamW(params).step(loss=1.0)
    steepest.AdamW(plain).step()
    assert all(map(torch.equal, params, plain))


def test_a_grad_scaler_hands_the_loss_over() -> None:
    params, plain = quadratic(torch.float32), quadratic(torch.float32)
    optimizer, other = MoMo(params), MoMo(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    loss = give(params)
    scaler.scale(torch.zeros(()))
    for p in params:
        p.grad = None if p.grad is None else 4 * p.grad
    scaler.step(optimizer, loss=loss)
    give(plain)
    other.step(loss=loss)
    for p, q in zip(params, plain, strict=True):
        torch.testing.assert_close(p, q)


def test_a_study_gives_momo_the_loss() -> None:
    from steepest.study.trials.optimizers import loss_for

    params = quadratic()
    assert loss_for(MoMo(params), 2.0) == {"loss": 2.0}
    assert loss_for(steepest.AdamW(params), 2.0) == loss_for(torch.optim.SGD(params), 2.0) == {}
    assert steepest.info("momo").needs == steepest.info("momoadam").needs == ("loss",)
