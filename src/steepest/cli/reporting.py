"""Writing a report, with its errors told as the command line tells errors."""

from pathlib import Path

from steepest.study.errors import StudyError


def write(folder: Path) -> Path:
    """Write a study's report and return the path of its page."""
    # Imported here: drawing needs large packages, and neither --help nor a typing error has anything to draw.
    from steepest.study.report import write_report
    from steepest.study.report.errors import ReportError

    try:
        return write_report(folder)
    except ReportError as error:
        raise StudyError(str(error)) from error
