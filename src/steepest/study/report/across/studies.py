"""The studies of a comparison across workloads, read and named."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from steepest.study.report.across.across import Across, across
from steepest.study.report.errors import ReportError
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Study
from steepest.study.report.wording import joined

CONDITIONS = ("epochs", "batch_size", "precision")


def compare(folders: Sequence[Path]) -> Across:
    """Read the studies and compare them."""
    return across(named(folders))


def named(folders: Sequence[Path]) -> dict[str, Findings]:
    """Return the findings of every folder under its study's name, with the folder where two studies share one."""
    if not folders:
        raise ReportError("No folder was given; name the study folders to compare.")
    studies = [(folder, read_study(folder)) for folder in dict.fromkeys(folders)]
    _check_workloads_differ([(str(folder), study) for folder, study in studies])
    names = [study.name for _, study in studies]
    return {
        study.name if names.count(study.name) == 1 else f"{study.name} ({folder})": findings(study)
        for folder, study in studies
    }


def _check_workloads_differ(studies: Sequence[tuple[str, Study]]) -> None:
    """Refuse two studies of one workload: means over workloads would count it twice, and leaving it out would not."""
    for (folder, one), (other_folder, other) in combinations(studies, 2):
        if one.task == other.task:
            different = joined(_conditions(one, other)) or "no other setting"
            raise ReportError(
                f"{folder} and {other_folder} are studies of one workload, {one.document.workload}, with {different}. "
                "A comparison across workloads would count it twice: give one of the two."
            )


def _conditions(one: Study, other: Study) -> list[str]:
    """Name the settings in which two studies of one workload differ."""
    pairs = {
        "preset": (one.document.preset, other.document.preset),
        "schedule": (one.protocol.schedule, other.protocol.schedule),
        "search trials": (one.protocol.trials, other.protocol.trials),
        **{key: (getattr(one.document.config, key), getattr(other.document.config, key)) for key in CONDITIONS},
    }
    return [f"{name.replace('_', ' ')} {a} and {b}" for name, (a, b) in pairs.items() if a != b]
