"""A progress line for a study from Python, on a terminal or in a notebook."""

import builtins
import sys
import time
from collections.abc import Sequence
from typing import Final, TextIO

from steepest.study.report.wording import duration
from steepest.study.running.progress import Progress
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

WIDTH: Final = 79
PAUSE: Final = 0.25
"""Seconds between two updates of the line."""


def is_watched() -> bool:
    """Return whether standard error is shown while it is written: on a terminal or in a notebook."""
    return sys.stderr.isatty() or bool(getattr(builtins, "__IPYTHON__", False))


class ProgressLine:
    """A callback that writes one line and replaces it as long as the study runs."""

    def __init__(self, progress: Progress, file: TextIO) -> None:
        self._progress = progress
        self._file = file
        self._stage: Sequence[str] = ()
        self._shown = -PAUSE

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        """Count the trials of the stage."""
        self._progress.stage_started(trials)
        self._stage = [trial.id for trial in trials]

    def trial_started(self, trial: TrialSpec) -> None:
        """Name the trial."""
        self._progress.trial_started(trial)
        self._show(trial)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        """Show the state, unless it was shown just before."""
        self._progress.trial_event(trial, event)
        self._show(trial)

    def close(self) -> None:
        """End the line for the output that follows."""
        self._write("")

    def _show(self, trial: TrialSpec) -> None:
        if time.monotonic() - self._shown >= PAUSE:
            self._shown = time.monotonic()
            self._write(self._words(trial))

    def _words(self, trial: TrialSpec) -> str:
        rows = [self._progress.rows[planned] for planned in self._stage]
        done = sum(row.status not in ("waiting", "running") for row in rows)
        left = self._progress.seconds_left()
        rest = "" if left is None else f", about {duration(left)} left"
        counts = f"{trial.phase}: {done} of {len(rows)} trials done{rest}"
        return f"{counts}; {trial.config.label} seed {trial.seed}"

    def _write(self, words: str) -> None:
        self._file.write(f"\r{words[:WIDTH]:{WIDTH}}\r")
        self._file.flush()
