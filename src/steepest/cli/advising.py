"""`steepest advise`: two optimizers to compare on a task, with the command that compares them."""

import shlex
from collections.abc import Iterator

from torch import nn

from steepest.cli import console
from steepest.study import advice
from steepest.study.advice import KINDS, Candidate
from steepest.study.declaration import Declaration, Declared, Workload
from steepest.study.errors import UsageError


def run(declared: Declared | None, kind: str | None, preset: str) -> None:
    """Print the advice for a task, or for a kind of network."""
    model = None if declared is None else _model(declared, preset)
    name = kind or _kind(declared, model)
    found = advice.candidates(name)
    task = "my_task.py" if declared is None else declared.source
    lines = [] if model is None else [_described(task, model)]
    for line in [*lines, f"kind: {name} ({KINDS[name].words})", "", *_shown(found), *_command(task, found)]:
        console.out().print(line, markup=False, highlight=False, soft_wrap=True)


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
    known = "; ".join(f"{name}: {kind.words}" for name, kind in KINDS.items())
    if declared is None:
        raise UsageError(f"give a task, or say what its network is made of with --kind: {known}")
    raise UsageError(f"{declared.source} makes its model in its own loop; say what it is made of with --kind: {known}")


def _shown(found: list[Candidate]) -> Iterator[str]:
    for number, candidate in enumerate(found, 1):
        rate = candidate.config.origin.ranges["lr"]
        yield f"{number}. {candidate.config.label}: {candidate.reason}"
        yield f"   search lr from {rate.low:g} to {rate.high:g} ({rate.scale})"
        yield f"   evidence: {candidate.evidence or 'the practice of the field; no study of ours is of this kind'}"


def _command(task: str, found: list[Candidate]) -> Iterator[str]:
    names = " ".join(f"-o {shlex.quote(candidate.recipe)}" for candidate in found)
    yield ""
    yield f"steepest study {task} {names} --trials {Declaration.trials} --seeds {Declaration.seeds}"
    yield "   --plan-only says first how long it takes; --budget 2h fits trials and seeds to a time"
    yield (
        "Our studies are small and short: they say which two to compare, not which one wins on your task. Compare at "
        "the end of the schedule."
    )
