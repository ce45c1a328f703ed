"""MLflow: a run for every trial, in an SQLite file."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from steepest.study.records.format import FINISHED, INTERRUPTED
from steepest.study.report.loggers.base import LoggedTrial, package

METRICS: Final = 1000
PARAMS: Final = 100
"""The numbers that MLflow takes in one call."""

TRIAL: Final = "steepest.trial"
"""The tag by which a trial's run is found again."""

STATUSES: Final = {FINISHED: "FINISHED", INTERRUPTED: "RUNNING"}
"""MLflow's words; any other status is FAILED, and every status is a tag too."""

T = TypeVar("T")
Point = tuple[str, str, int]
"""A figure's name, its value as text, as NaN is not equal to itself, and the step."""


class MLflow:
    """A run for every trial, in `mlflow.db` of the folder, and an experiment for every study.

    MLflow refuses its older store of plain files. A run is added to while what it has is what the records say; one that
    differs is deleted (MLflow keeps it among deleted runs) and made anew. All points have the time at which the study
    was planned.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes over a network
        package("sqlalchemy", "MLflow", "mlflow")  # mlflow-skinny lacks it
        tracking = package("mlflow.tracking", "MLflow", "mlflow")
        self._entities = package("mlflow.entities", "MLflow", "mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._client = tracking.MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}")

    def begin_trial(self, trial: LoggedTrial) -> None:
        """Begin to collect a trial, which is written as a whole."""
        self._trial, self._step = trial, 0
        self._points: dict[Point, None] = {}

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Collect the figures of a step."""
        self._step = step
        self._points |= {(_name(name), _number(value), step): None for name, value in values.items()}

    def end_trial(self, status: str, results: Mapping[str, float]) -> None:
        """Write the trial, its results at the last step."""
        self.points(self._step, results)
        experiment = self._experiment(self._trial.study)
        run, stored = self._stored(experiment)
        run = run or self._created(experiment)
        new = [point for point in self._points if point not in stored]
        for part in _parts(new, METRICS):
            self._client.log_batch(run, metrics=[self._metric(point) for point in part])
        self._client.set_tag(run, "status", status)
        self._client.update_run(run, status=STATUSES.get(status, "FAILED"))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        place = (self._folder / "artifacts").resolve().as_uri()
        return str(found.experiment_id if found else self._client.create_experiment(name, artifact_location=place))

    def _stored(self, experiment: str) -> tuple[str | None, set[Point]]:
        """Return the trial's run and its points; delete a run that has others than the trial."""
        runs = self._client.search_runs([experiment], filter_string=f"tags.`{TRIAL}` = '{self._trial.id}'")
        for run in runs:
            stored = {
                (metric.key, _number(metric.value), metric.step)
                for name in run.data.metrics
                for metric in self._client.get_metric_history(run.info.run_id, name)
            }
            if stored <= self._points.keys():
                return run.info.run_id, stored
            self._client.delete_run(run.info.run_id)
        return None, set()

    def _created(self, experiment: str) -> str:
        """Return a new run for the trial, with its hyperparameters as parameters and the rest as tags."""
        trial = self._trial
        tags = {TRIAL: trial.id, **{name: str(value) for name, value in trial.config.items()}}
        made = self._client.create_run(experiment, start_time=self._time, tags=tags, run_name=trial.id)
        for part in _parts(list(trial.settings.items()), PARAMS):
            self._client.log_batch(
                made.info.run_id, params=[self._entities.Param(_name(name), str(value)) for name, value in part]
            )
        return str(made.info.run_id)

    def _metric(self, point: Point) -> Any:
        name, value, step = point
        return self._entities.Metric(name, float(value), self._time, step)

    @property
    def _time(self) -> int:
        """The time of all points, in milliseconds. Equal points with one time are one point for MLflow."""
        return round(self._trial.started * 1000)


def _name(name: str) -> str:
    """Return a name in the characters that MLflow allows; any other one as its number."""
    return re.sub(r"[^/\w.\- ]", lambda found: f":{ord(found[0])}:", name)


def _number(value: float) -> str:
    """Return the value that MLflow stores, as text: infinity is the largest number there."""
    return repr(float(value if value != value else min(max(value, -sys.float_info.max), sys.float_info.max)))


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
