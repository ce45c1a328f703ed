"""Writing a report, with its errors raised as errors of the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from steepest.study.errors import StudyError

if TYPE_CHECKING:
    from steepest.study.report.across.across import Across

T = TypeVar("T")


def write(folder: Path) -> Path:
    """Write a study's report and return the path of its page."""
    # Imported here: drawing needs large packages, and neither --help nor a typing error has anything to draw.
    from steepest.study.report import write_report

    return _told(lambda: write_report(folder))


def write_page(folder: Path, refresh: float) -> Path:
    """Write the page of a study's report as it is now, and return its path."""
    from steepest.study.report.write import write_page

    return _told(lambda: write_page(folder, refresh))


def export(folder: Path, formats: Sequence[str], out: Path) -> list[Path]:
    """Write a study's tables and curves for other programs and return the files' paths."""
    from steepest.study.report.export import export

    return _told(lambda: export(folder, formats, out))


def log(folder: Path, source: str, out: Path, *, search: bool) -> tuple[Path, list[str]]:
    """Bring the logs of a study up to date; return their folder and the trials that were logged."""
    from steepest.study.report.loggers.log import log_into

    return _told(lambda: log_into(folder, source, out, search=search))


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the comparison of several studies and return the path of its page."""
    from steepest.study.report import write_comparison

    return _told(lambda: write_comparison(folders, out))


def compare(folders: Sequence[Path]) -> "Across":
    """Read several studies and compare them across their workloads."""
    from steepest.study.report.across.studies import compare

    return _told(lambda: compare(folders))


def write_across(found: "Across", folders: Sequence[Path], out: Path) -> Path:
    """Write a comparison that has been made and return the path of its page."""
    from steepest.study.report.across.write import write_comparison

    return _told(lambda: write_comparison(found, folders, out))


def write_replication(first: Path, second: Path) -> list[str]:
    """Write how a replication compares with the first study, and return it in lines."""
    from steepest.study.report.write import write_replication

    return _told(lambda: write_replication(first, second))


def write_replications(first: Path, second: Path, studies: Sequence[str]) -> list[str]:
    """Write how the replication of a suite compares with it, study by study and together; return it in lines."""
    from steepest.study.report.write import write_replications

    return _told(lambda: write_replications(first, second, studies))


def _told(writing: Callable[[], T]) -> T:
    from steepest.study.report.errors import ReportError

    try:
        return writing()
    except ReportError as error:
        raise StudyError(str(error)) from error
