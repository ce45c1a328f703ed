"""The saved results: one JSON document with a schema version, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from . import peers
from .first_step import FirstStep
from .group import Entry, Group
from .plan import Plan

SCHEMA: Final = 1
KIND: Final = "steepest bench step"


def document(
    plan: Plan, groups: Sequence[Group], first_steps: Sequence[FirstStep], about: Mapping[str, Any], complete: bool
) -> dict[str, Any]:
    """Return everything that was measured, with all that it depends on. docs/bench.md describes the keys."""
    return {
        **opening(KIND, about, complete),
        "plan": describe_plan(plan),
        "groups": [describe_group(group) for group in groups],
        "first_steps": [asdict(measured) for measured in first_steps],
    }


def opening(kind: str, about: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    """Return the first keys of every document."""
    return {"schema": SCHEMA, "kind": kind, "complete": complete, **about}


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Describe the plan."""
    return {
        "rules": [recipe.label for recipe in plan.recipes],
        "left_out": list(plan.left_out),
        "cases": {
            case.name: {"title": case.title, "tensors": len(case.shapes), "elements": case.elements}
            for case in plan.cases
        },
        "modes": list(plan.modes),
        "peers": {"installed": peers.installed(), "absent": peers.absent()} if plan.peers else None,
        "rounds": plan.rounds,
        "device": plan.device,
    }


def describe_group(group: Group) -> dict[str, Any]:
    """Describe a group: its entries with their samples, and the figures derived from the samples."""
    return {
        "case": group.case,
        "rule": group.rule,
        "rounds": group.rounds,
        "entries": [_describe_entry(group, entry) for entry in group.entries],
    }


def _describe_entry(group: Group, entry: Entry) -> dict[str, Any]:
    who = {"source": entry.source, "mode": entry.mode, "unavailable": entry.unavailable}
    if entry.unavailable is not None:
        return who
    low, median, high = entry.quartiles
    return {
        **asdict(entry),
        "low": low,
        "median": median,
        "high": high,
        "times_faster_than_torchs_best": group.ratio(entry),
        "bytes_per_second": entry.bytes_per_second,
        "of_in_place_add": group.of_add(entry),
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file: a reader sees the old document or the new one, never a part of it."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
