"""What would stop every trial of a task, or let it run to wrong numbers, is told before the plan is locked."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from steepest.study.declaration import Metric, Workload
from steepest.study.errors import UsageError

from .small import NUMBERS, X, fitted, net, planned, small

TRAINED = 68
"""Of 90 examples a sixth is for the test, and a tenth of the others for validation."""

Loss = Callable[[Tensor, Tensor], Tensor]
OWN_STREAM = np.random.default_rng(0)
COUNTER = itertools.count()


def refusal(workload: Workload, *optimizers: str) -> str:
    with pytest.raises(UsageError, match="small cannot be studied as it is:") as caught:
        planned(workload, *optimizers)
    return str(caught.value)


def column() -> nn.Module:
    return net(1)


def row() -> nn.Module:
    return nn.Sequential(net(1), nn.Flatten(0))


BROADCASTING: dict[str, Loss] = {
    "torch's, which warns": functional.mse_loss,
    "a module of torch's": nn.SmoothL1Loss(),
    "one without a warning": functional.poisson_nll_loss,
    "by hand": lambda outputs, targets: (outputs - targets).square().mean(),
    "by hand, the other way round": lambda outputs, targets: (targets.double() * outputs).abs().mean(),
    "inside a mean": lambda outputs, targets: (targets - outputs).abs().mean(dim=1).sum(),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", BROADCASTING.values(), ids=BROADCASTING)
def test_a_loss_that_broadcasts_is_refused_with_both_shapes(loss: Loss) -> None:
    told = refusal(fitted(column, loss))
    assert "the loss broadcasts outputs of shape (16, 1) against targets of shape (16,)" in told
    assert "outputs.squeeze(1)" in told


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_batch_of_one_hides_no_broadcast() -> None:
    told = refusal(fitted(column, functional.mse_loss, batch_size=1))
    assert "outputs of shape (2, 1) against targets of shape (2,)" in told


def test_targets_may_be_the_wider_ones() -> None:
    workload = small(data=(X, NUMBERS[:, None]), model=row, loss=BROADCASTING["by hand"])
    assert "outputs of shape (16,) against targets of shape (16, 1)" in refusal(workload)


FITTING: dict[str, tuple[Callable[[], nn.Module], Loss]] = {
    "equal shapes": (row, functional.mse_loss),
    "squeezed in the loss": (column, lambda outputs, targets: functional.mse_loss(outputs.squeeze(1), targets)),
    "all pairs, meant so": (row, lambda o, t: ((o[:, None] - o[None]) - (t[:, None] - t[None])).square().mean()),
    "a distribution": (net, lambda outputs, targets: (outputs[:, 0] - targets).square().mean() + outputs[:, 1].mean()),
}


@pytest.mark.parametrize(("model", "loss"), FITTING.values(), ids=FITTING)
def test_shapes_that_are_meant_so_pass(model: Callable[[], nn.Module], loss: Loss) -> None:
    assert planned(fitted(model, loss, metric=Metric("loss", "minimize")))


def test_as_many_classes_as_examples_in_a_batch_are_no_broadcast() -> None:
    assert planned(small(batch_size=2))


def test_a_metric_that_broadcasts_is_refused() -> None:
    error = Metric("error", "minimize", lambda outputs, targets: (outputs - targets).abs().mean(dim=1))
    told = refusal(fitted(column, lambda o, t: functional.mse_loss(o.squeeze(1), t), metric=error))
    assert "metric 'error' broadcasts outputs of shape (16, 1)" in told


class Odd(nn.Module):
    """A network with a flaw."""

    def __init__(self, flaw: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net = net()
        self._flaw = flaw

    def forward(self, x: Tensor) -> Any:
        return self._flaw(self.net(x))


def raising(outputs: Tensor) -> Tensor:
    raise ZeroDivisionError("the forward pass")


def unseeded() -> nn.Module:
    made = net()
    with torch.no_grad():
        made[2].bias.add_(float(OWN_STREAM.random()))
    return made


FLAWS: dict[str, tuple[dict[str, Any], str]] = {
    "a model that raises": (
        {"model": lambda: Odd(raising)},
        "the model stopped on a batch of inputs (16, 4) and targets (16,) with ZeroDivisionError: the forward pass",
    ),
    "two outputs": (
        {"model": lambda: Odd(lambda x: (x, x))},
        "the loss stopped on outputs a tuple of (16, 2), (16, 2)",
    ),
    "a batch of one at an epoch's end": (
        {
            "model": lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)),
            "batch_size": TRAINED - 1,
        },
        "a batch of inputs (1, 4) and targets (1,) with ValueError: Expected more than 1 value per channel",
    ),
    "a loss per example": (
        {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets, reduction="none")},
        "the loss must be one number, a scalar tensor; it is shape (16,)",
    ),
    "a loss that is no tensor": (
        {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets).item()},
        "the loss must be one number, a scalar tensor; it is a float",
    ),
    "a loss that raises": ({"loss": functional.mse_loss, "data": (X, X[:, :3])}, "the loss stopped on outputs (16, 2)"),
    "a loss that is no number": (
        {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets) / 0},
        "the loss of the untrained model is inf on outputs (16, 2)",
    ),
    "a loss that was cut off": (
        {"loss": lambda outputs, targets: functional.cross_entropy(outputs.detach(), targets)},
        "the loss depends on no parameter",
    ),
    "a metric that raises": (
        {"metric": Metric("score", "maximize", lambda outputs, targets: raising(outputs))},
        "metric 'score' stopped on outputs (16, 2)",
    ),
    "a metric of sets that raises": (
        {"metric": Metric("score", "maximize", lambda outputs, targets: raising(outputs), over="set")},
        "the evaluation of the untrained model stopped with ZeroDivisionError",
    ),
    "weights from a stream of one's own": ({"model": unseeded}, "model() builds other weights ('2.bias') when"),
    "an evaluation with a stream of its own": (
        {"model": lambda: Odd(lambda x: x * float(OWN_STREAM.random()))},
        "from equal seeds; results would depend on what ran before",
    ),
    "an evaluation that counts": (
        {"model": lambda: Odd(lambda x: x * next(COUNTER))},
        "from equal seeds; results would depend on what ran before",
    ),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("changes", "told"), FLAWS.values(), ids=FLAWS)
def test_a_flaw_is_told(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(small(**changes))


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_all_flaws_are_told_at_once() -> None:
    def model() -> nn.Module:
        return nn.Sequential(unseeded(), nn.Linear(2, 1))

    mean = Metric("mean", "maximize", lambda outputs, targets: outputs.mean())
    told = refusal(fitted(model, functional.mse_loss, metric=mean)).splitlines()
    assert [line[:4] for line in told[1:]] == ["  1.", "  2.", "  3."]
    for part in ("the loss broadcasts", "'mean' must return one value per example", "builds other weights"):
        assert part in "\n".join(told)


def test_the_check_leaves_everything_as_it_was() -> None:
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    planned(small())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before[1:]
