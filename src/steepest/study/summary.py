"""The few numbers that stand for a study on a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from steepest.study.records import Record, number
from steepest.study.store import StudyFolder


@dataclass(frozen=True)
class Figure:
    """A mean over seeds and, from two seeds on, the sample standard deviation."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: list[float]) -> "Figure | None":
        """Return the figure of some values, None without any."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Line:
    """One optimizer: how its trials ended, and what the finished ones measured."""

    label: str
    statuses: Mapping[str, int]
    test: Figure | None
    validation: Figure | None
    train_loss: Figure | None
    speed: Figure | None


def summarize(folder: StudyFolder) -> list[Line]:
    """Return a line for every optimizer of a study folder, in the study's order."""
    document = folder.read_document() or {"optimizers": [], "trials": []}
    return [_line(entry["label"], document, folder) for entry in document["optimizers"]]


def _line(label: str, document: Mapping[str, Any], folder: StudyFolder) -> Line:
    evaluated = [trial for trial in document["trials"] if trial["phase"] == "evaluation"]
    ids = [trial["id"] for trial in evaluated if trial["optimizer"] == label]
    trials = {one: folder.read_trial(one) for one in ids}
    finished = [one for one in ids if trials[one].status == "finished"]
    ends = [trials[one].lines[-1] for one in finished]
    epochs = [_last_epoch(trials[one].lines) for one in finished]
    times = [folder.read_times(one).end or {} for one in finished]
    metric = document["metric"]["name"]
    statuses = [trials[one].status for one in ids]
    return Line(
        label=label,
        statuses={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        test=Figure.of(_values(ends, f"test_{metric}")),
        validation=Figure.of(_values(epochs, f"validation_{metric}")),
        train_loss=Figure.of(_values(epochs, "train_loss")),
        speed=Figure.of([one["examples"] / one["train_seconds"] for one in times if one.get("train_seconds")]),
    )


def _last_epoch(lines: list[Record]) -> Record:
    return next(line for line in reversed(lines) if line["kind"] == "epoch")


def _values(records: list[Record], key: str) -> list[float]:
    return [number(record[key]) for record in records if key in record]
