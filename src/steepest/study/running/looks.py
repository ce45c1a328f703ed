"""The looks of a sequential study while it runs: which optimizers need more seeds."""

from collections.abc import Collection
from dataclasses import replace

from steepest.study.report.findings.verdicts import VerdictRow, verdicts
from steepest.study.report.stored.reader import read_study
from steepest.study.running.store import StudyFolder


def needing_seeds(folder: StudyFolder, seen: Collection[int], added: Collection[int], names: set[str]) -> set[str]:
    """Return those of the named optimizers that need the added seeds: what a look leaves open, and the reference.

    The look is at the seeds `seen`, and at none of the later trials. Without the reference's trials on the added seeds
    nothing can be compared there, so that nothing needs them if it is not named and has not run on them.
    """
    study = read_study(folder.path)
    then = replace(study, trials=tuple(trial for trial in study.trials if trial.seed in seen))
    waiting = {row.label for row in verdicts(then).rows if _is_open(row)} & names
    reference = str(study.reference)
    has_run = {trial.seed for trial in study.trials_of(reference)}
    if not waiting or (reference not in names and not has_run.issuperset(added)):
        return set()
    return waiting | ({reference} & names)


def _is_open(row: VerdictRow) -> bool:
    return row.comparison is not None and row.comparison.verdict.is_open
