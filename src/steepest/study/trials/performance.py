"""The performance of a training function: its run begins, its reports go to a watcher, and it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch.utils.weak import WeakIdKeyDictionary

from steepest.study import seeds
from steepest.study.optimizers import settings
from steepest.study.trials import devices
from steepest.study.trials.run import Ended, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec

WARM_UP_STEPS: Final = 2
_WARM = WeakIdKeyDictionary()
"""The optimizers that a task has been warmed up with in this process, by their sources."""


def perform(task: Trainable, spec: TrialSpec, watcher: Watcher, place: Path | None = None) -> Run:
    """Call a task's training function with a run of its own, until it returns or its watcher ends it.

    Torch computes with the specification's number of threads. Afterwards the process has its own number and every other
    setting again, whatever the function has set; `Run.changes` names what it set. `place` is the folder of the run's
    files; None is a temporary one.
    """
    device = torch.device(spec.device)
    with threads(spec.threads), settings.kept() as changes:
        with seeds.on(device), devices.deterministic(spec.deterministic):
            run = Run(spec, task.metric, watcher, place)
            with run.stream.active():
                try:
                    _train(run, task, spec)
                except Ended:
                    pass
                finally:
                    run.close()
        run.changes = changes()
    return run


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set torch's number of threads inside the block, on which the order of sums depends."""
    outside = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(outside)


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
        perform(task, spec, Steps(WARM_UP_STEPS))


def warm_up_once(spec: TrialSpec, task: Trainable) -> None:
    """Warm up if this process has not yet done so for the task with this optimizer."""
    warm: set[str] = _WARM.setdefault(task, set())  # type: ignore[no-untyped-call]
    if spec.config.source not in warm:
        warm_up(spec, task)
        warm.add(spec.config.source)
