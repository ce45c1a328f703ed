"""Declaring a workload: what it takes from the function, and what is said about one that makes no sense."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from steepest import study
from steepest.study import workloads
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, LOSS, Declared, Metric, Workload, workload
from steepest.study.errors import UsageError


def model() -> nn.Module:
    return nn.Linear(2, 2)


def made(**changes: Any) -> Workload:
    usual: dict[str, Any] = {
        "data": (torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64)),
        "model": model,
        "loss": cross_entropy,
        "metric": ACCURACY,
        "batch_size": 4,
        "horizon": 1,
    }
    return Workload(**usual | changes)


def test_the_function_gives_its_name_and_its_words() -> None:
    @workload
    def my_own_task(preset: str) -> Workload:
        """Words for people, on one line.

        And a few more,
        over two lines.
        """
        return made(horizon={"smoke": 1, "quick": 5, "full": 20}[preset])

    assert isinstance(my_own_task, Declared)
    assert (my_own_task.name, my_own_task.source) == ("my-own-task", "my-own-task")
    assert [my_own_task(preset).horizon for preset in ("smoke", "quick", "full")] == [1, 5, 20]
    assert my_own_task().horizon == 5
    assert my_own_task().title == "Words for people, on one line"
    assert my_own_task().description == "And a few more, over two lines."


def test_words_that_are_given_win_and_a_name_is_better_than_nothing() -> None:
    def silent() -> Workload:
        return made(title="Given", description="Too.")

    def nameless_task() -> Workload:
        return made()

    assert (workload(silent)().title, workload(silent)().description) == ("Given", "Too.")
    assert workload(nameless_task)().title == "nameless-task"


def test_a_function_without_a_preset_is_the_same_at_every_size() -> None:
    declared = workload(lambda: made(horizon=3))
    assert {declared(preset).horizon for preset in ("smoke", "quick", "full")} == {3}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": True}, "batch_size of a workload must be a whole number of at least 1, not True"),
        ({"batch_size": 0}, "batch_size of a workload must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.0}, "batch_size of a workload must be a whole number of at least 1, not 2.0"),
        ({"horizon": "10"}, "horizon of a workload must be a whole number of at least 1, not '10'"),
        ({"evaluations": 0}, "evaluations of a workload must be a whole number of at least 1, not 0"),
        ({"seeds": 0}, "seeds of a workload must be a whole number of at least 1, not 0"),
        ({"trials": -1}, "trials of a workload must be a whole number of at least 0, not -1"),
        (
            {"metric": "accuracy"},
            "metric of a workload must be a Metric with its name and direction, not 'accuracy'; for",
        ),
        (
            {"metric": cross_entropy},
            "for classes there is steepest.study.ACCURACY, for the loss itself steepest.study.LOSS",
        ),
        (
            {"loss": "cross_entropy"},
            "loss of a workload must be a function of (outputs, targets), such as torch.nn.func",
        ),
        ({"loss": nn.CrossEntropyLoss}, "it is the class CrossEntropyLoss; make an object of it, CrossEntropyLoss()"),
        (
            {"loss": lambda outputs: outputs},
            "must be a function of (outputs, targets), such as torch.nn.functional.cross_",
        ),
        (
            {"model": nn.Linear(2, 2)},
            "model of a workload must be a function of nothing that builds it: every trial starts",
        ),
        ({"model": nn.Linear(2, 2)}, "it is a Linear that is built already; put its construction into the function"),
        ({"model": nn.Linear}, "model of a workload must be a function of nothing"),
        ({"model": lambda preset: model()}, "must be a function of nothing that builds it"),
        (
            {"model": None},
            "must be a function of nothing that builds it: every trial starts from a model of its own; it is None",
        ),
        ({"margin": -0.1}, "margin of a workload must be a number of at least 0, not -0.1"),
        ({"margin": "1%"}, "margin of a workload must be a number of at least 0, not '1%'"),
        ({"margin": float("nan")}, "margin of a workload must be a number of at least 0, not nan"),
        ({"target": "0.9"}, "target of a workload must be a number or a tuple of numbers, not '0.9'"),
        ({"target": (0.9, None)}, "target of a workload must be a number or a tuple of numbers, not None"),
        ({"target": True}, "target of a workload must be a number or a tuple of numbers, not True"),
        ({"target": float("inf")}, "target of a workload must be a number or a tuple of numbers, not inf"),
        (
            {"needs": ("sprase",)},
            "unknown need 'sprase'; did you mean 'sparse'? Choose from closure, sparse, matrices.",
        ),
        ({"settings": {"adam": 0.1}}, """such as {"adam": {"lr": 0.01}}; for 'adam' they hold 0.1"""),
        (
            {"sizes": (10, 10, 10)},
            "sizes of a workload must be Sizes(train, validation, test), each a whole number of at",
        ),
        ({"sizes": Sizes(10, 0, 10)}, "not Sizes(train=10, validation=0, test=10)"),
    ],
)
def test_a_workload_that_makes_no_sense_is_refused_at_once(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        made(**changes)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("f1", "maximise"),
            "unknown direction of a metric 'maximise'; did you mean 'maximize'? Choose from maximize, min",
        ),
        (("f1", "maximize", 3), "metric 'f1' must have a function of (outputs, targets), not 3"),
        (
            ("f1", "maximize", lambda outputs: outputs),
            "metric 'f1' must have a function of (outputs, targets), not <func",
        ),
        (("", "maximize"), "name of a metric must be a text, such as 'accuracy', not ''"),
        (
            ("loss", "maximize", lambda outputs, targets: outputs),
            "cannot be called 'loss': records hold the loss itself under this name",
        ),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused_at_once(arguments: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        Metric(*arguments)


@pytest.mark.parametrize(
    "usual",
    [
        {"loss": nn.CrossEntropyLoss()},
        {"loss": lambda outputs, targets, weight=None: outputs.sum()},
        {"model": lambda: model()},
        {"model": type("Net", (nn.Module,), {})},
        {"margin": 0},
        {"target": [0.5]},
        {"metric": LOSS},
        {"sizes": Sizes(4, 2, 2)},
    ],
)
def test_what_people_usually_write_is_fine(usual: dict[str, Any]) -> None:
    ((name, value),) = usual.items()
    assert getattr(made(**usual), name) is value


@pytest.mark.parametrize(
    ("metric", "target", "targets"),
    [
        (ACCURACY, 0.9, (0.9,)),
        (ACCURACY, (), ()),
        (ACCURACY, (0.95, 0.5, 0.9), (0.5, 0.9, 0.95)),
        (ACCURACY, [0.9, 0.5, 0.9], (0.5, 0.9)),
        (LOSS, (0.1, 1.0, 0.5), (1.0, 0.5, 0.1)),
    ],
)
def test_targets_come_easiest_first(metric: Metric, target: Any, targets: tuple[float, ...]) -> None:
    assert made(metric=metric, target=target).targets == targets


def test_accuracy_is_told_for_every_example() -> None:
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.6]])
    assert ACCURACY.of is not None
    assert ACCURACY.of(outputs, torch.tensor([1, 1, 1])).tolist() == [1.0, 0.0, 1.0]
    assert (ACCURACY.sign, LOSS.sign) == (1, -1)


def test_what_a_file_needs_is_in_the_package() -> None:
    assert (study.workload, study.Workload, study.ACCURACY) == (workload, Workload, ACCURACY)
    assert (study.Metric, study.LOSS, study.Sizes) == (Metric, LOSS, Sizes)
    with pytest.raises(AttributeError, match="no attribute 'Workloads'"):
        _ = study.Workloads


FILE = """
import torch
from torch import nn

import steepest.study
from steepest.study import ACCURACY, Workload
from steepest.study.workloads.digits import digits  # somebody else's: it is not declared here

def usual():
    inputs = torch.zeros(9, 2)
    return Workload(data=(inputs, inputs), model=lambda: nn.Linear(2, 2), loss=nn.MSELoss(), metric=steepest.study.LOSS,
                    batch_size=3, horizon=1)

"""
ONE = FILE + "@steepest.study.workload\ndef my_task(preset):\n    return usual()\n"
TWO = ONE + "@steepest.study.workload\ndef other():\n    return usual()\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_workload_is_found_in_a_file() -> None:
    Path("my_task.py").write_text(ONE)
    for text in ("my_task.py", "./my_task.py", "my_task.py:my_task"):
        declared = workloads.find(text)
        assert (declared.name, declared.source) == ("my-task", "my_task.py:my_task")
        assert declared("smoke").batch_size == 3


def test_one_of_several_workloads_is_named() -> None:
    Path("tasks.py").write_text(TWO)
    assert workloads.find("tasks.py:other").name == "other"
    with pytest.raises(
        UsageError,
        match=r"tasks\.py declares several workloads and experiments; name one: tasks\.py:my_task, tasks\.py:ot",
    ):
        workloads.find("tasks.py")
    with pytest.raises(
        UsageError, match=r"unknown workload of tasks\.py 'othr'; did you mean 'other'\? Choose from my_task"
    ):
        workloads.find("tasks.py:othr")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (FILE, "tasks.py declares no workload and no experiment; put @steepest.study.workload above a function, or"),
        (FILE.replace("steepest.study.LOSS", "'loss'") + "x = usual()", "metric of a workload must be a Metric"),
        (
            "import steepest.study\n@steepest.study.workload()\ndef f():\n    pass",
            "missing 1 required positional argument",
        ),
        ("import steepest.study\n@steepest.study.workloud\ndef f():\n    pass", "no attribute 'workloud' (line 2 of"),
    ],
)
def test_a_file_without_a_workload_is_told(code: str, told: str) -> None:
    Path("tasks.py").write_text(code)
    with pytest.raises(UsageError, match=re.escape(told)):
        workloads.find("tasks.py")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "tasks.py:my_task must return a Workload; it returned a NoneType"),
        ("return Workload", "tasks.py:my_task must return a Workload; it returned a type"),
        ("return [usual()]", "tasks.py:my_task must return a Workload; it returned a list"),
        ("return 1 / 0", "tasks.py:my_task stopped with ZeroDivisionError: division by zero (line 16 of "),
        ("return Workload(batch=3)", "unexpected keyword argument 'batch' (line 16 of "),
        ("import no_such_thing", "stopped with ModuleNotFoundError: No module named 'no_such_thing' (line 16 of "),
    ],
)
def test_a_function_that_returns_no_workload_is_told(body: str, told: str) -> None:
    Path("tasks.py").write_text(ONE.replace("return usual()\n", body + "\n"))
    # Only the last function's body differs; `usual` above still returns a workload.
    with pytest.raises(UsageError, match=re.escape(told)):
        workloads.find("tasks.py")("smoke")


def test_a_name_that_is_neither_a_workload_nor_a_file_is_told() -> None:
    with pytest.raises(
        UsageError, match=r"unknown workload 'digit'; did you mean 'digits'\?.*Or give a file: my_task\.py"
    ):
        workloads.find("digit")
    with pytest.raises(UsageError, match=r"there is no file nowhere\.py; the folder is /"):
        workloads.find("nowhere.py")
