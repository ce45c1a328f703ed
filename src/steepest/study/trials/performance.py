"""The performance of a training function: its run begins, its reports go to a watcher, and it ends."""

from pathlib import Path
from typing import Final

import torch

from steepest.study import seeds
from steepest.study.optimizers import settings
from steepest.study.trials import devices
from steepest.study.trials.run import Ended, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec

WARM_UP_STEPS: Final = 2


def perform(task: Trainable, spec: TrialSpec, watcher: Watcher, place: Path | None = None) -> Run:
    """Call a task's training function with a run of its own, until it returns or its watcher ends it.

    `place` is the folder of the run's files; None is a temporary one.
    """
    device = torch.device(spec.device)
    with seeds.on(device), devices.deterministic(spec.deterministic):
        run = Run(spec, task.metric, watcher, place)
        with run.stream.active():
            try:
                _train(run, task, spec)
            except Ended:
                pass
            finally:
                run.close()
    return run


def _train(run: Run, task: Trainable, spec: TrialSpec) -> None:
    """Train, and check that the loop was whole. The result of a run that is over stands, whatever comes after it."""
    try:
        task.train(run, spec)
    except Exception:
        if not run.over:
            raise
    if not run.over:
        run.check_complete()


class Steps(Watcher):
    """A watcher that ends a run after some steps."""

    measures = False

    def __init__(self, count: int) -> None:
        self._count = count

    def stepped(self, run: Run, loss: float) -> None:
        """End the run at the last of the steps."""
        if run.counts.steps >= self._count:
            raise Ended


def warm_up(spec: TrialSpec, task: Trainable) -> None:
    """Take steps that do not count, so that kernels are chosen and plans made before the clock runs."""
    if WARM_UP_STEPS:
        with settings.kept():
            perform(task, spec, Steps(WARM_UP_STEPS))
