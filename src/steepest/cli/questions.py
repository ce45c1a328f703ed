"""Questions in a terminal: numbered choices with a default, asked again after a typo."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steepest.cli import console
from steepest.study.errors import UsageError
from steepest.study.suggest import choices


@dataclass(frozen=True)
class Question:
    """A question with its choices.

    Attributes:
        name: the name of what is asked for, as errors have it.
        words: the question.
        choices: every answer with its words; the first one is the default.
        other: returns without an error for other answers that are allowed too, raises UsageError for the rest; None
            allows the choices only.
    """

    name: str
    words: str
    choices: Mapping[str, str]
    other: Callable[[str], object] | None = None


def in_terminal() -> bool:
    """Return whether somebody can answer: standard input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: Question) -> str:
    """Ask until there is an answer, by its number or by its name, and return it; return the first choice for none.

    Raises:
        KeyboardInterrupt: of Ctrl-C.
        EOFError: at the end of the input.
    """
    screen = console.out()
    screen.print(question.words, markup=False)
    for number, (answer, words) in enumerate(question.choices.items(), 1):
        screen.print(f"  {number}  {answer}: {words}", markup=False)
    while True:
        try:
            return _read(question, input("[1]: ").strip())
        except UsageError as error:
            screen.print(str(error), markup=False)


def _read(question: Question, text: str) -> str:
    answers = list(question.choices)
    if text.isdecimal():
        if not 1 <= int(text) <= len(answers):
            raise UsageError(f"give a number from 1 to {len(answers)}, not {text}")
        return answers[int(text) - 1]
    if not text:
        return answers[0]
    if text in answers:
        return text
    if question.other is None:
        raise UsageError(choices(question.name, text, answers))
    question.other(text)
    return text
