"""The setting that every optimizer was evaluated with, in a few words that stand next to its label."""

from collections.abc import Iterator, Mapping
from typing import Any

from steepest.study.records.format import Dimension, OptimizerEntry, SearchedValues
from steepest.study.report.stored.study import Study

RATE = "lr"


def ran_with(study: Study) -> dict[str, str]:
    """Return by label the learning rate, what was given or searched, and options in which optimizers differ.

    An option that stands in the label already is left out. An optimizer whose search has not chosen yet has no words.
    """
    options = {entry.label: run_with(study, entry) for entry in study.running if _is_settled(study, entry)}
    differing = _differing(options)
    return {
        entry.label: spelled(dict(_shown(study, entry, options[entry.label], differing)))
        for entry in study.running
        if entry.label in options
    }


def with_setting(label: str, words: Mapping[str, str]) -> str:
    """Spell ``AdamW (lr=0.003)``; only the label where it has no words."""
    return f"{label} ({words[label]})" if words.get(label) else label


def run_with(study: Study, setting: OptimizerEntry) -> Mapping[str, Any]:
    """Return the options of the evaluation: those that the search chose, or those that were given."""
    choice = study.chosen.get(setting.label)
    return setting.options if choice is None or not choice.options else choice.options


def schedule_of(study: Study, setting: OptimizerEntry) -> str:
    """Return the schedule of the evaluation: the one that the search chose, or the one that was given."""
    choice = study.chosen.get(setting.label)
    return (choice and choice.schedule) or setting.schedule


def by_schedule(study: Study) -> dict[str, list[str]]:
    """Return the labels of the optimizers with each schedule, the schedule in words.

    Words have round brackets as a setting has: ``wsd (warmup=100, final=0.1)``.
    """
    groups: dict[str, list[str]] = {}
    for setting in study.running:
        name, _, options = schedule_of(study, setting).rstrip("]").partition("[")
        if name:
            groups.setdefault(with_setting(name, {name: options.replace(",", ", ")}), []).append(setting.label)
    return groups


def acting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change the update: not false, none, zero or empty; learning rate first.

    >>> acting({"amsgrad": False, "betas": [0.9, 0.999], "lr": 0.01, "weight_decay": 0})
    {'lr': 0.01, 'betas': [0.9, 0.999]}
    """
    active = {key: value for key, value in options.items() if value}
    return {key: active[key] for key in sorted(active, key=lambda key: key != "lr")}


def spelled(options: Mapping[str, Any]) -> str:
    """Spell options: ``lr=0.01, betas=(0.9, 0.999), amsgrad=true``."""
    return ", ".join(f"{key}={_spelled(value)}" for key, value in options.items())


def searched(space: Mapping[str, Dimension]) -> str:
    """Spell a search space: ``lr from 1e-05 to 1 (log)``, one dimension after the other."""
    return "; ".join(f"{name} {_dimension(one)}" for name, one in space.items())


def _is_settled(study: Study, setting: OptimizerEntry) -> bool:
    return not setting.points or setting.label in study.chosen


def _differing(options: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the options that all optimizers have, and that are not equal for all."""
    first, *others = options.values() or ({},)
    shared = {key for key in first if all(key in its for its in others)}
    return {key for key in shared if any((its[key] or None) != (first[key] or None) for its in others)}


def _shown(
    study: Study, setting: OptimizerEntry, options: Mapping[str, Any], differing: set[str]
) -> Iterator[tuple[str, Any]]:
    choice = study.chosen.get(setting.label)
    given = {RATE, *setting.space, *(choice.given if choice else ())}
    bracketed = setting.label.partition("[")[2]
    for key in sorted(options, key=lambda key: key != RATE):
        if key in given | differing and not _is_in(bracketed, key):
            yield key, options[key]


def _is_in(bracketed: str, key: str) -> bool:
    return bracketed.startswith(f"{key}=") or f",{key}=" in bracketed


def _spelled(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(_spelled(part) for part in value)})"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _dimension(dimension: Dimension) -> str:
    if isinstance(dimension, SearchedValues):
        return f"in {spelled({'': list(dimension.values)})[1:]}"
    scale = f"1 − value, {dimension.scale}" if dimension.complement else dimension.scale
    return f"from {dimension.low:g} to {dimension.high:g} ({scale})"
