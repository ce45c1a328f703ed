"""A dry run before the plan is locked: it finds errors and wrong numbers at once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from steepest.study import user_files
from steepest.study.declaration import NEEDS, Need
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.trials.optimizers import executor_of
from steepest.study.trials.performance import Steps, perform
from steepest.study.trials.run import Run, Trainable
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task_check import listed

STEPS: Final = 2


@dataclass(frozen=True)
class DryRun:
    """The result of a dry run: the executor of the steps, a reason for skipping, or a problem that stops the study.

    `tensors` is the number of parameters that the run's optimizers have.
    """

    executor: str | None = None
    skipped: str | None = None
    problems: tuple[str, ...] = ()
    tensors: int = 0


def try_steps(config: OptimizerConfig, pattern: TrialSpec, task: Trainable, needs: Collection[Need]) -> DryRun:
    """Build the optimizer on its own model and take two steps, as a trial would."""
    steps = Steps(STEPS)
    try:
        run = perform(task, replace(pattern, config=config), steps)
    except Exception as error:  # whatever another library raises
        reason = user_files.reason(error)
        because = "; ".join(NEEDS[need] for need in needs)
        return DryRun(skipped=f"{reason} (of this workload: {because})" if because else reason)
    executor = executor_of(next(iter(run.optimizers.values())).made)
    return DryRun(executor, problems=tuple(uncovered(config.label, run)), tensors=tensors(run))


def tensors(run: Run) -> int:
    """Return the number of parameters that a run's optimizers have."""
    return sum(len(group["params"]) for group in run.param_groups)


def uncovered(label: str, run: Run) -> Iterator[str]:
    """Yield a sentence if any parameter with a gradient belongs to none of the optimizers' groups."""
    grouped = {id(p) for group in run.param_groups for p in group["params"]}
    kept = run.loop.keep or {} if run.loop else {}
    models = [thing for thing in kept.values() if isinstance(thing, nn.Module)]
    named = [pair for model in models for pair in model.named_parameters()]
    missing = [name for name, p in named if p.grad is not None and id(p) not in grouped]
    if missing:
        yield (
            f"{label} does not train {listed(missing)}: the loss has gradients for these parameters, and none of its "
            "groups holds them. Give every parameter to a group, or freeze in model() what shall stay as it is, with "
            "requires_grad_(False)"
        )
