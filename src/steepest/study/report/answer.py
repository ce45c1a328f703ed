"""The outcome of a study, or of several, as an object: printed, shown in a notebook, or turned into a DataFrame."""

import importlib
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from steepest.study import report as reports
from steepest.study.report.across import contents
from steepest.study.report.across import outcome as outcomes
from steepest.study.report.across.studies import compare
from steepest.study.report.across.write import write_comparison
from steepest.study.report.charts.chart import Chart, Figure, printed_figures
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.charts.palette import styles_of
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.answer import answer, caution
from steepest.study.report.text.matching import differing
from steepest.study.report.text.outcome import Cells, as_html, as_text, outcome
from steepest.study.statistics.verdicts import Comparison

SHOWN: Final = ("verdicts", "learning-over-epochs", "ranks", "performance-profiles")
"""The figures that a notebook shows, those of one study and those across several."""


@dataclass(frozen=True, repr=False)
class Answer:
    """The outcome of a study, or of several. `folder` holds its records, `report` is the page with all results.

    `sentence` is the answer in words, and `cautions` are sentences to know before repeating it. `comparisons` holds a
    verdict with its figures for every optimizer but the reference, on the metric of the test set at the end. `rows` are
    the table that `print` and a notebook show: by optimizer and heading, with the setting that was used. `statuses`
    counts how the trials of this run ended, and `notes` are sentences on events during the run. `figures` are the
    charts that a notebook shows.

    Several workloads have an answer each in `workloads`, by name, with their `comparisons`. `rows` then have the mean
    rank and the verdict on every workload.
    """

    sentence: str
    comparisons: tuple[Comparison, ...]
    folder: Path
    report: Path
    statuses: Mapping[str, int]
    rows: Mapping[str, Cells]
    cautions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    workloads: Mapping[str, "Answer"] = field(default_factory=dict)

    def __repr__(self) -> str:
        """The sentence, the table, the sentences of all workloads, the cautions, and the path of the report."""
        single = [f"{name}: {one.sentence}" for name, one in self.workloads.items()]
        known = [f"- {sentence}" for sentence in (*single, *self.cautions, *self.notes)]
        return "\n".join([self.sentence, "", as_text(self.rows), "", *known, f"report: {self.report}"])

    def open(self) -> None:
        """Show the report in the browser."""
        webbrowser.open(self.report.resolve().as_uri())

    def to_dataframe(self) -> Any:
        """Return the table as a pandas DataFrame, one row per optimizer, its values as they are shown.

        For several workloads it has the rows of all of their tables, with the workload in the first column.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        pandas: Any = importlib.import_module("pandas")
        rows = list(self._all_rows())
        return pandas.DataFrame([cells for _, cells in rows], index=[label for label, _ in rows])

    def _all_rows(self) -> Iterator[tuple[str, Cells]]:
        """Yield every row with its label; of all workloads, if there are several."""
        if not self.workloads:
            yield from self.rows.items()
        for name, one in self.workloads.items():
            for label, cells in one.rows.items():
                yield label, {"workload": name, **cells}

    def _repr_html_(self) -> str:
        """Return the answer as HTML for a notebook, complete in itself."""
        from steepest.study.report.charts.inline import inline  # drawing needs a large package

        return Markup('{}{}{}<p>report: <a href="{}">{}</a></p>').format(
            self._words(),
            Markup("").join(map(inline, self.figures)),
            Markup("").join(
                Markup("<details><summary>{}</summary>{}</details>").format(name, one._words())
                for name, one in self.workloads.items()
            ),
            self.report.resolve().as_uri(),
            self.report,
        )

    def _words(self) -> Markup:
        """Return the sentence, the table and the cautions as HTML."""
        known = Markup("").join(Markup("<li>{}</li>").format(sentence) for sentence in (*self.cautions, *self.notes))
        return Markup("<p>{}</p>{}<ul>{}</ul>").format(self.sentence, Markup(as_html(self.rows)), known)


def of_study(folder: Path, statuses: Mapping[str, int], notes: Sequence[str]) -> Answer:
    """Read a study, write its report, and return the answer."""
    results = findings(read_study(folder))
    return Answer(
        sentence=answer(results.study, results.verdicts, results.summaries),
        comparisons=results.verdicts.comparisons,
        folder=folder,
        report=reports.write_report(folder),
        statuses=dict(statuses),
        rows=outcome(results),
        cautions=(*caution(results.study, results.verdicts, results.searches), *differing(results)),
        notes=tuple(notes),
        figures=_shown(build_charts(results)),
    )


def of_suite(folder: Path, parts: Sequence[Answer], notes: Sequence[str]) -> Answer:
    """Compare the studies of several answers, write the report, and return the answer across them."""
    folders = [part.folder for part in parts]
    found = compare(folders)
    return Answer(
        sentence=contents.answer(found),
        comparisons=(),
        folder=folder,
        report=write_comparison(found, folders, folder / "report"),
        statuses=dict(sum((Counter(part.statuses) for part in parts), Counter())),
        rows=outcomes.outcome(found),
        cautions=tuple(contents.cautions(found)),
        notes=tuple(notes),
        figures=_shown(contents.charts(found, styles_of(found.sources))) if found.comparable else (),
        workloads=dict(zip(found.found, parts, strict=True)),
    )


def _shown(charts: Sequence[Chart]) -> tuple[Figure, ...]:
    figures = {figure.key: figure for figure in printed_figures(charts)}
    return tuple(figures[key] for key in SHOWN if key in figures)
