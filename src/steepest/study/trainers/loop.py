"""The loop of a run inside of a trainer that calls back: it moves on from epoch to epoch when it is told."""

from collections.abc import Iterator
from typing import Final

from steepest.study.errors import UsageError
from steepest.study.trials.keeping import Keep
from steepest.study.trials.run import Run

DONE: Final = -1


class CalledLoop:
    """`run.epochs`, one epoch for each call."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._epochs: Iterator[int] = iter(())
        self._begun = False

    def begin(self, count: int | None, steps: int | None, keep: Keep) -> int:
        """Begin the loop. Return the number of epochs that are done: more than 0 if the trial resumes."""
        if self._begun:
            raise UsageError("the trainer began to train twice; a run trains once")
        self._epochs = self._run.epochs(count, steps=steps, keep=keep)
        self._begun = True
        return next(self._epochs)

    def epoch_begins(self) -> None:
        """End the epoch before, if this is not the first one since `begin`."""
        if self._run.counts.in_epoch and next(self._epochs, DONE) == DONE:
            raise UsageError("the trainer began an epoch after the last; leave the number of epochs to the run")

    def end(self) -> None:
        """End the last epoch and the loop."""
        if next(self._epochs, DONE) != DONE:
            assert self._run.loop is not None
            raise UsageError(
                f"the trainer stopped after {self._run.counts.epoch} of {self._run.loop.horizon} epochs; a run trains "
                "to its end, so leave out what stops early"
            )


def check_precision(run: Run, own: str, advice: str) -> None:
    """Raise UsageError for a trainer whose precision is not the study's."""
    if run.precision == "fp16":
        raise UsageError(
            "--precision fp16 needs a scaler that trainers keep to themselves; take bf16, or write the loop"
        )
    if own != run.precision:
        raise UsageError(f"the Trainer computes in {own}, and the study in {run.precision}: give {advice}")
    run.asked_for.add("precision")
