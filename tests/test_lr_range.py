"""The learning-rate range test: what it finds, and that it leaves everything as it was."""

from __future__ import annotations

import copy
import itertools
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

import steepest
from steepest import LrRange, groups, lr_range
from steepest.sweep import Curve, Watch, _median, _result, smooth, steepest_rate

Batches = list[tuple[Tensor, Tensor]]


def data(batches: int = 8, seed: int = 0, size: int = 16) -> Batches:
    source = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(size, 4, generator=source) for _ in range(batches)]
    return [(x, x.sum(dim=1, keepdim=True)) for x in inputs]


class Net(nn.Module):
    """A model with everything that a training step may change, and that must come back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2)
        self.frozen, self.last = nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.register_buffer("count", torch.zeros(()), persistent=False)
        self.register_buffer("wide", torch.zeros(1, 3).expand(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return self.last(self.frozen(self.drop(self.norm(self.first(x)))))


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def parabola(curvature: float) -> tuple[nn.Module, Any, Batches]:
    """w²·h/2 from w = 1: gradient descent diverges above 2/h."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    return model, lambda out, _: curvature / 2 * out.square().mean(), [(torch.ones(1, 1), torch.zeros(1))]


# -- what it finds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [0.1, 1.0, 50.0])
def test_gradient_descent_on_a_parabola_diverges_above_two_over_its_curvature(curvature: float) -> None:
    found = lr_range(*parabola(curvature), "sgd", low=1e-4 / curvature, high=1e3 / curvature, repeats=1)
    (diverges,) = found.diverges
    assert diverges is not None
    assert 2 < diverges * curvature < 20
    assert found.recommended is not None
    assert 0.01 < found.recommended * curvature < 2
    assert found.recommended <= diverges / 10 * 1.0001


def test_the_loss_of_a_rate_is_the_one_after_its_step() -> None:
    """The trap: the loss that a step computes is that before it, so the curve would lag by one rate."""
    found = lr_range(*parabola(1.0), "sgd", low=0.01, high=1.5, steps=10, repeats=1)
    w, expected = 1.0, []
    for rate in found.rates:
        w -= rate * w
        expected.append(w * w / 2)
    assert found.losses[0] == pytest.approx(expected, rel=1e-4)
    assert len(found.losses[0]) == len(found.rates) == 10


def test_the_rates_are_equally_spaced_on_a_logarithmic_axis() -> None:
    rates = lr_range(*parabola(1.0), "sgd", low=1e-3, high=1e-1, steps=21, repeats=1).rates
    assert rates[0] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-1)
    assert [b / a for a, b in itertools.pairwise(rates)] == pytest.approx([10**0.1] * 20)


@pytest.mark.parametrize("name", ["sgd", "lion", "adamw"])
def test_the_range_is_the_declared_one_and_ten_times_beyond(name: str) -> None:
    search = steepest.info(name).fields["lr"].search
    rates = lr_range(net(), mse_loss, data(), name, steps=10, repeats=1).rates
    assert (rates[0], rates[-1]) == pytest.approx((search.low, 10 * search.high))


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "momentum", "signsgd"])
def test_the_recommended_rate_trains(name: str) -> None:
    model, batches = net(), data(8, size=128)
    found = lr_range(model, mse_loss, batches, name)
    assert found.recommended is not None
    low, high = min(found.candidates), max(found.candidates)
    assert low <= found.recommended <= high
    assert found.spread == pytest.approx(high / low)
    losses = {}
    for rate in (found.rates[0], found.recommended):
        trained = copy.deepcopy(model)
        optimizer = steepest.create(name, trained, lr=rate)
        for inputs, targets in batches * 20:
            optimizer.zero_grad()
            mse_loss(trained(inputs), targets).backward()
            optimizer.step()
        losses[rate] = mse_loss(trained(batches[0][0]), batches[0][1]).item()
    assert losses[found.recommended] < losses[found.rates[0]] / 2


def test_a_repeat_is_one_seed_and_the_call_repeats_itself() -> None:
    model = net()
    three = lr_range(model, mse_loss, data(), "adam", steps=20)
    assert three == lr_range(model, mse_loss, data(), "adam", steps=20)
    assert len({*three.losses}) == 3
    second = lr_range(model, mse_loss, data(), "adam", steps=20, repeats=1, seed=1)
    assert second.losses[0] == three.losses[1]


def test_the_mean_ends_where_the_first_repeat_ends() -> None:
    found = lr_range(net(), mse_loss, data(), "sgd", high=1e4)
    shortest = min(map(len, found.smoothed))
    assert len(found.mean) == shortest < len(found.rates)
    assert found.mean[0] == pytest.approx(sum(curve[0] for curve in found.smoothed) / 3)


def test_without_a_fall_nothing_is_recommended() -> None:
    source = torch.Generator().manual_seed(0)
    model, noise = nn.Linear(1, 1), torch.randn(200, generator=source)
    found = lr_range(model, lambda out, t: 0 * out.sum() + t, [(torch.ones(1, 1), n) for n in noise], "sgd")
    assert found.recommended is None
    assert found.candidates == ()
    assert math.isnan(found.spread)
    assert "no rate to recommend" in str(found)
    assert "in 3 of 3 repeats the loss fell by no more than its noise" in str(found)


def test_remarks() -> None:
    early = lr_range(*parabola(1.0), "sgd", low=0.3, high=1.0, repeats=1)
    assert any("try a smaller low" in remark for remark in early.remarks)
    assert any("not every repeat diverged up to 1" in remark for remark in early.remarks)
    assert "not every repeat" not in str(lr_range(*parabola(1.0), "sgd", high=1e3, repeats=1))


def test_the_text_has_the_rate_and_its_uncertainty() -> None:
    found = lr_range(net(), mse_loss, data(), "adam[beta2=0.9]", eps=1e-6)
    text = str(found)
    assert text.startswith("Adam[eps=1e-06,betas=(0.9,0.9)]: a learning rate of ")
    assert f"in 3 repeats, a factor of {found.spread:.2g}" in text
    assert text.splitlines()[2].split() == ["repeat", "steepest", "fall", "lowest", "loss", "diverges"]
    assert found.optimizer == "Adam[eps=1e-06,betas=(0.9,0.9)]"


def test_a_bump_on_the_way_is_no_fall() -> None:
    """The trap: the way down from a bump is the steepest part of the curve."""
    rates = [10.0**k for k in range(9)]
    curve = [10.0, 9.6, 8.0, 7.5, 12.0, 7.4, 7.3, 7.2, 11.0]
    assert steepest_rate(rates, curve, curve) == 10.0**2
    assert steepest_rate(rates, sorted(curve), sorted(curve)) is None


def test_a_tenth_of_the_diverging_rate_is_the_most_that_is_recommended() -> None:
    rates = tuple(10 ** (k / 10) for k in range(40))
    cliff = Curve(start=10.0, losses=[10.0] * 30 + [1.0] * 5, limit=20.0)
    calm = Curve(start=10.0, losses=[10.0] * 30 + [1.0] * 10, limit=None)
    found = _result("x", rates, [cliff, calm])
    assert found.diverges == (rates[34], None)
    assert found.candidates == pytest.approx((rates[34] / 10, math.sqrt(found.steepest[1] * found.lowest[1])))
    assert rates[25] < found.steepest[0] < found.lowest[0] == rates[34]
    assert found.candidates[1] < found.lowest[1]


def test_the_recommendation_is_the_median_of_the_candidates() -> None:
    assert _median([1.0, 5.0, 100.0]) == 5.0
    assert _median([1.0, 100.0]) == pytest.approx(10.0)


def test_smoothing_keeps_constants_and_straight_lines() -> None:
    assert smooth([3.0] * 9, 1.5) == pytest.approx([3.0] * 9)
    line = [float(i) for i in range(30)]
    assert smooth(line, 1.0)[5:-5] == pytest.approx(line[5:-5])


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [
        ([1.0] * 20, False),
        (torch.randn(99, generator=torch.Generator().manual_seed(0)).tolist(), False),
        ([1.0] * 10 + [math.nan], True),
        ([1.0] * 10 + [math.inf], True),
        ([1.0] * 10 + [0.5] * 9 + [1.5] * 20, False),
        ([1.0] * 10 + [0.5] * 9 + [2.5] * 20, True),
        ([-1.0] * 10 + [-9.0] * 9 + [1.0] * 20, False),
        ([-1.0] * 10 + [-9.0] * 9 + [9.0] * 20, True),
    ],
)
def test_divergence(losses: list[float], diverges: bool) -> None:
    watch = Watch()
    assert any(watch.diverged(value) for value in losses) == diverges


# -- everything stays as it was --------------------------------------------------------------------------------------


def generators() -> tuple[Any, ...]:
    numbers = np.random.get_state()
    return torch.get_rng_state().tolist(), numbers[1].tolist(), numbers[2:], random.getstate()


@pytest.fixture
def _own_seeds() -> None:
    """Generators in a state that no repeat leaves behind."""
    random.seed(12345)
    np.random.seed(12345)


@pytest.mark.usefixtures("_own_seeds")
def test_the_model_is_as_it_was() -> None:
    model = net()
    model.frozen.eval()
    mse_loss(model(data()[0][0]), data()[0][1]).backward()
    tensors = [*model.parameters(), *model.buffers()]
    gradients = [p.grad for p in model.parameters()]
    values = [t.detach().clone() for t in tensors]
    slopes = [g.clone() for g in gradients]
    modes = [m.training for m in model.modules()]
    drawn = generators()
    lr_range(model, mse_loss, data(), "sgd", high=1e6)
    assert all(a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tensors, values, strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(gradients, slopes, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert generators() == drawn


@pytest.mark.parametrize("is_training", [True, False])
def test_it_trains_in_training_mode_but_leaves_frozen_parts_frozen(is_training: bool) -> None:
    model = net().train(is_training)
    if is_training:
        model.frozen.eval()
    seen = []
    model.register_forward_pre_hook(lambda module, _: seen.append((module.training, module.frozen.training)))
    lr_range(model, mse_loss, data(), "sgd", steps=10, repeats=1)
    assert {*seen} == {(True, not is_training)}
    assert model.training == is_training


@pytest.mark.usefixtures("_own_seeds")
def test_an_error_on_the_way_leaves_everything_as_it_was_too() -> None:
    model, calls = net().eval(), iter(range(7))
    before = copy.deepcopy(model.state_dict())
    drawn = generators()

    def broken(outputs: Tensor, targets: Tensor) -> Tensor:
        next(calls)
        return mse_loss(outputs, targets)

    with pytest.raises(StopIteration):
        lr_range(model, broken, data(), "sgd", low=0.1, high=1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert generators() == drawn


@pytest.mark.parametrize("cls", [steepest.AdamW, torch.optim.AdamW])
def test_training_goes_on_bit_by_bit_as_if_there_had_been_no_test(cls: Any) -> None:
    outcomes = []
    for is_tested in (False, True):
        model = net()
        optimizer = cls(groups.no_decay(model, weight_decay=0.1), lr=0.01)
        for place, (inputs, targets) in enumerate(data()):
            if place == 4 and is_tested:
                lr_range(model, mse_loss, data(seed=1), optimizer, steps=12, repeats=2)
            optimizer.zero_grad()
            mse_loss(model(inputs), targets).backward()
            optimizer.step()
        assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
        outcomes.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_a_rate_in_a_tensor_stays_the_same_tensor() -> None:
    model, rate = net(), torch.tensor(0.01)
    optimizer = steepest.create("sgd", model, lr=rate)
    lr_range(model, mse_loss, data(), optimizer, steps=10, repeats=1)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(0.01)


def test_a_loader_is_as_it_was() -> None:
    own = torch.Generator().manual_seed(3)
    inputs = torch.arange(32.0).reshape(32, 1)
    loader = DataLoader(TensorDataset(inputs, inputs), batch_size=4, shuffle=True, generator=own)
    state, order, model = own.get_state(), [], nn.Linear(1, 1)
    model.register_forward_pre_hook(lambda _, given: order.append(given[0].flatten().tolist()))
    lr_range(model, mse_loss, loader, "sgd", low=1e-9, high=1e-8, steps=10, repeats=2)
    assert torch.equal(own.get_state(), state)
    assert len(order) == 22
    assert order[:11] != order[11:]
    assert sorted(x for batch in order[:8] for x in batch) == inputs.flatten().tolist()


# -- data ------------------------------------------------------------------------------------------------------------


def test_an_iterator_is_read_no_further_than_needed() -> None:
    taken = []

    def stream() -> Iterator[tuple[Tensor, Tensor]]:
        for place in range(1000):
            taken.append(place)
            yield torch.ones(1, 1), torch.ones(1, 1)

    source, model = stream(), nn.Linear(1, 1)
    lr_range(model, mse_loss, source, "sgd", low=1e-9, high=1e-8, steps=20, repeats=3)
    assert len(taken) == 21
    assert next(source) is not None
    lr_range(model, mse_loss, source, "sgd", low=1e3, high=1e30, steps=100, repeats=3)
    assert len(taken) - 22 < 30


def test_an_iterators_batches_are_reordered_in_other_repeats() -> None:
    order: list[float] = []
    model = nn.Linear(1, 1)
    model.register_forward_pre_hook(lambda _, given: order.append(float(given[0])))
    source = iter([(torch.full((1, 1), float(i)), torch.ones(1, 1)) for i in range(100)])
    lr_range(model, mse_loss, source, "sgd", low=1e-9, high=1e-8, steps=10, repeats=3)
    first, second, third = order[:11], order[11:22], order[22:]
    assert first == [float(i) for i in range(11)]
    assert sorted(first) == sorted(second) == sorted(third)
    assert len({*map(tuple, (first, second, third))}) == 3


def test_few_batches_are_read_again() -> None:
    for source in (data(2), iter(data(2))):
        assert len(lr_range(net(), mse_loss, source, "sgd", high=0.01, steps=30, repeats=1).losses[0]) == 30


# -- optimizers ------------------------------------------------------------------------------------------------------


def test_groups_keep_the_ratios_of_their_rates() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = steepest.create("sgd", groups.layerwise(model, lr=0.3, decay=0.5))
    seen = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append([g["lr"] for g in o.param_groups]))
    found = lr_range(model, mse_loss, data(), optimizer, low=1e-4, high=1e-2, steps=10, repeats=1)
    assert [rates[1] for rates in seen] == pytest.approx(list(found.rates))
    assert [rates[0] / rates[1] for rates in seen] == pytest.approx([0.5] * 10)
    assert [group["lr"] for group in optimizer.param_groups] == [0.15, 0.3]


def test_a_rule_that_asks_for_new_gradients() -> None:
    found = lr_range(net(), mse_loss, data(), "nag", true_lookahead=True, momentum=0.5, steps=10, repeats=1)
    assert len(found.losses[0]) >= 1


def test_torchs_classes_have_the_range_of_ours() -> None:
    model = net()
    ours = lr_range(model, mse_loss, data(), "adam", steps=10, repeats=1)
    torchs = lr_range(model, mse_loss, data(), torch.optim.Adam(model.parameters()), steps=10, repeats=1)
    assert torchs.rates == ours.rates
    assert torchs.losses[0] == pytest.approx(ours.losses[0], rel=1e-4)


class Plain(torch.optim.Optimizer):
    """An optimizer that declares nothing."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad
        return loss


def test_any_optimizer_with_a_range() -> None:
    model = net()
    found = lr_range(model, mse_loss, data(), Plain(model.parameters()), low=1e-4, high=1.0, repeats=1, label="mine")
    assert found.optimizer == "mine"
    assert found.recommended is not None
    with pytest.raises(ValueError, match="Plain declares no range of rates; give low and high"):
        lr_range(model, mse_loss, data(), Plain(model.parameters()))


def broken(*_: Any) -> Tensor:
    return torch.tensor(math.nan, requires_grad=True)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"optimizer": "adamm"}, ValueError, "unknown optimizer 'adamm'; did you mean 'adam'"),
        ({"optimizer": "adam", "epss": 1}, ValueError, "no option 'epss'; did you mean 'eps'"),
        ({"optimizer": "adam", "lr": 0.1}, ValueError, "lr_range sets lr itself; give the range as low and high"),
        ({"optimizer": "adam[lr=0.1]"}, ValueError, "lr_range sets lr itself"),
        ({"optimizer": "steepestdescent"}, ValueError, "SteepestDescent has no learning rate to search: it finds"),
        ({"optimizer": steepest.Adam}, TypeError, "optimizer must be a name such as 'adamw', or an optimizer"),
        ({"low": 1.0, "high": 0.1}, ValueError, r"0 < low < high, not low=1.0 and high=0.1"),
        ({"low": 0.0}, ValueError, "0 < low < high"),
        ({"steps": 3}, ValueError, "10 steps or more and 1 repeat or more, not 3 and 3"),
        ({"data": []}, ValueError, "there are no data"),
        ({"data": iter([])}, ValueError, "there are no data"),
        (
            {"data": data()[0]},
            TypeError,
            r"pair \(inputs, targets\), not a tensor of shape .* give \[\(inputs, targets\)\]",
        ),
        ({"data": [(1, 2, 3)]}, TypeError, "not a tuple of 3"),
        (
            {"data": TensorDataset(torch.ones(3, 4), torch.ones(3))},
            TypeError,
            "such as a DataLoader or a list, not a Ten",
        ),
        ({"data": 3}, TypeError, "not a int"),
        ({"loss": lambda o, t: o - t}, ValueError, r"must return a scalar tensor.* returned shape \(16, 1\)"),
        ({"loss": lambda o, t: 3.0}, ValueError, "it returned 3.0"),
        ({"loss": broken}, ValueError, "the loss is nan before the first step"),
    ],
)
def test_mistakes(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    usual = {"model": net(), "loss": mse_loss, "data": data(), "optimizer": "adam"}
    with pytest.raises(error, match=message):
        lr_range(**{**usual, **changed})


def test_mistakes_with_an_optimizer_that_is_built() -> None:
    model = net()
    optimizer = steepest.create("sgd", model, lr=0.0)
    with pytest.raises(ValueError, match="every group of this SGD needs an lr above 0"):
        lr_range(model, mse_loss, data(), optimizer)
    with pytest.raises(TypeError, match="is built already and takes no momentum"):
        lr_range(model, mse_loss, data(), optimizer, momentum=0.9)


# -- the figure ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> LrRange:
    return lr_range(net(), mse_loss, data(), "sgd", high=1e3)


def test_the_figure(found: LrRange) -> None:
    (axes,) = found.plot().axes
    assert axes.get_xscale() == "log"
    assert axes.get_title() == "SGD"
    assert [len(line.get_xdata()) for line in axes.lines[:3]] == [len(curve) for curve in found.smoothed]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["mean loss, smoothed", f"recommended: {found.recommended:.2g}", "diverges"]


def test_without_matplotlib_the_figure_says_what_to_install(found: LrRange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot\(\) needs matplotlib.*pip install matplotlib"):
        found.plot()


def test_only_the_figure_imports_matplotlib() -> None:
    program = "import sys, steepest; steepest.lr_range; print({'matplotlib', 'scipy', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
