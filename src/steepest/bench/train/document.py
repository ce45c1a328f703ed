"""The saved results of training steps, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ..document import opening
from .group import TrainingEntry, TrainingGroup
from .lane import PARTS
from .memory import MemoryEntry
from .plan import TrainingPlan

KIND: Final = "steepest bench train"


def document(
    plan: TrainingPlan, groups: Sequence[TrainingGroup], about: Mapping[str, Any], complete: bool
) -> dict[str, Any]:
    """Return everything that was measured, with all that it depends on. docs/bench.md describes the keys."""
    return {
        **opening(KIND, about, complete),
        "plan": describe_plan(plan),
        "groups": [describe_group(group) for group in groups],
    }


def describe_plan(plan: TrainingPlan) -> dict[str, Any]:
    """Describe the plan."""
    return {
        "rules": [recipe.label for recipe in plan.recipes],
        "cases": {case.name: {"title": case.title, "batch_size": case.batch_size} for case in plan.cases},
        "ways": [way.compiled for way in plan.ways],
        "memory": plan.memory,
        "rounds": plan.rounds,
        "device": plan.device,
    }


def describe_group(group: TrainingGroup) -> dict[str, Any]:
    """Describe a group: its entries with their samples, the figures derived from the samples, and its memory."""
    return {
        "case": group.case,
        "rule": group.rule,
        "rounds": group.rounds,
        "entries": [_describe_entry(group, entry) for entry in group.entries],
        "memory": [_without_numbers(entry) if entry.unavailable else asdict(entry) for entry in group.memory],
    }


def _describe_entry(group: TrainingGroup, entry: TrainingEntry) -> dict[str, Any]:
    if entry.unavailable is not None:
        return _without_numbers(entry)
    return {
        "source": entry.source,
        "mode": entry.mode,
        "compiled": entry.compiled,
        "unavailable": None,
        "executor": entry.executor,
        "steps": entry.steps,
        **{part: _describe_part(group, entry, part) for part in PARTS},
        "share_of_step": entry.share_of_step,
    }


def _describe_part(group: TrainingGroup, entry: TrainingEntry, part: str) -> dict[str, Any]:
    low, median, high = entry.quartiles(part)
    return {
        "samples": [getattr(sample, part) for sample in entry.samples],
        "low": low,
        "median": median,
        "high": high,
        "times_faster_than_torchs_best": group.ratio(entry, part),
    }


def _without_numbers(entry: TrainingEntry | MemoryEntry) -> dict[str, Any]:
    """Return what tells an unavailable entry from others, and the reason."""
    names = ("source", "mode", "compiled", "state", "in_backward", "unavailable")
    return {name: value for name, value in asdict(entry).items() if name in names}
