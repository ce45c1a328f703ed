"""`steepest advise`: what it prints, what it asks in a terminal, and what it refuses."""

from __future__ import annotations

import builtins
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from steepest.cli import questions
from steepest.study.advice import KINDS, PRIORITIES


def command(out: str) -> str:
    return next(line for line in out.splitlines() if line.startswith("steepest study"))


def test_the_command_advises_and_its_command_runs(steepest: Any) -> None:
    answer = steepest("advise", "digits-mlp")
    assert answer.code == 0
    assert "kind: perceptron" in answer.out
    assert "better, 0.011 of test accuracy from SGD[momentum=0.9]" in answer.out
    assert command(answer.out) == "steepest study digits-mlp -o adamw -o muon --trials 16 --seeds 10"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give a task, or say what its network is made of with --kind: transformer: attention"),
        (("--priority", "memory"), "give a task, or say what its network is made of with --kind"),
        (("--kind", "cnn"), "unknown kind 'cnn'"),
        (("--kind", "convex", "--priority", "memry"), "unknown priority 'memry'; did you mean 'memory'?"),
        (("--kind", "convex", "--budget", "soon"), "--budget soon is no time above zero"),
        (("digits-mpl",), "did you mean 'digits-mlp'"),
    ],
)
def test_what_cannot_be_advised_on(steepest: Any, arguments: tuple[str, ...], told: str) -> None:
    answer = steepest("advise", *arguments)
    assert answer.code == 2
    assert told in answer.err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((), "steepest study digits-mlp -o adamw -o muon --trials 16 --seeds 10"),
        (("--budget", "30m"), "steepest study digits-mlp -o adamw -o muon --budget 30m"),
        (("--priority", "tuning"), "steepest study digits-mlp -o adamw -o prodigy --trials 4 --seeds 10"),
        (("--priority", "tuning", "--budget", "2h"), "... -o adamw -o prodigy --trials 4 --budget 2h"),
        (("--priority", "memory"), "... -o 'adamw[state_dtype=int8]' -o adafactor --trials 16 --seeds 10"),
    ],
)
def test_what_matters_changes_the_command(steepest: Any, arguments: tuple[str, ...], shown: str) -> None:
    """With a task and with its kind, for which the library's own workload of the kind is shown, which runs."""
    for subject in (("digits-mlp",), ("--kind", "perceptron")):
        answer = steepest("advise", *subject, *arguments)
        assert command(answer.out) == shown.replace("...", "steepest study digits-mlp")


def test_the_command_of_a_kind_can_be_run_as_it_is_shown(steepest: Any) -> None:
    arguments = command(steepest("advise", "--kind", "convex", "--priority", "memory").out).split()[1:]
    unquoted = [argument.strip("'") for argument in arguments]
    assert steepest(*unquoted, "--preset", "smoke", "--plan-only").code == 0


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str | BaseException]], list[str]]:
    """Sit at a terminal and give these answers; an error is raised in place of one. The prompts come back."""

    def given(texts: Sequence[str | BaseException]) -> list[str]:
        left: Iterator[str | BaseException] = iter(texts)
        prompts: list[str] = []

        def answered(prompt: str) -> str:
            prompts.append(prompt)
            text = next(left)
            if isinstance(text, BaseException):
                raise text
            return text

        monkeypatch.setattr(questions, "in_terminal", lambda: True)
        monkeypatch.setattr(builtins, "input", answered)
        return prompts

    return given


@pytest.mark.parametrize(
    ("texts", "flags"),
    [
        (("", "", ""), "--kind transformer --priority result"),
        (("5", "3", "2"), "--kind perceptron --priority memory --budget 30m"),
        (("convex", " tuning ", "45m"), "--kind convex --priority tuning --budget 45m"),
    ],
)
def test_answers_are_flags(steepest: Any, answers: Any, texts: tuple[str, ...], flags: str) -> None:
    """By number, by name, or by the default; then comes what the command with flags prints."""
    prompts = answers(texts)
    asked = steepest("advise")
    assert (asked.code, len(prompts)) == (0, 3)
    assert all(f"{name}: {kind.words}" in asked.out for name, kind in KINDS.items())
    assert all(f"{name}: {priority.words}" in asked.out for name, priority in PRIORITIES.items())
    told = f"\nThe same without questions: steepest advise {flags}\n\n"
    assert asked.out.endswith(told + steepest("advise", *flags.split()).out)


def test_only_what_is_open_is_asked(steepest: Any, answers: Any) -> None:
    prompts = answers(["recurrent"])
    asked = steepest("advise", "--priority", "memory", "--budget", "2h")
    assert (asked.code, len(prompts)) == (0, 1)
    assert "steepest advise --kind recurrent --priority memory --budget 2h\n" in asked.out


@pytest.mark.parametrize("subject", [("digits-mlp",), ("--kind", "convex")])
def test_with_a_subject_nothing_is_asked(steepest: Any, answers: Any, subject: tuple[str, ...]) -> None:
    prompts = answers([])
    assert (steepest("advise", *subject).code, prompts) == (0, [])


def test_a_typo_is_asked_again(steepest: Any, answers: Any) -> None:
    prompts = answers(["transfomer", "7", "0", "1", "speed", "1", "5x", "1"])
    asked = steepest("advise")
    assert (asked.code, len(prompts)) == (0, 8)
    for told in (
        "unknown kind 'transfomer'; did you mean 'transformer'?",
        "give a number from 1 to 6, not 7",
        "give a number from 1 to 6, not 0",
        "unknown priority 'speed'",
        "--budget 5x is no time above zero",
    ):
        assert told in asked.out
    assert "steepest advise --kind transformer --priority result\n" in asked.out


def test_ctrl_c_and_the_end_of_input_are_clean(steepest: Any, answers: Any) -> None:
    answers(["1", KeyboardInterrupt()])
    stopped = steepest("advise")
    assert (stopped.code, stopped.err) == (130, "")
    answers(["1", EOFError()])
    ended = steepest("advise")
    assert ended.code == 2
    assert ended.err.startswith("Error: give a task, or say what its network is made of with --kind")
    assert "Traceback" not in stopped.out + ended.out + ended.err


def test_a_terminal_is_asked_until_its_input_ends() -> None:
    """A terminal of the system's, at which the second question gets Ctrl-D."""
    inner, outer = pty.openpty()
    program = "from steepest.cli.main import main; main()"
    child = subprocess.Popen([sys.executable, "-c", program, "advise"], stdin=outer, stdout=outer, stderr=outer)
    os.close(outer)
    try:
        shown = b""
        for typed in (b"perceptron\n", b"\x04"):
            asked = shown.count(b"[1]: ")
            while shown.count(b"[1]: ") == asked:
                shown += os.read(inner, 1000)
            os.write(inner, typed)
        assert child.wait(60) == 2
        assert shown.index(b"What is your network made of?") < shown.index(b"What matters most?")
    finally:
        child.kill()
        child.wait()
        os.close(inner)
