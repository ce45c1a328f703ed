"""The cost of every optimizer next to its result: seconds of a step and bytes of state."""

import statistics
from dataclasses import dataclass

from steepest.study.report.findings.time_to_target import timing_rounds
from steepest.study.report.stored.study import Study, by_label


@dataclass(frozen=True)
class Cost:
    """One optimizer's step: its median seconds in every round, and the bytes that it remembers per parameter.

    `ratio` is the median over rounds over the reference's; None where the reference was not timed.
    """

    label: str
    rounds: tuple[float, ...]
    ratio: float | None
    state_bytes: float | None

    @property
    def seconds(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.rounds)


def costs(study: Study) -> tuple[Cost, ...]:
    """Return every optimizer that the timing pass timed, in the study's order."""
    rounds = timing_rounds(study)
    base = statistics.median(rounds[study.reference]) if study.reference in rounds else None
    return tuple(
        Cost(label, tuple(its), statistics.median(its) / base if base else None, _state_bytes(study, label))
        for label, its in rounds.items()
    )


def _state_bytes(study: Study, label: str) -> float | None:
    trials = by_label(study.timing_trials).get(label, ())
    found = [trial.final.get("state_bytes_per_parameter") for trial in trials if trial.finished]
    return next((value for value in found if value is not None), None)
