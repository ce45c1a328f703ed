"""`steepest advise`: what it prints, and what it refuses."""

from typing import Any

import pytest


def test_the_command_advises_and_its_command_runs(steepest: Any) -> None:
    answer = steepest("advise", "digits-mlp")
    assert answer.code == 0
    assert "kind: perceptron" in answer.out
    assert "better, 0.011 of test accuracy from SGD[momentum=0.9]" in answer.out
    command = next(line for line in answer.out.splitlines() if line.startswith("steepest study"))
    assert command == "steepest study digits-mlp -o adamw -o muon --trials 16 --seeds 10"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a task, or say what its network is made of with --kind: transformer: attention"),
        (("--kind", "cnn"), "unknown kind 'cnn'"),
        (("digits-mpl",), "did you mean 'digits-mlp'"),
    ],
)
def test_what_cannot_be_advised_on(steepest: Any, arguments: tuple[str, ...], told: str) -> None:
    answer = steepest("advise", *arguments)
    assert answer.code == 2
    assert told in answer.err
