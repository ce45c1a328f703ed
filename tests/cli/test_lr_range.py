"""`steepest lr-range`: its table, its JSON, its figure, its mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

TASK = '''
import torch
from torch import nn
from steepest.study import LOSS, Workload, workload

X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))


def loss(outputs, targets):
    {loss}


@workload
def mine():
    """Sums of four numbers."""
    data = (X, X.sum(1, keepdim=True))
    return Workload(data=data, model=lambda: nn.Linear(4, 1), loss=loss, metric=LOSS, batch_size=16, horizon=1)
'''
SQUARES = "return (outputs - targets).square().mean()"
FEW = ("--steps", "30", "--repeats", "2")


@pytest.fixture
def task(steepest: Any) -> str:
    """A workload in a file of the user's, in the folder in which the command runs."""
    Path("my_task.py").write_text(TASK.format(loss=SQUARES), encoding="utf-8")
    return "my_task.py"


def test_the_table_has_a_row_for_every_optimizer(steepest: Any, task: str) -> None:
    answer = steepest("lr-range", task, "-o", "sgd", "-o", "lion[beta2=0.9]", "-o", "torch.optim:Adam", *FEW)
    assert answer.code == 0, answer.err
    head, sgd, lion, adam = answer.out.splitlines()
    assert head.split() == ["optimizer", "rate", "from", "to", "factor", "diverges", "tried"]
    assert re.match(r"SGD +0\.\d+ +0\.\d+ +0\.\d+ +\d+(\.\d)? +\S+ +0\.0001 to 1e\+02", sgd)
    assert lion.startswith("Lion[betas=(0.9,0.9)] ")
    assert adam.startswith("torch.optim.Adam ")


def test_the_range_the_json_and_the_figures(steepest: Any, task: str) -> None:
    arguments = ("--low", "1e-3", "--high", "10", "--json", "--plot", "rates.png")
    answer = steepest("lr-range", task, "-o", "sgd", "-o", "adam", *FEW, *arguments)
    assert answer.code == 0, answer.err
    sgd, adam = json.loads(answer.out)
    assert (sgd["optimizer"], adam["optimizer"]) == ("SGD", "Adam")
    assert (sgd["rates"][0], sgd["rates"][-1], len(sgd["rates"])) == (1e-3, pytest.approx(10), 30)
    assert len(sgd["losses"]) == 2
    assert 1e-3 < sgd["recommended"] < 10
    for name in ("rates-sgd.png", "rates-adam.png"):
        assert Path(name).read_bytes().startswith(b"\x89PNG")


def test_a_workload_of_the_librarys(steepest: Any) -> None:
    answer = steepest("lr-range", "digits", "--preset", "smoke", "-o", "momentum", *FEW, "--plot", "one.png")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[1].startswith("Momentum ")
    assert Path("one.png").exists()


def test_the_same_command_gives_the_same_table(steepest: Any, task: str) -> None:
    first = steepest("lr-range", task, "-o", "sgd", *FEW)
    assert first.out == steepest("lr-range", task, "-o", "sgd", *FEW).out
    assert first.out != steepest("lr-range", task, "-o", "sgd", *FEW, "--seed", "5").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "adamm"), "unknown optimizer 'adamm'; did you mean 'adam'"),
        (("-o", "adam[lr=0.1]"), "Adam[lr=0.1] cannot be tested: its lr is given"),
        (("-o", "steepestdescent"), "SteepestDescent cannot be tested: it finds its step sizes itself"),
        (("-o", "adam[schedule=wsd]"), "Adam[schedule=wsd] cannot be tested with a schedule: lr-range moves the rate"),
        (("-o", "sgd", "--low", "3", "--high", "2"), "0 < low < high, not low=3.0 and high=2.0"),
        (("-o", "sgd", "--steps", "2"), "10 steps or more"),
        (("-o", "sgd", *FEW, "--plot", "no/folder.png"), "the figure no/folder.png cannot be written"),
        (("-o", "sgd", *FEW, "--plot", "rates.xyz"), "the figure rates.xyz cannot be written"),
        (("--preset", "tiny", "-o", "sgd"), "unknown preset 'tiny'"),
        ((), "my_task.py:mine has no optimizers of its own; name some: -o adamw -o sgd"),
    ],
)
def test_mistakes(steepest: Any, task: str, arguments: tuple[str, ...], message: str) -> None:
    answer = steepest("lr-range", task, *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_a_loss_that_fails_is_a_failure_with_its_reason(steepest: Any) -> None:
    Path("broken_task.py").write_text(TASK.format(loss="raise ZeroDivisionError('no')"), encoding="utf-8")
    answer = steepest("lr-range", "broken_task.py", "-o", "sgd")
    assert answer.code == 1
    assert "SGD stopped with ZeroDivisionError: no" in answer.err
