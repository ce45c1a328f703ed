"""`steepest study my_task.py -o my_rules.py:MyOpt`."""

import re
from pathlib import Path
from typing import Any

import pytest

from own_work import TASK, own_files

__all__ = ["own_files"]

STUDY = ("study", "my_task.py", "--timing-rounds", "0", "--out", "study")


def test_ones_own_workload_and_rule_in_one_command(steepest: Any, own_files: Path, no_report: None) -> None:
    answer = steepest(*STUDY, "-o", "adamw", "-o", "my_rules.py:MyOpt", "--trials", "2", "--seeds", "1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("My own task (quick)\n")
    assert (
        "data       your data from the workload itself: 90 training, 10 validation and 20 test examples" in answer.out
    )
    assert "my_rules.MyOpt: lr=0.5" in answer.out
    assert re.search(r"^my_rules\.MyOpt +lr=[\d.]+ +\d+\.\d\d", answer.out, re.MULTILINE)
    again = steepest(*STUDY, "-o", "adamw", "-o", "./my_rules.py:MyOpt", "--trials", "2", "--seeds", "1")
    assert again.code == 0
    assert "8 trials had been done before" in again.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-o", "my_rules.py:MyOpd"), "Error: my_rules.py has no class or function 'MyOpd'; did you mean 'MyOpt'?"),
        (("-o", "my_rules.py:MyOpt[wieght=1]"), "has no option 'wieght'; did you mean 'weight'?"),
        (("-o", "my_rules.py"), "my_rules.py is a file; name the optimizer in it: my_rules.py:NAME"),
        (("-o", "broken.py:X"), "stopped with ZeroDivisionError: division by zero (line 1 of"),
        (("-o", "sgd", "--trials", "3"), "--trials 3 is no power of two"),
        (("-o", "sgd", "--space", "bad.toml"), 'a name with dots or colons must be quoted: ["torch.optim:AdamW"]'),
        (("-o", "sgd", "--space", "refused.toml"), "SGD cannot run with lr=-1: Invalid learning rate: -1.0"),
        (
            ("-o", "my_rules.py:nothing"),
            "UsageError: my_rules.py:nothing must return a torch.optim.Optimizer",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    steepest: Any, own_files: Path, arguments: tuple[str, ...], told: str
) -> None:
    (own_files / "broken.py").write_text("1 / 0")
    (own_files / "bad.toml").write_text("[torch.optim:AdamW]\nlr = [1.0]")
    (own_files / "refused.toml").write_text("[sgd]\nlr = [-1.0]")
    answer = steepest(*STUDY, *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert answer.err.count("\n") == 1
    assert not Path("study").exists()


def test_data_that_cannot_be_loaded_are_a_failure(steepest: Any, own_files: Path) -> None:
    (own_files / "my_task.py").write_text(TASK.replace("data=(INPUTS, TARGETS)", "data=lambda: open('nowhere.csv')"))
    answer = steepest(*STUDY, "-o", "sgd")
    assert answer.code == 1
    assert "the workload's data could not be loaded: FileNotFoundError" in answer.err
