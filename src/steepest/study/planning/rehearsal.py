"""The rehearsal of an experiment: two steps, an evaluation and a test, twice for every optimizer, before the plan."""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.utils.data import DataLoader

from steepest.study import user_files
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning.dry_run import DryRun, tensors, uncovered
from steepest.study.trials.optimizers import executor_of
from steepest.study.trials.performance import perform
from steepest.study.trials.resume_check import parts, same
from steepest.study.trials.run import Ended, Loop, Run, Trainable, Watcher
from steepest.study.trials.spec import TrialSpec

STEPS: Final = 2
TWICE: Final = 2
CLOSE: Final = 1e-3
"""The largest relative difference of two first losses from rounding only."""


@dataclass
class Rehearsed:
    """The facts that one rehearsal found. `loop` is None if it did not come so far."""

    loop: Loop | None = None
    losses: list[float] = field(default_factory=list)
    validations: list[Mapping[str, float]] = field(default_factory=list)
    tests: list[Mapping[str, float]] = field(default_factory=list)
    state: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    parameters: int = 0
    seconds: float = 0.0
    steps: int = 0
    asked_for: set[str] = field(default_factory=set)
    too_long: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """The rehearsals of one optimizer, and their outcome.

    `difference` is a sentence if the two were not equal bit by bit.
    """

    report: DryRun
    facts: Rehearsed
    difference: str | None = None


def rehearse(config: OptimizerConfig, pattern: TrialSpec, task: Trainable, file: Path | None = None) -> Rehearsal:
    """Rehearse an experiment with one optimizer. Problems of the experiment are told, with the line of its file."""
    found: list[Rehearsed] = []
    executor, count = None, 0
    problems: list[str] = []
    for _ in range(TWICE):
        rehearsing = _Rehearsing()
        try:
            with shortened(rehearsing.is_done):
                run = perform(task, replace(pattern, config=config), rehearsing)
        except UsageError as error:
            return Rehearsal(DryRun(problems=(str(error),)), rehearsing.facts)
        except Exception as error:  # whatever the user's function raises
            return Rehearsal(DryRun(skipped=user_files.reason(error, file)), rehearsing.facts)
        rehearsing.facts.steps = sum(made.steps for made in run.optimizers.values())
        found.append(rehearsing.facts)
        executor = executor_of(next(iter(run.optimizers.values())).made)
        problems = [*uncovered(config.label, run), *_mistakes(rehearsing.facts, task.metric.name)]
        count = tensors(run)
    first, second = found
    first.seconds = min(first.seconds, second.seconds)  # the first time much is loaded
    difference, unequal = _difference(first, second)
    return Rehearsal(DryRun(executor, problems=(*problems, *unequal), tensors=count), first, difference)


def is_deaf_to_seeds(config: OptimizerConfig, pattern: TrialSpec, task: Trainable, facts: Rehearsed) -> bool:
    """Return whether another seed gives the losses that a rehearsal gave."""
    rehearsing = _Rehearsing()
    try:
        with shortened(rehearsing.is_done):
            perform(task, replace(pattern, config=config, seed=pattern.seed + 1), rehearsing)
    except Exception:  # of this seed only: its trial will tell
        return False
    return bool(facts.losses) and same(rehearsing.facts.losses, facts.losses)


def _mistakes(facts: Rehearsed, metric: str) -> Iterator[str]:
    """Yield the mistakes in what a rehearsal reported."""
    if facts.losses and not facts.steps and "scaler" not in facts.asked_for:  # which leaves steps out at first
        yield (
            "run.step was called, and the run's optimizer has taken no step: call step() of the optimizer that "
            "run.optimizer returns"
        )
    bad = next((loss for loss in facts.losses if not math.isfinite(loss)), None)
    if bad is not None:
        yield f"the loss is {bad} in the first steps; look for such numbers in data and model"
    if facts.too_long:
        return
    if not facts.validations:
        yield f"the training function never validates: call run.validate({metric}=...) after every epoch"
    if not facts.tests:
        yield f"the training function never tests: call run.test({metric}=...) after its loop"
    for place, reported in (("validate", facts.validations), ("test", facts.tests)):
        wrong = [name for figures in reported for name, value in figures.items() if math.isnan(value)]
        if wrong and bad is None:
            yield f"run.{place} was given NaN as {', '.join(dict.fromkeys(wrong))} after the first steps"


def _difference(first: Rehearsed, second: Rehearsed) -> tuple[str | None, tuple[str, ...]]:
    """Return a sentence on the difference of two rehearsals, and the problem that it is if it is large."""
    finite = all(map(math.isfinite, (*first.losses, *second.losses)))
    if finite and first.losses and second.losses and not math.isclose(first.losses[0], second.losses[0], rel_tol=CLOSE):
        return "first losses", (
            f"two runs of equal seeds began with the losses {first.losses[0]:g} and {second.losses[0]:g}, so the "
            "optimizers of a seed would not start alike; draw from the global generators of torch, NumPy or random, "
            "or from run.generator(...)",
        )
    for what in ("losses", "validations", "tests"):
        if not same(getattr(first, what), getattr(second, what)):
            return f"{what} of the first {STEPS} steps", ()
    different = [name for name, value in first.state.items() if not same(value, second.state.get(name))]
    return (", ".join(different) or None), ()


class _Rehearsing(Watcher):
    """A watcher that shortens a run to some steps, and notes all that it reports."""

    shortens = True
    last_step = STEPS

    def __init__(self) -> None:
        self.facts = Rehearsed()
        self._done = False
        self._began = 0.0

    def is_done(self) -> bool:
        return self._done

    def begun(self, run: Run) -> None:
        assert run.loop is not None
        keep = None if run.loop.keep is None else dict.fromkeys(run.loop.keep)
        self.facts.loop = replace(run.loop, keep=keep)  # the names only: a DataLoader's processes end with it
        models = [made.of for made in run.optimizers.values() if isinstance(made.of, nn.Module)]
        self.facts.model = " and ".join(type(model).__name__ for model in models) or "model"
        self.facts.parameters = sum(p.numel() for group in run.param_groups for p in group["params"])

    def stepped(self, run: Run, loss: float) -> None:
        self.facts.losses.append(loss)
        if self._done:  # the loop iterates over something that cannot be shortened
            self.facts.too_long = True
            raise Ended
        self.facts.asked_for = run.asked_for
        self._done = run.counts.steps >= STEPS
        self._began = time.perf_counter()

    def marked(self, run: Run) -> bool:
        return self._done

    def validated(self, run: Run, figures: Mapping[str, float]) -> None:
        if any(name.startswith("validation_") for name in figures):
            self.facts.validations.append(figures)
            self.facts.seconds = time.perf_counter() - self._began

    def looped(self, run: Run) -> None:
        self.facts.state = parts(run.state())

    def tested(self, run: Run, figures: Mapping[str, float]) -> None:
        self.facts.tests.append(figures)


@contextmanager
def shortened(is_done: Callable[[], bool]) -> Iterator[None]:
    """Let every DataLoader whose pass begins before `is_done` end when it becomes true."""
    whole = DataLoader.__iter__

    def begin(loader: DataLoader[Any]) -> Iterator[Any]:
        batches = whole(loader)
        return batches if is_done() else _until(is_done, batches)

    DataLoader.__iter__ = begin  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        DataLoader.__iter__ = whole  # type: ignore[method-assign]


def _until(is_done: Callable[[], bool], batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield batch
        if is_done():
            return


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
