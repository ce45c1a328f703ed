"""A step of every optimizer before a study begins: what cannot run is found at once, with its reason."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from steepest.study import user_files
from steepest.study.contestant import Contestant
from steepest.study.declaration import NEEDS, Need
from steepest.study.spec import TrialSpec
from steepest.study.task import Task
from steepest.study.training import Trainer, executor_of


@dataclass(frozen=True)
class Rehearsal:
    """What would run an optimizer's steps, or why it is skipped."""

    executor: str | None = None
    skipped: str | None = None


def rehearse(contestant: Contestant, pattern: TrialSpec, task: Task, needs: Collection[Need]) -> Rehearsal:
    """Build the optimizer on a model of its own and take one step, as a trial would."""
    try:
        trainer = Trainer(replace(pattern, contestant=contestant), task)
        trainer.advance(task.splits.train.batch(slice(0, pattern.batch_size)))
    except Exception as error:  # whatever another library raises
        reason = user_files.reason(error)
        because = "; ".join(NEEDS[need] for need in needs)
        return Rehearsal(skipped=f"{reason} (of this workload: {because})" if because else reason)
    return Rehearsal(executor=executor_of(trainer.optimizer))
