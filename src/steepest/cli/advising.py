"""`steepest advise`: two optimizers to compare on a task, with the command that compares them."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import typer
from torch import nn

from steepest.cli import console, questions
from steepest.cli.questions import Question
from steepest.study import advice
from steepest.study.advice import KINDS, PRIORITIES, Candidate
from steepest.study.declaration import Declaration, Declared, Workload
from steepest.study.errors import UsageError
from steepest.study.planning.budget import Budget

NO_BUDGET: Final = "none"

QUESTIONS: Final = {
    "kind": Question("kind", "What is your network made of?", {name: kind.words for name, kind in KINDS.items()}),
    "priority": Question(
        "priority", "What matters most?", {name: priority.words for name, priority in PRIORITIES.items()}
    ),
    "budget": Question(
        "time",
        "How long may the comparison take? (Another time is an answer too: 45m.)",
        {
            NO_BUDGET: "as many trials and seeds as a verdict usually asks for",
            "30m": "what half an hour has room for",
            "2h": "what two hours have room for",
            "8h": "what a night has room for",
        },
        Budget.read,
    ),
}
"""The questions by the option of the command line that answers them."""


@dataclass(frozen=True)
class Asked:
    """Advice that is asked for: the options of the command line. None has not been given."""

    declared: Declared | None
    kind: str | None
    preset: str
    priority: str | None
    budget: str | None


def run(asked: Asked) -> None:
    """Print the advice for a task, or for a kind of network. Without either, ask in a terminal what is open."""
    if asked.declared is None and asked.kind is None and questions.in_terminal():
        asked = _answered(asked)
    if asked.budget is not None:
        Budget.read(asked.budget)  # a wrong one is told before anything is built
    declared = asked.declared
    model = None if declared is None else _model(declared, asked.preset)
    name = asked.kind or _kind(declared, model)
    found = advice.candidates(name, asked.priority or next(iter(PRIORITIES)))
    lines = [] if declared is None or model is None else [_described(declared.source, model)]
    for line in [*lines, f"kind: {name} ({KINDS[name].words})", "", *_shown(found), "", *_command(asked, name, found)]:
        console.out().print(line, markup=False, highlight=False, soft_wrap=True)


def _answered(asked: Asked) -> Asked:
    """Return the options with answers for those that were not given, and print the command that has them all."""
    open_ones = {name: question for name, question in QUESTIONS.items() if getattr(asked, name) is None}
    try:
        answers = {name: questions.ask(question) for name, question in open_ones.items()}
    except KeyboardInterrupt:
        console.out().print()
        raise typer.Exit(130) from None
    except EOFError:
        console.out().print()
        raise _unknown_kind(None) from None
    budget = answers.get("budget", asked.budget)
    full = replace(
        asked,
        kind=answers.get("kind", asked.kind),
        priority=answers.get("priority", asked.priority),
        budget=None if budget == NO_BUDGET else budget,
    )
    flags = " ".join(f"--{name} {value}" for name in QUESTIONS if (value := getattr(full, name)) is not None)
    console.out().print(f"\nThe same without questions: steepest advise {flags}\n", markup=False)
    return full


def _model(declared: Declared, preset: str) -> nn.Module | None:
    """Return a task's model; None for a loop of its own, which makes its model itself."""
    made = declared(preset)
    return made.model() if isinstance(made, Workload) else None


def _described(task: str, model: nn.Module) -> str:
    params = list(model.parameters())
    return f"{task}: {sum(p.numel() for p in params):,} parameters in {len(params)} tensors"


def _kind(declared: Declared | None, model: nn.Module | None) -> str:
    if model is not None:
        return advice.kind_of(model)
    raise _unknown_kind(declared)


def _unknown_kind(declared: Declared | None) -> UsageError:
    known = "; ".join(f"{name}: {kind.words}" for name, kind in KINDS.items())
    if declared is None:
        return UsageError(f"give a task, or say what its network is made of with --kind: {known}")
    return UsageError(f"{declared.source} makes its model in its own loop; say what it is made of with --kind: {known}")


def _shown(found: list[Candidate]) -> Iterator[str]:
    for number, candidate in enumerate(found, 1):
        rate = candidate.config.origin.ranges.get("lr")
        yield f"{number}. {candidate.config.label}: {candidate.reason}"
        yield f"   search lr from {rate.low:g} to {rate.high:g} ({rate.scale})" if rate else "   no rate to search"
        yield f"   evidence: {candidate.evidence or 'the practice of the field; no study of ours has it on this kind'}"


def _command(asked: Asked, kind: str, found: list[Candidate]) -> Iterator[str]:
    names = " ".join(f"-o {shlex.quote(candidate.recipe)}" for candidate in found)
    task = KINDS[kind].workload if asked.declared is None else shlex.quote(asked.declared.source)
    yield f"steepest study {task} {names} {_sizes(asked)}"
    if asked.declared is None:
        yield f"   {task} is of the library; put a file of yours in its place, my_task.py (docs/workloads.md)"
    fits = "" if asked.budget else "; --budget 2h fits trials and seeds to a time"
    yield f"   --plan-only says first how long it takes{fits}"
    yield (
        "Our studies are small and short: they say which two to compare, not which one wins on your task. Compare at "
        "the end of the schedule."
    )


def _sizes(asked: Asked) -> str:
    """Return the options for the sizes of the study. A budget chooses those that the priority leaves open."""
    trials = Declaration.trials if asked.priority is None else PRIORITIES[asked.priority].trials
    if asked.budget is None:
        return f"--trials {trials} --seeds {Declaration.seeds}"
    return f"--budget {asked.budget}" if trials == Declaration.trials else f"--trials {trials} --budget {asked.budget}"
