"""The report of a study: one offline HTML page, figures for papers and tables, made from the stored files only."""

from collections.abc import Sequence
from pathlib import Path

from steepest.study.report.errors import ReportError

__all__ = ["ReportError", "write_comparison", "write_report"]


def write_report(folder: Path) -> Path:
    """Write ``folder/report`` from the study's stored files and return the path of its ``index.html``.

    Unfinished, diverged and failed trials are fine: they are counted and named. Raises `ReportError` if ``folder`` is
    not a study, has a schema that this version does not read, or cannot be written to.
    """
    from steepest.study.report.write import write_files  # plotly and matplotlib load only when a report is written

    return write_files(Path(folder))


def write_comparison(folders: Sequence[Path], out: Path) -> Path:
    """Compare the optimizers of several studies: profiles, ranks, and whether the ranking survives.

    Write the page, its figures and tables into ``out`` and return the path of its ``index.html``. Optimizers without a
    result in some study are named and left out. Raises `ReportError` as `write_report` does, and without a folder.
    """
    from steepest.study.report.across.write import write_files

    return write_files([Path(folder) for folder in folders], Path(out))
