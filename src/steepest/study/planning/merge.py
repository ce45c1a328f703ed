"""Merging optimizers and seeds into a stored study. Any other difference is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from steepest.study import source_code
from steepest.study.errors import UsageError
from steepest.study.records.format import EVALUATION, OptimizerEntry, Published, StudyDocument, TrialEntry
from steepest.study.records.records import alike, plain

ALIKE: Final = ("workload", "preset", "config", "protocol", "metric", "model", "data", "threads")
FREE: Final = {"config.seeds", "data.source"}
VERSIONS: Final = ("steepest", "torch")


def merge(old: StudyDocument | None, new: StudyDocument, order: Sequence[str], folder: Path) -> StudyDocument:
    """Return the merged document of two studies.

    `order` names the optimizers that come first in tables. Two studies that differ in anything but optimizers and
    seeds cannot share a folder: their trials would not be comparable.
    """
    if old is None:
        return _with_reference(new, new.optimizers[0].label)
    new = _with_reference(new, old.protocol.reference)
    old = _extended(old, new)
    different = differences(old, new)
    if different:
        different += source_code.changes(old.code, new.code)
        raise UsageError(
            f"{folder} holds another study. There and here: {'; '.join(different)}. "
            "Give another folder with --out, or ask for the same again."
        )
    return replace(
        new,
        config=with_seeds(new, old.config.seeds).config,
        optimizers=_union(old.optimizers, new.optimizers, order),
        code={**old.code, **new.code},
        trials=old.trials,
        chosen=old.chosen,
        published=_merge_published(old.published, new.published),
        created=old.created,
        seed_counts=_seed_counts(old, new),
        command=old.command if new.command in old.command else f"{old.command} && {new.command}",
    )


def notes(old: StudyDocument | None, new: StudyDocument) -> list[str]:
    """Return sentences on differences from the first study that leave it the same study."""
    same = source_code.equal_code(old.code, new.code) if old else []
    return [
        f"{file} has other comments, layout or docstrings than the study began with; its code is the same, so the "
        "study goes on"
        for file in same
    ]


def with_trials(document: StudyDocument, trials: Sequence[TrialEntry]) -> StudyDocument:
    """Return the document with these trials in its list: in this order, after all others, if there are new ones."""
    known, ids = {entry.id for entry in document.trials}, {entry.id for entry in trials}
    if ids <= known:
        return document
    return replace(document, trials=(*(entry for entry in document.trials if entry.id not in ids), *trials))


def with_seeds(document: StudyDocument, seeds: Sequence[int]) -> StudyDocument:
    """Return the document with these evaluation seeds among its own."""
    both = tuple(sorted({*document.config.seeds, *seeds}))
    return replace(document, config=replace(document.config, seeds=both))


def _with_reference(document: StudyDocument, usual: str | None) -> StudyDocument:
    """Return the document with its reference optimizer: the requested one, or the usual one."""
    return replace(document, protocol=replace(document.protocol, reference=document.protocol.reference or usual))


def _extended(old: StudyDocument, new: StudyDocument) -> StudyDocument:
    """Return the old document, with the new one's extensions if they continue its own."""
    before, after = old.protocol.extensions, new.protocol.extensions
    if not alike(after[: len(before)], before):
        return old
    points = {entry.label: entry.points for entry in new.optimizers}
    optimizers = tuple(replace(entry, points=points.get(entry.label, entry.points)) for entry in old.optimizers)
    return replace(old, protocol=replace(old.protocol, extensions=after), optimizers=optimizers)


def differences(old: StudyDocument, new: StudyDocument) -> list[str]:
    """Return a sentence for everything, but optimizers and seeds, in which two documents differ."""
    pairs: list[tuple[str, Any, Any]] = [(part, getattr(old, part), getattr(new, part)) for part in ALIKE]
    pairs += [(f"versions.{key}", old.versions.get(key), new.versions.get(key)) for key in VERSIONS]
    pairs.append(("machine.cpu", old.machine.cpu, new.machine.cpu))
    known = {entry.label: entry for entry in old.optimizers}
    pairs += [(entry.label, known.get(entry.label, entry), entry) for entry in new.optimizers]
    return [line for key, before, after in pairs for line in compare(key, _complete(before), _complete(after))]


def _complete(value: Any) -> Any:
    """Return a part of a document as plain data, with the entries that are not written because they are usual."""
    return plain(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)


def compare(key: str, old: Any, new: Any) -> list[str]:
    """Return a sentence for every value in which two parts of documents, as plain data, differ, by its path."""
    if key in FREE or alike(old, new):
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*sorted(old), *sorted(name for name in new if name not in old)]
        return [line for name in names for line in compare(f"{key}.{name}", old.get(name), new.get(name))]
    return [f"{key} is {old!r} and {new!r}"]


def _union(
    old: Sequence[OptimizerEntry], new: Sequence[OptimizerEntry], order: Sequence[str]
) -> tuple[OptimizerEntry, ...]:
    known = {entry.label for entry in old}
    both = [*old, *(entry for entry in new if entry.label not in known)]
    return tuple(sorted(both, key=lambda entry: _rank(entry.name, order)))


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _seed_counts(old: StudyDocument, new: StudyDocument) -> tuple[int, ...]:
    """Return the numbers of evaluation seeds so far, if they were raised by hand once trials had been evaluated."""
    before, now = len(old.config.seeds), len({*old.config.seeds, *new.config.seeds})
    seen = any(entry.phase == EVALUATION for entry in old.trials)
    if old.protocol.looks or now == before or not seen:
        return old.seed_counts
    return (*(old.seed_counts or (before,)), now)


def _merge_published(old: Published | None, new: Published | None) -> Published | None:
    if old is None or new is None:
        return new
    return replace(new, rows={**old.rows, **new.rows})
