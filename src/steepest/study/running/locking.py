"""Locking of a plan before its trials run, for studies that wait for others."""

from collections.abc import Sequence

from steepest.study.planning.merge import merge, notes
from steepest.study.planning.plan import Plan
from steepest.study.running.store import StudyFolder


def check(plan: Plan, folder: StudyFolder, order: Sequence[str]) -> None:
    """Raise UsageError if the folder holds another study."""
    merge(folder.read_document(), plan.document, order, folder.path)


def lock(plan: Plan, folder: StudyFolder, order: Sequence[str]) -> list[str]:
    """Write the plan's document, merged into the folder's own, and return notes on changes that leave it the same."""
    with folder.writing():
        before = folder.read_document()
        folder.write_document(merge(before, plan.document, order, folder.path))
    return notes(before, plan.document)
