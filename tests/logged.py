"""A logger in memory, and a study's figures by name, read from its files by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steepest.study import LoggedTrial

FIGURES = ("gradient_norm", "update_norm", "weight_norm", "cosine")

Curves = dict[tuple[str, int], str]
"""The values by name and step, as text: NaN is not equal to itself."""


@dataclass
class Memory:
    """A logger that keeps a trial as it was last given."""

    folder: Path | None = None
    trials: dict[str, LoggedTrial] = field(default_factory=dict)
    curves: dict[str, Curves] = field(default_factory=dict)
    ends: dict[str, tuple[str, Mapping[str, float]]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def begin_trial(self, trial: LoggedTrial) -> None:
        self.begun.append(trial.id)
        self.trials[trial.id], self.curves[trial.id] = trial, {}
        self._last = -1

    def points(self, step: int, values: Mapping[str, float]) -> None:
        assert step > self._last
        assert values
        self._last = step
        self.curves[self.begun[-1]] |= {(name, step): repr(float(value)) for name, value in values.items()}

    def end_trial(self, status: str, results: Mapping[str, float]) -> None:
        self.ends[self.begun[-1]] = status, results


def stored(folder: Path, trial: str) -> Curves:
    """The figures of a trial's own file; a line that is cut off is none."""
    found: Curves = {}
    for line in (folder / "trials" / f"{trial}.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        found |= {(name, record["step"]): repr(float(value)) for name, value in _figures(record).items()}
    times = folder / "times" / f"{trial}.jsonl"
    clock = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()] if times.exists() else []
    for time in clock:
        if time["kind"] == "epoch" and ("epoch", time["step"]) in found:
            found["seconds", time["step"]] = repr(time["train_seconds"])
    if ("epoch", 0) in found:
        found["seconds", 0] = "0.0"
    return found


def _figures(record: dict[str, Any]) -> dict[str, Any]:
    match record.pop("kind"):
        case "step":
            return {"loss": record["loss"]}
        case "epoch":
            return {name: value for name, value in record.items() if name != "step"}
        case "log":
            return {f"log/{name}": value for name, value in record.items() if name not in ("step", "epoch")}
        case "behaviour":
            layers = {"all": [record[name] for name in FIGURES], **record["layers"]}
            return {f"{n}/{key}": v for key, values in layers.items() for n, v in zip(FIGURES, values, strict=True)}
        case _:
            return {}


def single(curves: Curves) -> Curves:
    """The same in single precision, which TensorBoard has."""
    import numpy as np

    return {place: repr(float(np.float32(value))) for place, value in curves.items()}


def finite(curves: Curves) -> Curves:
    return {place: value for place, value in curves.items() if math.isfinite(float(value))}
