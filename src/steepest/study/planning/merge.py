"""Adding optimizers and seeds to a study that is already in its folder, and refusing anything else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from steepest.study import source_code
from steepest.study.errors import UsageError
from steepest.study.records.records import alike

ALIKE: Final = ("workload", "preset", "config", "protocol", "metric", "model", "data", "threads")
FREE: Final = {"config.seeds", "data.source"}
VERSIONS: Final = ("steepest", "torch")


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any], order: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the document of both studies together.

    `order` names the optimizers that come first in tables. Two studies that differ in anything but optimizers and
    seeds cannot share a folder: their trials would not be comparable.
    """
    if old is None:
        return {**new, "protocol": _with_reference(new, new["optimizers"][0]["label"])}
    new = {**new, "protocol": _with_reference(new, old["protocol"]["reference"])}
    old = _extended(old, new)
    different = _differences(old, new)
    if different:
        different += source_code.changes(old["code"], new["code"])
        raise UsageError(
            f"{folder} holds another study. There and here: {'; '.join(different)}. "
            "Give another folder with --out, or ask for the same again."
        )
    return {
        **new,
        "config": {**new["config"], "seeds": sorted({*old["config"]["seeds"], *new["config"]["seeds"]})},
        "optimizers": sorted(_union(old, new, "optimizers", "label"), key=lambda entry: _rank(entry["name"], order)),
        "code": {**old["code"], **new["code"]},
        "trials": old["trials"],
        "chosen": old["chosen"],
        "published": _merge_published(old["published"], new["published"]),
        "created": old["created"],
        "command": old["command"] if new["command"] in old["command"] else f"{old['command']} && {new['command']}",
    }


def notes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[str]:
    """Return what has changed since the first study that does not make the second another one."""
    same = source_code.equal_code(old["code"], new["code"]) if old else []
    return [
        f"{file} has other comments, layout or docstrings than the study began with; its code is the same, so the "
        "study goes on"
        for file in same
    ]


def with_trials(document: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document with these trials in its list: in this order, after all others, if there are new ones."""
    known, ids = {entry["id"] for entry in document["trials"]}, {entry["id"] for entry in trials}
    if ids <= known:
        return dict(document)
    return {**document, "trials": [*(entry for entry in document["trials"] if entry["id"] not in ids), *trials]}


def _with_reference(document: Mapping[str, Any], usual: str) -> dict[str, Any]:
    """Return the protocol with the optimizer that others are compared with: the one asked for, or the usual one."""
    return {**document["protocol"], "reference": document["protocol"]["reference"] or usual}


def _extended(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the old document as it is after the new one's extensions, if those continue its own."""
    before, after = old["protocol"]["extensions"], new["protocol"]["extensions"]
    if not alike(after[: len(before)], before):
        return old
    points = {entry["label"]: entry["points"] for entry in new["optimizers"]}
    optimizers = [{**entry, "points": points.get(entry["label"], entry["points"])} for entry in old["optimizers"]]
    return {**old, "protocol": {**old["protocol"], "extensions": after}, "optimizers": optimizers}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    pairs = [(key, old[key], new[key]) for key in ALIKE]
    pairs += [(f"versions.{key}", old["versions"][key], new["versions"][key]) for key in VERSIONS]
    pairs.append(("machine.cpu", old["machine"]["cpu"], new["machine"]["cpu"]))
    known = {entry["label"]: entry for entry in old["optimizers"]}
    pairs += [(entry["label"], known.get(entry["label"], entry), entry) for entry in new["optimizers"]]
    return [line for pair in pairs for line in compare(*pair)]


def compare(key: str, old: Any, new: Any) -> list[str]:
    """Return a sentence for every value that two documents do not share, by its path."""
    if key in FREE or alike(old, new):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        return [line for name in names for line in compare(f"{key}.{name}", old.get(name), new.get(name))]
    return [f"{key} is {old!r} and {new!r}"]


def _union(old: Mapping[str, Any], new: Mapping[str, Any], part: str, key: str) -> list[dict[str, Any]]:
    known = {entry[key] for entry in old[part]}
    return [*old[part], *(entry for entry in new[part] if entry[key] not in known)]


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _merge_published(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if old is None or new is None:
        return new
    return {**new, "rows": {**old["rows"], **new["rows"]}}
