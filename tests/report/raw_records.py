"""The tests' own reading of stored records, independent of the package's reader."""

import json
import math
from pathlib import Path
from typing import Any

Records = list[dict[str, Any]]


def raw_phase(folder: Path, phase: str) -> list[tuple[dict[str, Any], Records, Records]]:
    """Entry, records and times of every trial of a phase."""
    entries = json.loads((folder / "study.json").read_text(encoding="utf-8"))["trials"]
    paths = {kind: folder / kind for kind in ("trials", "times")}
    return [
        (entry, *(_lines(path / f"{entry['id']}.jsonl") for path in paths.values()))
        for entry in entries
        if entry["phase"] == phase
    ]


def raw_trials(folder: Path) -> dict[str, dict[int, tuple[Records, Records]]]:
    """Records and times by label and seed; unreadable lines are skipped, missing files are empty."""
    found: dict[str, dict[int, tuple[Records, Records]]] = {}
    for entry in json.loads((folder / "study.json").read_text(encoding="utf-8"))["trials"]:
        records, times = (_lines(folder / kind / f"{entry['id']}.jsonl") for kind in ("trials", "times"))
        found.setdefault(entry["optimizer"], {})[entry["seed"]] = (records, times)
    return found


def raw_value(records: Records, times: Records, key: str) -> float | None:
    """The final value of a finished trial, else None."""
    if not records or records[-1]["kind"] != "end" or records[-1]["status"] != "finished":
        return None
    if key == "examples_per_second":
        return float(times[-1]["examples"] / times[-1]["train_seconds"])
    if key.startswith("test"):
        return float(records[-1][key])
    epochs = [record for record in records if record["kind"] == "epoch"]
    return float(epochs[-1][key])


def mean_and_deviation(values: list[float]) -> tuple[float | None, float | None]:
    """Textbook formulas, written out."""
    if not values:
        return None, None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _lines(path: Path) -> Records:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
