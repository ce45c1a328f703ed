"""Schedules: their shapes, and the rates that the groups of an optimizer really have at every step of a trial."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as of_torch

from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import parse_config
from steepest.study.optimizers.schedules import SHAPES, factor
from steepest.study.planning.plan import Plan
from steepest.study.trials.performance import perform
from steepest.study.trials.run import Run, Watcher

from .support import PlanMaker, evaluations

STEPS = 40  # ten epochs of four batches

RULES = """
import torch


def two_groups(params, lr=0.1):
    weight, bias = params
    return torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 10 * lr}], lr=lr)


def tensor_rate(params):
    return torch.optim.Adam(params, lr=torch.tensor(0.1), capturable=False, foreach=False)


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, params, scale=0.1):
        super().__init__(params, {"scale": scale})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["scale"] * p.grad)


def averaging(params, lr=0.1):
    return torch.optim.SGD(params, lr=lr)


averaging.takes_schedule = False
"""


@pytest.fixture
def lines(plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Plan to fit a line in 40 steps; the model has a weight and a bias."""
    (tmp_path / "rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return plan("sgd", workload="linear-regression", epochs_wanted=10)


class Seen(Watcher):
    """What the steps of a run were taken with: the rates of all groups."""

    measures = False

    def __init__(self) -> None:
        self.rates: list[list[Any]] = []

    def stepped(self, run: Run, loss: float) -> None:
        made = run.optimizers["optimizer"].made
        self.rates.append([group.get("lr") for group in made.param_groups])


def performed(lines: Plan, text: str, schedule: str, watcher: Watcher) -> Run:
    spec = dataclasses.replace(evaluations(lines)[0], config=parse_config(text, {}, schedule))
    return perform(lines.task, spec, watcher)


def rates(lines: Plan, text: str, schedule: str) -> list[list[Any]]:
    """Return the rates of all groups that every step was taken with."""
    seen = Seen()
    performed(lines, text, schedule, seen)
    assert len(seen.rates) == STEPS
    return seen.rates


def weights(run: Run) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in run.loop.keep["model"].parameters()]


def warm_up_of(steps: int) -> int:
    return int(np.rint(0.05 * steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 19, 20, 30, 100, 1001])
def test_cosine_is_a_straight_warm_up_and_half_a_cosine(steps: int) -> None:
    warm_up = warm_up_of(steps)
    rising = np.arange(1, warm_up + 1) / max(1, warm_up)
    falling = np.cos(np.pi / 2 * np.arange(steps - warm_up) / (steps - warm_up)) ** 2  # (1 + cos x) / 2
    shape = [factor("cosine")(step, steps) for step in range(steps)]
    np.testing.assert_allclose(shape, np.concatenate([rising, falling]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 19, 20, 30, 100, 1001])
def test_linear_is_a_straight_warm_up_and_a_straight_descent(steps: int) -> None:
    warm_up = warm_up_of(steps)
    rising = np.arange(1, warm_up + 1) / max(1, warm_up)
    falling = np.linspace(1, 0, steps - warm_up, endpoint=False)
    shape = [factor("linear")(step, steps) for step in range(steps)]
    np.testing.assert_allclose(shape, np.concatenate([rising, falling]), rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 3, 19, 20, 1000])
def test_no_step_is_wasted_and_the_whole_rate_is_reached(name: str, steps: int) -> None:
    shape = [factor(name)(step, steps) for step in range(steps)]
    assert min(shape) > 0  # zero would be one step after the last
    assert max(shape) == 1
    assert factor(name)(steps, steps) == pytest.approx(0, abs=1e-15)
    peak = shape.index(1)
    assert shape == sorted(shape[:peak]) + sorted(shape[peak:], reverse=True)


@pytest.mark.parametrize(
    ("steps", "first"), [(1, 1.0), (2, 1.0), (3, 1.0), (9, 1.0), (19, 1.0), (20, 1.0), (40, 0.5), (60, 1 / 3)]
)
def test_short_trials_begin_with_the_whole_rate(steps: int, first: float) -> None:
    """A twentieth of the steps is a warm-up; of less than thirty steps it is one step at most, at the whole rate."""
    assert factor("cosine")(0, steps) == factor("linear")(0, steps) == pytest.approx(first)


def expected_wsd(steps: int, warmup: int, cooldown: int, final: float) -> Any:
    """Return the shape from its three pieces: a rise, ones, and the decay of Hägele et al. 2024."""
    rise = np.arange(1, warmup + 1) / max(1, warmup)
    decay = 1 - np.sqrt(np.linspace(0, 1, cooldown, endpoint=False))
    return np.concatenate([rise, np.ones(steps - warmup - cooldown), final + (1 - final) * decay])


@pytest.mark.parametrize("steps", [1, 2, 10, 101])
@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("part", [0.0, 0.25, 0.5])
def test_wsd_rises_stays_and_decays(steps: int, final: float, part: float) -> None:
    warmup, cooldown = int(part * steps), int(part * steps)
    text = f"wsd[warmup={warmup},cooldown={cooldown},final={final}]"
    shape = [factor(text)(step, steps) for step in range(steps)]
    np.testing.assert_allclose(shape, expected_wsd(steps, warmup, cooldown, final), rtol=1e-12, atol=1e-15)
    assert factor(text)(steps, steps) == pytest.approx(final if cooldown else 1, abs=1e-15)


def test_wsd_by_default_takes_a_twentieth_and_a_fifth() -> None:
    shape = [factor("wsd")(step, 100) for step in range(100)]
    np.testing.assert_allclose(shape, expected_wsd(100, 5, 20, 0.0), rtol=1e-12)


@pytest.mark.parametrize("warmup", [0, 1, 4, 50])
def test_inverse_sqrt_is_the_formula_of_the_transformer(warmup: int) -> None:
    """Vaswani et al. 2017, equation 3, without the scale that makes its peak one."""
    count = np.arange(1.0, 51)
    peak = max(1, warmup)
    expected = np.minimum(count**-0.5, count * peak**-1.5) * peak**0.5
    shape = [factor(f"inverse_sqrt[warmup={warmup}]")(step, 50) for step in range(50)]
    np.testing.assert_allclose(shape, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_fall_ends_at_the_final_factor(name: str) -> None:
    half, tenth = factor(f"{name}[warmup=0,final=0.5]"), factor(f"{name}[warmup=0,final=0.1]")
    usual = factor(f"{name}[warmup=0]")
    for step in range(21):
        assert half(step, 20) == pytest.approx((1 + usual(step, 20)) / 2)
        assert tenth(step, 20) == pytest.approx(0.1 + 0.9 * usual(step, 20))
    assert half(20, 20) == pytest.approx(0.5)


RISING = [name for name in SHAPES if "warmup" in schedules.names_of(name)]


def rising(name: str, warmup: object) -> str:
    """Return a schedule with a warm-up, and without a decay that would not fit next to it."""
    return f"{name}[warmup={warmup}" + (",cooldown=0]" if name == "wsd" else "]")


@pytest.mark.parametrize("name", RISING)
def test_a_warm_up_is_none_a_step_a_share_or_the_whole_trial(name: str) -> None:
    for warmup in (0, 1):
        assert factor(rising(name, warmup))(0, 10) == 1
    whole = [factor(rising(name, 10))(step, 10) for step in range(10)]
    np.testing.assert_allclose(whole, np.arange(1, 11) / 10)
    assert [factor(rising(name, 0.3))(step, 10) for step in range(10)] == [
        factor(rising(name, 3))(step, 10) for step in range(10)
    ]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_no_factor_is_negative_and_the_first_step_moves(name: str, steps: int) -> None:
    shape = [factor(name)(step, steps) for step in range(steps)]
    assert min(shape) > 0
    assert max(shape) == 1


@pytest.mark.parametrize("name", SHAPES)
def test_no_schedule_jumps(name: str) -> None:
    """The largest difference of two steps vanishes with their number: as 1 / steps, and as its root where √ begins."""
    few, many = (
        max(abs(factor(name)(step + 1, steps) - factor(name)(step, steps)) for step in range(steps))
        for steps in (1000, 4000)
    )
    assert many <= 0.51 * few


def test_every_schedule_has_its_text_and_its_words() -> None:
    assert str(schedules.read("cosine[warmup=0.05,final=0]")) == "cosine"  # both are the defaults
    for name in SHAPES:
        options = dict.fromkeys(schedules.names_of(name), 0.125)
        text = str(schedules.Schedule(name, options))
        assert schedules.read(text).values == options
        assert str(schedules.read(text)) == text
    assert schedules.read("wsd[warmup=3]").in_full == "wsd[warmup=3,cooldown=0.2,final=0]"


def test_constant_is_one() -> None:
    assert {factor("constant")(step, 10) for step in range(10)} == {1.0}


def test_an_unknown_schedule_is_told() -> None:
    with pytest.raises(
        UsageError, match=r"unknown schedule 'cosin'; did you mean 'cosine'\? Choose from constant, cosine"
    ):
        schedules.read("cosin")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("text", ["sgd[lr=0.1]", "torch.optim:SGD[lr=0.1]", "rules.py:two_groups"])
def test_a_trial_sets_the_rate_of_every_group_at_every_step(lines: Plan, text: str, schedule: str) -> None:
    found = rates(lines, text, schedule)
    usual = [0.1, 1.0][: len(found[0])]
    expected = [[rate * factor(schedule)(step, STEPS) for rate in usual] for step in range(STEPS)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_rate_that_is_a_tensor_follows_the_schedule(lines: Plan) -> None:
    found = rates(lines, "rules.py:tensor_rate", "cosine")
    assert all(isinstance(rate, torch.Tensor) for (rate,) in found)
    expected = [0.1 * factor("cosine")(step, STEPS) for step in range(STEPS)]
    np.testing.assert_allclose([float(rate) for (rate,) in found], expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["sgd[lr=0.1]", "rules.py:two_groups", "rules.py:tensor_rate"])
def test_constant_leaves_the_rates_alone(lines: Plan, text: str) -> None:
    first, *others = rates(lines, text, "constant")
    assert all(rate is before for row in others for rate, before in zip(row, first, strict=True))


@pytest.mark.parametrize("text", ["rules.py:averaging", "steepestdescent"])
def test_an_optimizer_that_takes_no_schedule_keeps_its_rate(lines: Plan, text: str) -> None:
    found = rates(lines, text, "cosine")
    assert found == [found[0]] * STEPS


def test_an_optimizer_without_a_rate_is_left_alone(lines: Plan) -> None:
    assert rates(lines, "rules.py:WithoutRate", "cosine") == [[None]] * STEPS


class Torch(Seen):
    """Torch's own scheduler, moved after every step."""

    def __init__(self, scheduler: Callable[[torch.optim.Optimizer], of_torch.LRScheduler]) -> None:
        super().__init__()
        self.make = scheduler

    def begun(self, run: Run) -> None:
        self.scheduler = self.make(run.optimizers["optimizer"].made)

    def stepped(self, run: Run, loss: float) -> None:
        super().stepped(run, loss)
        self.scheduler.step()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("text", ["sgd[lr=0.1,momentum=0.9]", "adam[lr=0.05]", "rmsprop[lr=0.01]", "torch.optim:NAdam"])
def test_a_schedule_equals_torch_s_own_scheduler(lines: Plan, text: str, schedule: str) -> None:
    mine = performed(lines, text, schedule, Seen())
    theirs = performed(
        lines, text, "constant", Torch(lambda made: of_torch.LambdaLR(made, lambda step: factor(schedule)(step, STEPS)))
    )
    assert all(map(torch.equal, weights(mine), weights(theirs)))
    constant = performed(lines, text, "constant", Seen())
    assert not torch.allclose(weights(mine)[0], weights(constant)[0], rtol=1e-4, atol=1e-4)  # the schedule matters


def rise(optimizer: torch.optim.Optimizer) -> of_torch.LinearLR:
    """Return a warm-up of eight steps, the last of them at the whole rate."""
    return of_torch.LinearLR(optimizer, start_factor=1 / 8, end_factor=1, total_iters=7)


def last_ten(optimizer: torch.optim.Optimizer) -> of_torch.LambdaLR:
    return of_torch.LambdaLR(optimizer, lambda step: 1 - (step / 10) ** 0.5)


TORCH_S: dict[str, Callable[[torch.optim.Optimizer], of_torch.LRScheduler]] = {
    "cosine[warmup=0]": lambda o: of_torch.CosineAnnealingLR(o, STEPS),
    "cosine[warmup=0,final=0.1]": lambda o: of_torch.CosineAnnealingLR(o, STEPS, eta_min=0.1 * 0.05),
    "linear[warmup=0]": lambda o: of_torch.LinearLR(o, 1.0, 0.0, STEPS),
    "linear[warmup=0,final=0.5]": lambda o: of_torch.LinearLR(o, 1.0, 0.5, STEPS),
    "cosine[warmup=8]": lambda o: of_torch.SequentialLR(o, [rise(o), of_torch.CosineAnnealingLR(o, 32)], [8]),
    "linear[warmup=0.2]": lambda o: of_torch.SequentialLR(o, [rise(o), of_torch.LinearLR(o, 1.0, 0.0, 32)], [8]),
    "wsd[warmup=8,cooldown=10]": lambda o: of_torch.SequentialLR(
        o, [rise(o), of_torch.ConstantLR(o, 1.0), last_ten(o)], [8, 30]
    ),
}


@pytest.mark.parametrize("text", TORCH_S)
def test_torch_s_named_schedulers_give_the_same_rates_and_weights(lines: Plan, text: str) -> None:
    ours, torchs = Seen(), Torch(TORCH_S[text])
    mine = performed(lines, "adam[lr=0.05]", text, ours)
    theirs = performed(lines, "torch.optim:Adam[lr=0.05]", "constant", torchs)
    np.testing.assert_allclose(ours.rates, torchs.rates, rtol=1e-9, atol=1e-15)
    for one, other in zip(weights(mine), weights(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)  # float32, and two orders of the operations


def test_a_tuned_study_has_warm_up_and_cosine_by_default(plan: PlanMaker) -> None:
    tuned = plan("adam", "steepestdescent", workload="linear-regression", trials_wanted=2)
    by_label = {one.config.label: one.config.schedule for one in tuned.candidates["Adam"]}
    assert set(by_label.values()) == {"cosine"}
    assert plan("adam", workload="linear-regression").configs[0].schedule == "constant"
