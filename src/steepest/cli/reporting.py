"""Writing a report, with its errors raised as errors of the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path

from steepest.study.errors import StudyError


def write(folder: Path) -> Path:
    """Write a study's report and return the path of its page."""
    # Imported here: drawing needs large packages, and neither --help nor a typing error has anything to draw.
    from steepest.study.report import write_report

    return _told(lambda: write_report(folder))


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Write the comparison of several studies and return the path of its page."""
    from steepest.study.report import write_comparison

    return _told(lambda: write_comparison(folders, out))


def _told(writing: Callable[[], Path]) -> Path:
    from steepest.study.report.errors import ReportError

    try:
        return writing()
    except ReportError as error:
        raise StudyError(str(error)) from error
