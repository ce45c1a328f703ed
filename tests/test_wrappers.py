"""Wrappers: optimizers around any optimizer, with its groups, and what a torch.optim.Optimizer has."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steepest
from steepest.wrappers import ASAM, GSAM, SAM, Extragradient, Mechanic, Outer, Wrapper
from steepest.wrappers import WRAPPERS as WRAPPERS_BY_NAME

Base = Callable[[Any], torch.optim.Optimizer]

WRAPPERS: dict[str, Callable[[torch.optim.Optimizer], Wrapper]] = {
    "sam": SAM,
    "asam": ASAM,
    "gsam": GSAM,
    "extragradient": Extragradient,
    "mechanic": Mechanic,
    "mechanic, with delta": lambda base: Mechanic(base, store_delta=True),
    "outer": lambda base: Outer(base, momentum=0.5, every=2),
    "outer around sam": lambda base: Outer(SAM(base), momentum=0.5, every=2),
    "outer around outer": lambda base: Outer(Outer(base, momentum=0.0, every=2), momentum=0.2, every=3),
}
BASES: dict[str, Base] = {
    "torch": lambda params: torch.optim.AdamW(params, lr=0.05),
    "ours": lambda params: steepest.AdamW(params, lr=0.05),
    "without state": lambda params: torch.optim.SGD(params, lr=0.05),
}


@pytest.fixture(params=WRAPPERS.values(), ids=WRAPPERS)
def wrapper(request: pytest.FixtureRequest) -> Callable[[torch.optim.Optimizer], Wrapper]:
    found: Callable[[torch.optim.Optimizer], Wrapper] = request.param
    return found


@pytest.fixture(params=BASES.values(), ids=BASES)
def base(request: pytest.FixtureRequest) -> Base:
    found: Base = request.param
    return found


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        x = torch.randn(8, 4, generator=generator, dtype=torch.float64)
        yield x, x.sum(1, keepdim=True) / 2


def closure_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]
) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(batch[0]) - batch[1]).square().mean()
        loss.backward()
        return loss

    return closure


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, skip: int = 0) -> list[float]:
    source = batches()
    for _ in range(skip):
        next(source)
    return [optimizer.step(closure_of(model, optimizer, next(source))).item() for _ in range(steps)]


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# -- what a torch.optim.Optimizer has --------------------------------------------------------------------------------


def test_it_is_an_optimizer_that_shares_groups(wrapper: Any, base: Base) -> None:
    model = network()
    inside = base(model.parameters())
    optimizer = wrapper(inside)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is inside.param_groups
    assert optimizer.state is inside.state
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)  # no warning: the suite makes them errors
    train(model, optimizer, 2)
    scheduler.step()
    assert inside.param_groups[0]["lr"] == 0.025
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.0125


def test_it_learns(wrapper: Any, base: Base) -> None:
    model = network()
    optimizer = wrapper(base(model.parameters()))
    losses = train(model, optimizer, 400 if isinstance(optimizer, Mechanic) else 60)  # its scale starts at 1e-8
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_hooks_run_once_a_step(wrapper: Any) -> None:
    model = network()
    optimizer = wrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    seen: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: seen.append(name)

    optimizer.register_step_pre_hook(note("before"))
    optimizer.register_step_post_hook(note("after"))
    optimizer.register_state_dict_pre_hook(note("saving"))
    optimizer.register_state_dict_post_hook(note("saved"))
    optimizer.register_load_state_dict_pre_hook(note("loading"))
    optimizer.register_load_state_dict_post_hook(note("loaded"))
    train(model, optimizer, 2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", "after"] * 2 + ["saving", "saved", "loading", "loaded"]


def test_a_saving_hook_sees_both_levels() -> None:
    optimizer = Outer(torch.optim.SGD(network().parameters(), lr=0.1))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "levels": list(saved)})
    assert optimizer.state_dict()["levels"] == ["state", "param_groups", "wrapper"]


def test_a_loading_hook_may_replace_the_checkpoint() -> None:
    optimizer = Outer(torch.optim.SGD(network().parameters(), lr=0.1))
    replaced = copy.deepcopy(optimizer.state_dict())
    replaced["param_groups"][0]["lr"] = 0.123
    optimizer.register_load_state_dict_pre_hook(lambda *_: replaced)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.123


@pytest.mark.parametrize("at", [1, 2, 3])
def test_saved_and_loaded_it_goes_on(wrapper: Any, base: Base, at: int) -> None:
    """Through a file that is read with weights_only, into an optimizer of a model that has moved elsewhere."""
    model = network()
    optimizer = wrapper(base(model.named_parameters()))
    train(model, optimizer, at)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    other = network()
    resumed = wrapper(base(other.named_parameters()))
    train(other, resumed, 3)
    file.seek(0)
    saved_model, saved = torch.load(file, weights_only=True)
    other.load_state_dict(saved_model)
    resumed.load_state_dict(saved)
    assert train(model, optimizer, 5, skip=at) == train(other, resumed, 5, skip=at)
    assert equal(weights(model), weights(other))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_copied_it_goes_on(wrapper: Any, base: Base, copied: Callable[[Any], Any]) -> None:
    model = network()
    optimizer = wrapper(base(model.parameters()))
    optimizer.register_step_pre_hook(lambda *_: None)  # cannot be pickled, and is left out as in torch
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # puts a wrapper around step
    train(model, optimizer, 3)
    other, resumed = copied((model, optimizer))
    assert train(model, optimizer, 4, skip=3) == train(other, resumed, 4, skip=3)
    assert equal(weights(model), weights(other))


def test_state_finds_its_parameter_by_name_around_ours() -> None:
    """Ours match state by name where both sides have names; the slow weights must follow."""
    model = network()
    names = dict(model.named_parameters())
    optimizer = Outer(steepest.AdamW(list(names.items())), every=10)
    train(model, optimizer, 3)
    resumed = Outer(steepest.AdamW(list(reversed(names.items()))), every=10)
    resumed.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(resumed.own[p]["slow"], optimizer.own[p]["slow"]) for p in model.parameters())


def test_a_plain_optimizer_s_state_begins_a_new_wrapper_s_and_the_other_way_round(wrapper: Any, base: Base) -> None:
    model = network()
    plain = base(model.parameters())
    train(model, plain, 3)
    other = network()
    optimizer = wrapper(base(other.parameters()))
    train(other, optimizer, 3)
    other.load_state_dict(model.state_dict())
    optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))  # torch's classes share what they load
    fresh = wrapper(plain)
    assert train(other, optimizer, 5) == train(model, fresh, 5)
    base(other.parameters()).load_state_dict(optimizer.state_dict())


def test_another_wrapper_s_state_is_refused() -> None:
    params = list(network().parameters())
    saved = Outer(torch.optim.SGD(params, lr=0.1)).state_dict()
    with pytest.raises(ValueError, match=r"is that of Outer, and this optimizer is SAM"):
        SAM(torch.optim.SGD(params, lr=0.1)).load_state_dict(saved)


def test_a_group_that_is_added_later_is_trained(wrapper: Any, base: Base) -> None:
    model = network()
    first, _, last = model
    optimizer = wrapper(base(last.parameters()))
    train(model, optimizer, 3)
    optimizer.add_param_group({"params": list(first.parameters()), "lr": 0.01})
    before = first.weight.detach().clone()
    train(model, optimizer, 7)
    assert len(optimizer.param_groups) == 2
    assert not torch.equal(first.weight, before)


def test_parameters_without_gradients_stay(wrapper: Any, base: Base) -> None:
    model = network()
    first, _, _ = model
    first.requires_grad_(False)
    before = first.weight.detach().clone()
    train(model, wrapper(base(model.parameters())), 7)
    assert torch.equal(first.weight, before)


def test_no_gradient_at_all_moves_nothing(wrapper: Any, base: Base) -> None:
    model = network()
    before = weights(model)
    optimizer = wrapper(base(model.parameters()))
    for _ in range(4):
        assert optimizer.step(lambda: None) is None  # a closure may return None
    assert equal(weights(model), before)


@pytest.mark.parametrize("given", [torch.optim.SGD, None, 3], ids=["class", "none", "number"])
def test_it_is_built_around_an_optimizer(given: Any) -> None:
    with pytest.raises(TypeError, match=r"Mechanic is built around an optimizer, not .*: Mechanic\(AdamW"):
        Mechanic(given)


def test_the_repr_tells_the_settings() -> None:
    told = repr(SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=0.2))
    assert told.startswith("SAM(rho=0.2, adaptive=False, eta=0.0")
    assert "around SGD" in told


def test_what_the_base_can_do_is_lent() -> None:
    optimizer = SAM(steepest.SGD(network().parameters(), ema_decay=0.9))
    assert optimizer.executor == optimizer.base.executor  # type: ignore[attr-defined]
    with optimizer.averaged():
        pass
    assert not hasattr(SAM(torch.optim.SGD(network().parameters())), "averaged")
    with pytest.raises(AttributeError, match="'SAM' object has no attribute 'nonsense'"):
        optimizer.nonsense  # noqa: B018


def test_sam_around_schedule_free_switches_its_weights() -> None:
    model = network()
    optimizer = SAM(steepest.AdamWScheduleFree(model.parameters(), lr=0.05))
    train(model, optimizer, 4)
    trained = weights(model)
    optimizer.eval()
    assert not equal(weights(model), trained)
    optimizer.train()
    assert equal(weights(model), trained)


# -- SAM ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [SAM, ASAM, lambda o, rho: GSAM(o, rho_max=rho, alpha=0.0)], ids=["SAM", "ASAM", "GSAM"]
)
def test_a_radius_of_zero_is_the_base_bit_by_bit(kind: Any, base: Base) -> None:
    plain, model = network(), network()
    losses = train(plain, base(plain.parameters()), 10)
    assert train(model, kind(base(model.parameters()), rho=0.0), 10) == losses
    assert equal(weights(model), weights(plain))


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_on_a_quadratic_by_hand(adaptive: bool) -> None:
    """Two groups, one norm; each with a rate of its own. The scale of ASAM is abs(p) + eta."""
    curvature = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    start = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    p, q = nn.Parameter(start[:2].clone()), nn.Parameter(start[2:].clone())
    target = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    groups = [{"params": [p]}, {"params": [q], "lr": 0.2}]
    optimizer = SAM(groups, torch.optim.SGD, rho=0.3, adaptive=adaptive, eta=0.1 if adaptive else 0.0, lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (curvature * (torch.cat([p, q]) - target).square()).sum() / 2
        loss.backward()
        return loss

    x, rates = start, torch.tensor([0.1, 0.1, 0.2], dtype=torch.float64)
    for _ in range(3):
        loss = closure().item()
        assert optimizer.step(closure).item() == loss  # the first loss
        g = curvature * (x - target)
        t = x.abs() + 0.1 if adaptive else torch.ones(3, dtype=torch.float64)
        x = x - rates * curvature * (x + 0.3 * t * t * g / (t * g).norm() - target)
        torch.testing.assert_close(torch.cat([p, q]).detach(), x, rtol=1e-12, atol=1e-12)


def test_the_weights_come_back_bit_by_bit() -> None:
    """p + e - e rounds; the copy does not. A rate of 0 shows it."""
    model = network().float()
    before = weights(model)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=1e4)
    x = torch.randn(8, 4)
    optimizer.step(closure_of(model, optimizer, (x, x.sum(1, keepdim=True))))
    assert equal(weights(model), before)
    moved = before[0] + 1e4 - 1e4
    assert not torch.equal(moved, before[0])


def test_two_calls_are_the_closure() -> None:
    one, other = network(), network()
    by_closure, by_hand = (SAM(torch.optim.SGD(m.parameters(), lr=0.1)) for m in (one, other))
    train(one, by_closure, 5)
    for _, batch in zip(range(5), batches(), strict=False):
        closure_of(other, by_hand, batch)()
        by_hand.first_step(zero_grad=True)
        assert all(p.grad is None for p in other.parameters())
        (other(batch[0]) - batch[1]).square().mean().backward()
        by_hand.second_step(zero_grad=True)
    assert equal(weights(one), weights(other))


def test_a_schedule_sees_the_steps_of_two_calls() -> None:
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    batch = next(batches())
    closure_of(model, optimizer, batch)()
    optimizer.first_step()
    closure_of(model, optimizer, batch)()
    optimizer.second_step()
    scheduler.step()  # would warn, and so fail, had no step been seen


def test_saved_between_the_two_calls_it_goes_on() -> None:
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    batch = next(batches())
    closure_of(model, optimizer, batch)()
    optimizer.first_step()
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    other = network()
    resumed = SAM(torch.optim.SGD(other.parameters(), lr=0.1))
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for m, o in ((model, optimizer), (other, resumed)):
        closure_of(m, o, batch)()
        o.second_step()
    assert equal(weights(model), weights(other))


def test_calls_out_of_order_say_what_to_do() -> None:
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    closure = closure_of(model, optimizer, next(batches()))
    with pytest.raises(TypeError, match=r"SAM needs the gradient twice: give step\(\) a closure that does zero_grad"):
        optimizer.step()
    with pytest.raises(RuntimeError, match=r"follows first_step\(\)"):
        optimizer.second_step()
    closure()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match=r"first_step\(\) was called twice"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match=r"after first_step\(\) would begin anew"):
        optimizer.step(closure)


def test_the_closure_has_all_calls() -> None:
    """davda54's and pytorch_optimizer's call it for the second gradient only, and presume the first."""
    calls: list[bool] = []
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    inner = closure_of(model, optimizer, next(batches()))

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        return inner()

    with torch.no_grad():
        optimizer.step(closure)
    assert calls == [True, True]


def test_a_second_pass_that_fails_leaves_the_weights() -> None:
    model = network()
    before = weights(model)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    inner = closure_of(model, optimizer, next(batches()))
    calls: list[int] = []

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("gone")
        return inner()

    with pytest.raises(OSError, match="gone"):
        optimizer.step(closure)
    assert equal(weights(model), before)
    optimizer.step(inner)


def test_gradients_of_zero_move_nothing() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1))
    optimizer.step(lambda: (p * 0).sum().backward())
    assert torch.equal(p, torch.ones(3))


@pytest.mark.parametrize("size", [1e-10, 1e25])
def test_gradients_whose_squares_leave_float32(size: float) -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = SAM(torch.optim.SGD([p], lr=0.0), rho=0.5)
    p.grad = torch.tensor([3.0, 4.0]) * size
    optimizer.first_step()
    torch.testing.assert_close(p.detach(), torch.tensor([1.3, 1.4]), rtol=0.02, atol=0)  # 1e-12 counts in 5e-10


def test_a_group_has_a_radius_of_its_own_but_adadelta_s_rho_is_its_own() -> None:
    p, q = (nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = SAM([{"params": [p], "rho": 0.0}, {"params": [q]}], torch.optim.SGD, rho=0.5, lr=0.1)
    p.grad, q.grad = torch.ones(1), torch.ones(1)
    optimizer.first_step()
    assert (p.item(), q.item()) == (1.0, pytest.approx(1 + 0.5 / 2**0.5))
    optimizer = SAM(torch.optim.Adadelta([nn.Parameter(torch.ones(1))], rho=0.9), rho=0.5)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
    optimizer.first_step()
    assert optimizer.param_groups[0]["params"][0].item() == pytest.approx(1.5)


def test_asam_s_group_without_scale_moves_along_its_gradient() -> None:
    w, b = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    groups = [{"params": [w]}, {"params": [b], "adaptive": False}]
    optimizer = ASAM(groups, torch.optim.SGD, rho=0.5, eta=0.0, lr=0.1)
    w.grad, b.grad = torch.ones(1), torch.ones(1)
    optimizer.first_step()
    norm = (2**2 + 1) ** 0.5
    assert (w.item(), b.item()) == (pytest.approx(2 + 0.5 * 4 / norm), pytest.approx(2 + 0.5 / norm))


def test_half_weights_are_moved_in_float32() -> None:
    """In float16 rho / norm would be infinite."""
    p = nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimizer = SAM(torch.optim.SGD([p], lr=0.0), rho=0.5)
    p.grad = torch.tensor([6e-7, 0.0], dtype=torch.float16)
    optimizer.first_step()
    assert p.tolist() == [1.5, 1.0]


class Noisy(nn.Module):
    """BatchNorm and dropout: what two passes change twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.drop = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.average = nn.BatchNorm1d(3, momentum=None)
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.average(self.norm(self.first(x)))
        kept = self.drop(torch.ones_like(x))
        self.masks.append(kept)
        return (x * kept).sum(1, keepdim=True)


@pytest.mark.parametrize("by_closure", [True, False])
def test_statistics_of_the_first_pass_only_on_request(by_closure: bool) -> None:
    x = torch.randn(8, 4)
    batch = (x, x.sum(1, keepdim=True))
    once = Noisy()
    once(x)
    found: dict[bool, Noisy] = {}
    for asked in (True, False):
        model = found[asked] = Noisy()
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), model=model if asked else None)
        closure = closure_of(model, optimizer, batch)
        if by_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.first_step()
            closure()
            optimizer.second_step()
    for name in ("norm", "average"):
        want, got, twice = (getattr(m, name) for m in (once, found[True], found[False]))
        assert torch.equal(got.running_mean, want.running_mean)
        assert torch.equal(got.running_var, want.running_var)
        assert (int(got.num_batches_tracked), int(twice.num_batches_tracked)) == (1, 2)
    assert not torch.equal(found[False].norm.running_mean, once.norm.running_mean)


@pytest.mark.parametrize("same", [True, False])
def test_both_passes_drop_the_same_units_on_request(same: bool) -> None:
    model, x = Noisy(), torch.randn(8, 4)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), same_dropout=same)
    closure = closure_of(model, optimizer, (x, x.sum(1, keepdim=True)))
    for _ in range(2):
        optimizer.step(closure)
    equal_pairs = [torch.equal(a, b) for a, b in pairwise(model.masks)]
    assert equal_pairs == [same, False, same]  # and the next step draws anew
    if same:
        with pytest.raises(RuntimeError, match=r"call step\(closure\)"):
            optimizer.first_step()


class Scaled:
    """A training step under a GradScaler on the CPU, with gradients that a test may spoil."""

    def __init__(self, kind: Callable[[torch.optim.Optimizer], Any], **options: Any) -> None:
        self.model = network().float()
        self.optimizer = kind(steepest.AdamW(self.model.parameters(), lr=0.1, **options))
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        self.batch = tuple(x.float() for x in next(batches()))

    def backward(self, spoiled: bool = False) -> None:
        loss = (self.model(self.batch[0]) - self.batch[1]).square().mean()
        self.scaler.scale(loss).backward()
        if spoiled:
            grad = next(self.model.parameters()).grad
            assert grad is not None
            grad[0, 0] = torch.inf


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("kind", [SAM, ASAM, GSAM])
def test_a_scaler_changes_nothing(kind: Any, fused: bool | None) -> None:
    run = Scaled(kind, fused=fused)
    plain = network().float()
    optimizer = kind(steepest.AdamW(plain.parameters(), lr=0.1))
    for _ in range(3):
        run.optimizer.zero_grad()
        run.backward()
        run.optimizer.first_step(zero_grad=True)
        run.backward()
        run.scaler.step(run.optimizer)
        run.scaler.update()
        optimizer.step(closure_of(plain, optimizer, run.batch))  # type: ignore[arg-type]
    for got, want in zip(weights(run.model), weights(plain), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [1, 2])
@pytest.mark.parametrize("kind", [SAM, ASAM, GSAM])
def test_an_infinite_gradient_in_either_pass_skips_both(kind: Any, bad: int) -> None:
    run = Scaled(kind)
    before = weights(run.model)
    run.backward(spoiled=bad == 1)
    run.optimizer.first_step(zero_grad=True)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())  # so that BatchNorm sees nothing infinite
    run.backward(spoiled=bad == 2)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    assert equal(weights(run.model), before)
    assert not any("exp_avg" in held and held["exp_avg"].any() for held in run.optimizer.state.values())
    assert run.scaler.get_scale() == (512.0 if bad == 2 else 1024.0)
    run.optimizer.zero_grad()
    run.backward()
    run.optimizer.first_step(zero_grad=True)
    run.backward()
    run.scaler.step(run.optimizer)
    assert not equal(weights(run.model), before)


def test_two_unscale_calls_do_not_fail() -> None:
    """torch's scaler refuses the second of an iteration; first_step(scaler=...) begins a new one."""
    run, plain = Scaled(SAM), Scaled(SAM)
    for one in (run, plain):
        one.backward()
        if one is run:
            one.scaler.unscale_(one.optimizer)
        one.optimizer.first_step(zero_grad=True, scaler=one.scaler if one is run else None)
        one.backward()
        if one is run:
            one.scaler.unscale_(one.optimizer)  # to clip, say
        one.scaler.step(one.optimizer)
        one.scaler.update()
    assert run.scaler.get_scale() == 1024.0
    for got, want in zip(weights(run.model), weights(plain.model), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_without_a_scaler_an_infinite_gradient_is_not_hidden() -> None:
    """As with the base, the weights show it; a step that is left out in silence would train nothing."""
    p = nn.Parameter(torch.ones(2))
    optimizer = SAM(torch.optim.SGD([p], lr=0.1))
    optimizer.step(lambda: (p * torch.inf).sum().backward())
    assert not torch.isfinite(p).any()


def test_a_closure_under_a_scaler_is_refused() -> None:
    run = Scaled(SAM)
    run.backward()
    with pytest.raises(RuntimeError, match="does not see the gradients that a closure makes"):
        run.scaler.step(run.optimizer, lambda: None)


def test_gsam_refuses_a_second_gradient_of_another_scale() -> None:
    run = Scaled(GSAM)
    run.backward()
    run.optimizer.first_step(zero_grad=True)
    run.backward()
    run.scaler.unscale_(run.optimizer)
    with pytest.raises(RuntimeError, match="two gradients of one scale"):
        run.scaler.step(run.optimizer)


def test_mechanic_and_outer_step_under_a_scaler() -> None:
    for kind in (Mechanic, Outer):
        for fused in (None, True):
            run = Scaled(kind, fused=fused)
            before = weights(run.model)
            run.backward(spoiled=True)
            run.scaler.step(run.optimizer)
            run.scaler.update()
            assert equal(weights(run.model), before)
            run.optimizer.zero_grad()
            run.backward()
            run.scaler.step(run.optimizer)
            assert not equal(weights(run.model), before)


def test_users_of_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = network().float()
    prepared, optimizer = accelerate.Accelerator(cpu=True).prepare(
        model, SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    )
    before = weights(model)
    x = torch.randn(8, 4)
    optimizer.step(closure_of(prepared, optimizer, (x, x.sum(1, keepdim=True))))
    assert not equal(weights(model), before)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda p: SAM(p), r"SAM takes an optimizer, SAM\(SGD\(params, lr=0.1\)\), or parameters and a class"),
        (lambda p: SAM(p, torch.optim.SGD(p)), r"or parameters and a class with its options"),
        (lambda p: SAM(torch.optim.SGD(p), lr=0.1), r"built already, and lr; give these to it"),
        (lambda p: SAM(torch.optim.SGD(p), torch.optim.SGD), r"built already, and a class"),
    ],
)
def test_what_sam_is_built_from(made: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        made(list(network().parameters()))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda o: SAM(o, rho=-1.0), r"Invalid rho value: -1.0 \(rho must be a number >= 0\)"),
        (lambda o: ASAM(o, eta=-1.0), "Invalid eta value"),
        (lambda o: GSAM(o, rho_min=1.0), r"rho_min must be a number >= 0 and <= rho_max=0.05"),
        (lambda o: GSAM(o, lr_min=1.0), "Invalid lr_min value"),
        (lambda o: GSAM(o, alpha=-0.1), "Invalid alpha value"),
        (lambda o: SAM(steepest.LBFGS(o.param_groups[0]["params"])), "LBFGS asks for gradients itself"),
        (lambda o: Outer(steepest.MoMo(o.param_groups[0]["params"])), "MoMo steps by the loss of its own weights"),
        (lambda o: SAM(SAM(o)), "SAM asks for gradients itself"),
        (lambda o: Mechanic(o, betas=(1.0,)), "Invalid betas value"),
        (lambda o: Mechanic(o, betas=()), "Invalid betas value"),
        (lambda o: Mechanic(o, s_init=0.0), "Invalid s_init value"),
        (lambda o: Mechanic(o, s_decay=-1.0), "Invalid s_decay value"),
        (lambda o: Mechanic(steepest.SGD(o.param_groups, ema_decay=0.9)), r"ema_decay= would keep weights that nobody"),
        (
            lambda o: Mechanic(steepest.AdamWScheduleFree(o.param_groups)),
            r"AdamWScheduleFree, which evaluates other weights",
        ),
        (lambda o: Outer(steepest.SGD(o.param_groups, lookahead=(5, 0.5))), r"lookahead= would keep"),
        (lambda o: Outer(steepest.SGD(o.param_groups, gpa=(0.9, 0.7))), r"gpa= would keep"),
        (lambda o: Outer(o, every=0), "Invalid every value"),
        (lambda o: Outer(o, lr=0.0), "Invalid lr value"),
        (lambda o: Outer(o, momentum=1.0), "Invalid momentum value"),
    ],
)
def test_bad_arguments(made: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made(torch.optim.SGD(network().parameters(), lr=0.1))


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = SAM(torch.optim.SGD(table.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="takes dense gradients"):
        optimizer.step(lambda: table(torch.tensor([1])).sum().backward())


# -- GSAM, extragradient -----------------------------------------------------------------------------------------------


def test_gsam_by_hand() -> None:
    curvature = torch.tensor([3.0, 1.0], dtype=torch.float64)
    p = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = GSAM(torch.optim.SGD([p], lr=0.1), rho_max=0.3, rho_min=0.1, alpha=0.4)
    optimizer.param_groups[0]["lr"] = 0.05  # half of the largest: rho is 0.2

    def closure() -> None:
        optimizer.zero_grad()
        ((curvature * p.square()).sum() / 2).backward()

    x = p.detach().clone()
    g = curvature * x
    h = curvature * (x + 0.2 * g / g.norm())
    orthogonal = g - (g @ h) / (h @ h) * h
    optimizer.step(closure)
    torch.testing.assert_close(p.detach(), x - 0.05 * (h - 0.4 * orthogonal), rtol=1e-12, atol=1e-12)
    assert abs(orthogonal @ h) < 1e-12
    assert orthogonal.norm() > 0.01


def test_gsam_s_radius_stays_within_its_bounds() -> None:
    optimizer = GSAM(torch.optim.SGD(network().parameters(), lr=0.1), rho_max=0.3, rho_min=0.1, lr_min=0.01)
    for rate, radius in ((0.0, 0.1), (0.01, 0.1), (0.055, 0.2), (0.1, 0.3), (1.0, 0.3)):
        assert optimizer._rho_of({"lr": rate}) == pytest.approx(radius)
    warmed = torch.optim.SGD(network().parameters(), lr=0.1)
    torch.optim.lr_scheduler.LinearLR(warmed, 0.01, total_iters=10)
    assert GSAM(warmed).lr_max == 0.1


def test_extragradient_converges_where_descent_spirals_outwards() -> None:
    def distance(kind: Callable[[torch.optim.Optimizer], torch.optim.Optimizer]) -> float:
        x, y = (nn.Parameter(torch.ones(1)) for _ in range(2))
        optimizer = kind(torch.optim.SGD([{"params": [x]}, {"params": [y], "maximize": True}], lr=0.3))

        def closure() -> None:
            optimizer.zero_grad()
            (x * y).backward()

        for _ in range(100):
            optimizer.step(closure)  # type: ignore[arg-type]
        return torch.cat([x, y]).norm().item()

    assert distance(Extragradient) < 0.05
    assert distance(lambda base: base) > 10


def test_extragradient_refuses_a_scaler() -> None:
    run = Scaled(Extragradient)
    run.backward()
    run.optimizer.first_step(zero_grad=True)
    run.backward()
    with pytest.raises(RuntimeError, match="which a GradScaler has multiplied"):
        run.scaler.step(run.optimizer)


# -- outer steps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"lr": 0.7, "momentum": 0.9}, {"lr": 0.5, "momentum": 0.5, "nesterov": False}])
def test_outer_is_torch_s_sgd_on_the_slow_weights(options: dict[str, Any]) -> None:
    model, plain = network(), network()
    optimizer = Outer(torch.optim.AdamW(model.parameters(), lr=0.05), every=3, **options)
    inside = torch.optim.AdamW(plain.parameters(), lr=0.05)
    slow = [nn.Parameter(p) for p in weights(plain)]
    outside = torch.optim.SGD(slow, **{"nesterov": True, **options})
    for step, batch in zip(range(1, 13), batches(), strict=False):
        optimizer.step(closure_of(model, optimizer, batch))
        inside.step(closure_of(plain, inside, batch))
        if step % 3 == 0:
            with torch.no_grad():
                for s, p in zip(slow, plain.parameters(), strict=True):
                    s.grad = s - p
                outside.step()
                for s, p in zip(slow, plain.parameters(), strict=True):
                    p.copy_(s)
        for got, want in zip(weights(model), weights(plain), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


def test_without_momentum_it_is_lookahead() -> None:
    """Its first outer step moves: timm's Lookahead, whose slow weights start there, would not."""
    model, plain = network(), network()
    optimizer = Outer(steepest.AdamW(model.parameters(), lr=0.05), lr=0.5, momentum=0.0, every=5)
    lookahead = steepest.AdamW(plain.parameters(), lr=0.05, lookahead=(5, 0.5))
    source = batches()
    for step in range(1, 13):
        batch = next(source)
        before = weights(model)
        for m, o in ((model, optimizer), (plain, lookahead)):
            o.step(closure_of(m, o, batch))
        for got, want in zip(weights(model), weights(plain), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
        assert not equal(weights(model), before)
        with optimizer.averaged():
            mine = weights(model)
        with lookahead.averaged():
            theirs = weights(plain)
        for got, want in zip(mine, theirs, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
        assert equal(mine, weights(model)) == (step % 5 == 0)


def test_slow_weights_are_shown_and_not_trained() -> None:
    model = network()
    optimizer = Outer(torch.optim.SGD(model.parameters(), lr=0.1))
    start = weights(model)
    train(model, optimizer, 3)
    with optimizer.averaged():
        assert equal(weights(model), start)
        with pytest.raises(RuntimeError, match="would train the slow weights"):
            optimizer.step()
        with pytest.raises(RuntimeError, match="already inside"), optimizer.averaged():
            pass
    assert not equal(weights(model), start)
    with pytest.raises(ValueError, match="no average is called 'ema'"), optimizer.averaged("ema"):
        pass


def test_outer_around_sam_takes_two_calls() -> None:
    one, other = network(), network()
    by_closure, by_hand = (Outer(SAM(torch.optim.SGD(m.parameters(), lr=0.1)), every=2) for m in (one, other))
    train(one, by_closure, 4)
    for _, batch in zip(range(4), batches(), strict=False):
        closure_of(other, by_hand, batch)()
        by_hand.first_step()
        closure_of(other, by_hand, batch)()
        by_hand.step()
    assert equal(weights(one), weights(other))


# -- Mechanic ----------------------------------------------------------------------------------------------------------


def test_mechanic_finds_the_scale_of_a_rate_that_is_far_too_small() -> None:
    def last(rate: float) -> float:
        model = network()
        optimizer = Mechanic(torch.optim.SGD(model.parameters(), lr=rate))
        return sum(train(model, optimizer, 400)[-10:])

    def plain(rate: float) -> float:
        model = network()
        return sum(train(model, torch.optim.SGD(model.parameters(), lr=rate), 400)[-10:])

    assert last(1e-3) < 0.7 * plain(1e-3)
    assert last(1e-3) == pytest.approx(last(1e-1), rel=0.3)


def test_mechanic_starts_at_the_start() -> None:
    """Its scale is 0 before the first step and about 1e-8 after it, so that hardly anything moves."""
    model = network()
    start = weights(model)
    optimizer = Mechanic(torch.optim.SGD(model.parameters(), lr=0.1))
    assert optimizer.scale == 0.0
    train(model, optimizer, 1)
    assert all(torch.equal(optimizer.own[p]["ref"], s) for p, s in zip(model.parameters(), start, strict=True))
    assert max(float((a - b).abs().max()) for a, b in zip(weights(model), start, strict=True)) < 1e-3


def test_mechanic_calls_a_closure_once_and_lets_the_base_call_it_again() -> None:
    for kind, calls in ((lambda base: base, 1), (SAM, 2)):
        model = network()
        optimizer = Mechanic(kind(torch.optim.SGD(model.parameters(), lr=0.1)))
        inner = closure_of(model, optimizer, next(batches()))
        seen: list[float] = []

        def closure(inner: Any = inner, seen: list[float] = seen) -> Tensor:
            loss: Tensor = inner()
            seen.append(loss.item())
            return loss

        assert optimizer.step(closure).item() == seen[0]
        assert len(seen) == calls


# -- by name -----------------------------------------------------------------------------------------------------------


def test_by_name_it_is_built_around_a_base() -> None:
    model = network()
    made = steepest.create("sam", model, base="adamw", rho=0.1, lr=0.2, beta2=0.9)
    assert isinstance(made, steepest.SAM)
    assert isinstance(made.base, steepest.AdamW)
    assert (made.rho, made.param_groups[0]["lr"], made.param_groups[0]["betas"]) == (0.1, 0.2, (0.9, 0.9))
    assert isinstance(steepest.create("SAM", model).base, steepest.SGD)
    assert isinstance(steepest.create("mechanic", model).base, steepest.AdamW)
    assert isinstance(steepest.create("asam", model, base=torch.optim.SGD, lr=0.1).base, torch.optim.SGD)
    assert isinstance(steepest.create("asam", model.parameters(), base=steepest.Lion).base, steepest.Lion)
    nested = steepest.create("outer", model, base="sam", outer_lr=0.5, lr=0.2, rho=0.3)
    assert isinstance(nested, Outer)
    assert isinstance(nested.base, SAM)
    assert (nested.outer_lr, nested.base.rho, nested.param_groups[0]["lr"]) == (0.5, 0.3, 0.2)


def test_names_that_are_wrong_say_so() -> None:
    with pytest.raises(TypeError, match="base must be an optimizer's name or class, not 3"):
        steepest.create("sam", network(), base=3)
    with pytest.raises(ValueError, match=r"'sam' is built around an optimizer: steepest.create\('sam', model"):
        steepest.info("sam")
    with pytest.raises(ValueError, match="did you mean 'mechanic'"):
        steepest.create("mechanik", network())


def test_every_wrapper_is_found_and_its_options_are_its_arguments() -> None:
    for name, cls in WRAPPERS_BY_NAME.items():
        made = steepest.create(name, network())
        assert type(made) is cls
        assert set(cls.search) <= set(cls.options)
        assert cls.__doc__
        assert "Source:" in cls.__doc__
        assert "Differs:" in cls.__doc__
        assert cls(made.base if name in ("mechanic", "outer") else steepest.SGD(network().parameters()))
        for option, value in cls.usual().items():
            assert type(steepest.create(name, network(), **{option: value})) is cls
