"""The report of a study: one offline HTML page, figures for papers and tables, made from the stored files only."""

from pathlib import Path

from steepest.study.report.errors import ReportError

__all__ = ["ReportError", "write_report"]


def write_report(folder: Path) -> Path:
    """Write ``folder/report`` from the study's stored files and return the path of its ``index.html``.

    Unfinished, diverged and failed trials are fine: they are counted and named. Raises `ReportError` if ``folder`` is
    no study, has a schema that this version does not read, or cannot be written to.
    """
    from steepest.study.report.write import write_files  # plotly and matplotlib load only when a report is written

    return write_files(Path(folder))
