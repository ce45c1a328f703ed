"""Writing of the report's files, each whole or not at all."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from steepest.collector import collector_paused
from steepest.study.records.records import encode_document
from steepest.study.report.charts.chart import Figure, printed_figures
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.charts.matplotlib_renderer import figure_images
from steepest.study.report.errors import ReportError
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.tables.answer_tables import answer_tables
from steepest.study.report.tables.contents import results_table, settings_table, trials_table
from steepest.study.report.tables.matched_table import matched_table
from steepest.study.report.tables.tables import Table, to_csv, to_latex, to_markdown
from steepest.study.report.text.replication import (
    replication_document,
    replication_lines,
    replications_document,
    replications_line,
)


def write_files(folder: Path) -> Path:
    """Read the study, write tables, figures and the page (last, so that it never names a file that is not there)."""
    again = f"steepest report {shlex.quote(str(folder))}"
    with collector_paused():  # a large report is of millions of records, and a tenth of its time went there
        found = findings(read_study(folder))
        charts = build_charts(found)
        tables = all_tables(found)
        page = render_page(found, charts, tables)
        return write_all(folder / "report", printed_figures(charts), tables, page, again=again)


def write_page(folder: Path, refresh: float) -> Path:
    """Write the page as the study is now, which a browser reads again every `refresh` seconds; no other file."""
    found = findings(read_study(folder))
    page = render_page(found, build_charts(found), all_tables(found), refresh=refresh)
    path = folder / "report" / "index.html"
    replace_file(path, page.encode("utf-8", "backslashreplace"), f"steepest report {shlex.quote(str(folder))}")
    return path


def write_replication(first: Path, second: Path) -> list[str]:
    """Write how a replication's verdicts compare with the first study's into its folder; return it in lines."""
    both = findings(read_study(first)), findings(read_study(second))
    return _write_replication(first, second, replication_lines(*both), replication_document(*both))


def write_replications(first: Path, second: Path, studies: Sequence[str]) -> list[str]:
    """Write how the replication of a suite compares with it, into every study's folder and, together, into the suite's.

    `studies` are the names of their folders. Return the lines: one for all verdicts, then those of every study.
    """
    pairs = {name: (findings(read_study(first / name)), findings(read_study(second / name))) for name in studies}
    told = [replications_line(str(first), list(pairs.values()))]
    for name, both in pairs.items():
        lines, document = replication_lines(*both), replication_document(*both)
        told += _write_replication(first / name, second / name, lines, document)
    return _write_replication(first, second, told, replications_document(str(first), pairs))


def _write_replication(first: Path, second: Path, lines: list[str], document: Mapping[str, Any]) -> list[str]:
    """Write the lines and the document into the replication's folder; return the lines."""
    again = f"steepest replicate {shlex.quote(str(first))}"
    text = "".join(f"{line}\n" for line in lines)
    replace_file(second / "replication.json", encode_document(document), again)
    replace_file(second / "replication.txt", text.encode("utf-8", "backslashreplace"), again)
    return lines


def all_tables(found: Findings) -> dict[str, Table]:
    """Return every table of the report, by key; those without rows are left out, but for the results and trials."""
    study = found.study
    tables = (
        *answer_tables(found),
        *(table for table in [matched_table(found)] if table.rows),
        results_table(study, found.summaries),
        trials_table(study),
        settings_table(study),
    )
    return {table.key: table for table in tables}


def write_all(report: Path, figures: Sequence[Figure], tables: Mapping[str, Table], page: str, *, again: str) -> Path:
    """Write the files of a report and return its page's path; `again` is the command that writes them anew."""
    for name, content in _files(figures, tables):
        replace_file(report / name, content, again)
    path = report / "index.html"
    replace_file(path, page.encode("utf-8", "backslashreplace"), again)
    return path


def _files(figures: Sequence[Figure], tables: Mapping[str, Table]) -> Iterator[tuple[str, bytes]]:
    for key, table in tables.items():
        for kind, written in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
            yield f"tables/{key}.{kind}", written(table).encode("utf-8", "backslashreplace")
    for figure in figures:
        for kind, image in figure_images(figure).items():
            yield f"figures/{figure.key}.{kind}", image


def replace_file(path: Path, content: bytes, again: str) -> None:
    """Write next to the target and rename: a full disk leaves the old file, never half a new one."""
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
            f"{again}"
        ) from error
