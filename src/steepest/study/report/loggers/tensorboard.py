"""TensorBoard: an events file for every trial."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steepest.study.records.format import INTERRUPTED
from steepest.study.report.loggers.base import LoggedTrial, package

FILE: Final = "events.out.tfevents.0.steepest"
"""The name of an events file. The middle is what TensorBoard looks for, the number is the time in other programs."""

VERSION: Final = "brain.Event:2"


class TensorBoard:
    """A run for every trial, in a folder of its name.

    The file follows from the records: all its events have the time at which the study was planned, and results,
    hyperparameters (for the HParams page) and the status come once the trial has ended. So the file of a trial that
    runs is added to, and a TensorBoard that shows it reads on.
    """

    def __init__(self, folder: Path) -> None:
        package("tensorboard", "TensorBoard", "tensorboard")
        self._summary = package("torch.utils.tensorboard.summary", "TensorBoard", "tensorboard")
        self._proto = package("tensorboard.compat.proto.event_pb2", "TensorBoard", "tensorboard")
        self._record_writer = package("tensorboard.summary.writer.record_writer", "TensorBoard", "tensorboard")
        self._folder = folder

    def begin_trial(self, trial: LoggedTrial) -> None:
        """Begin to collect a trial's events."""
        self._trial, self._step = trial, 0
        self._content = io.BytesIO()
        self._writer = self._record_writer.RecordWriter(self._content)
        self._add(file_version=VERSION)

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Add a scalar for every figure."""
        self._step = step
        for name, value in values.items():
            self._add(summary=self._summary.scalar(name, value))

    def end_trial(self, status: str, results: Mapping[str, float]) -> None:
        """Add the results as scalars at the last step, hyperparameters and status, and write the file."""
        if status != INTERRUPTED:
            settings = {name: _plain(value) for name, value in self._trial.settings.items()}
            self.points(self._step, results)
            self._add(summary=self._summary.text("status", status))
            for summary in self._summary.hparams(settings, results):
                self._add(summary=summary)
        _bring_up_to_date(self._folder / self._trial.id / FILE, self._content.getvalue())

    def _add(self, **what: Any) -> None:
        event = self._proto.Event(wall_time=self._trial.started, step=self._step, **what)
        self._writer.write(event.SerializeToString())


def _bring_up_to_date(path: Path, content: bytes) -> None:
    """Append to a file what it lacks of its content; write one that has something else anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_bytes() if path.exists() else b""
    begins = content.startswith(old)
    with path.open("ab" if begins else "wb") as file:
        file.write(content[len(old) :] if begins else content)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float) else str(value)
