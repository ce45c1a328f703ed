"""A dry run before the plan is locked: it finds errors and wrong numbers at once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from steepest.study import user_files
from steepest.study.declaration import NEEDS, Need
from steepest.study.optimizers import settings
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.task_check import batches, listed
from steepest.study.trials.training import Trainer, executor_of


@dataclass(frozen=True)
class DryRun:
    """The result of a dry run: the executor of the steps, a reason for skipping, or a problem that stops the study."""

    executor: str | None = None
    skipped: str | None = None
    problems: tuple[str, ...] = ()


def try_steps(config: OptimizerConfig, pattern: TrialSpec, task: Task, needs: Collection[Need]) -> DryRun:
    """Build the optimizer on its own model and take two steps, as a trial would: a full batch and a last one."""
    try:
        with settings.kept():
            trainer = Trainer(replace(pattern, config=config), task)
            for batch in batches(task, pattern):
                trainer.advance(batch)
    except Exception as error:  # whatever another library raises
        reason = user_files.reason(error)
        because = "; ".join(NEEDS[need] for need in needs)
        return DryRun(skipped=f"{reason} (of this workload: {because})" if because else reason)
    return DryRun(executor_of(trainer.optimizer), problems=tuple(_uncovered(config.label, trainer)))


def _uncovered(label: str, trainer: Trainer) -> Iterator[str]:
    """Yield a sentence if any parameter with a gradient belongs to none of the optimizer's groups."""
    grouped = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    named = trainer.model.named_parameters()
    missing = [name for name, p in named if p.grad is not None and id(p) not in grouped]
    if missing:
        yield (
            f"{label} does not train {listed(missing)}: the loss has gradients for these parameters, and none of its "
            "groups holds them. Give every parameter to a group, or freeze in model() what shall stay as it is, with "
            "requires_grad_(False)"
        )
