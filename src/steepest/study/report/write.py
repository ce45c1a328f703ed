"""Puts the report's files on disk, each whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from steepest.study.report.chart import Figures
from steepest.study.report.charts import build_figures
from steepest.study.report.contents import results_table, settings_table, trials_table
from steepest.study.report.errors import ReportError
from steepest.study.report.matplotlib_renderer import sheet_images
from steepest.study.report.page import render_page
from steepest.study.report.reader import read_study
from steepest.study.report.summary import summarize
from steepest.study.report.tables import Table, to_csv, to_latex, to_markdown


def write_files(folder: Path) -> Path:
    """Read the study, write tables, figures and the page (last, so that it never names a file that is not there)."""
    study = read_study(folder)
    summaries = summarize(study)
    figures = build_figures(study, summaries)
    tables = {
        table.key: table for table in (results_table(study, summaries), trials_table(study), settings_table(study))
    }
    report = folder / "report"
    for name, content in _files(figures, tables):
        _write(report / name, content, folder)
    page = report / "index.html"
    _write(page, render_page(study, summaries, figures, tables).encode(), folder)
    return page


def _files(figures: Figures, tables: Mapping[str, Table]) -> Iterator[tuple[str, bytes]]:
    for key, table in tables.items():
        for kind, written in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
            yield f"tables/{key}.{kind}", written(table).encode()
    for sheet in figures.sheets:
        for kind, image in sheet_images(sheet).items():
            yield f"figures/{sheet.key}.{kind}", image


def _write(path: Path, content: bytes, folder: Path) -> None:
    """Write beside the target and rename: a full disk leaves the old file, never half a new one."""
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise ReportError(
            f"The report's file {path} could not be written: {error.strerror or error}. "
            "The study's records are untouched; make room or give write permission, then run: "
            f"steepest report {folder}"
        ) from error
