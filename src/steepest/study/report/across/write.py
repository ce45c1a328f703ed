"""The comparison across workloads on disk: one page, its figures and tables."""

import shlex
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from markupsafe import Markup

from steepest.study.report.across import contents
from steepest.study.report.across.across import Across, across
from steepest.study.report.charts.chart import Chart, printed_figures
from steepest.study.report.charts.palette import Styles, styles_of, swatch
from steepest.study.report.errors import ReportError
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.page import figures_json, file_list, panels, plotly_script, template
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Study
from steepest.study.report.tables.tables import Table, to_html
from steepest.study.report.wording import joined
from steepest.study.report.write import write_all

CONDITIONS = ("epochs", "batch_size", "precision")


def write_files(folders: Sequence[Path], out: Path) -> Path:
    """Read the studies, compare them and write the files."""
    found = across(_named(folders))
    styles = styles_of(found.labels)
    charts = tuple(chart for chart in contents.charts(found, styles) if not chart.empty)
    figures = printed_figures(charts)
    tables = contents.tables(found)
    again = f"steepest report {shlex.join(map(str, folders))} --out {shlex.quote(str(out))}"
    return write_all(out, figures, tables, _page(found, charts, tables, styles), again=again)


def _named(folders: Sequence[Path]) -> dict[str, Findings]:
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


def _page(found: Across, charts: Sequence[Chart], tables: dict[str, Table], styles: Styles) -> str:
    sections = {"profiles": "Profiles", "ranks": "Ranks", "verdicts": "Verdicts", "robustness": "Robustness"}
    shown = ({"profiles"} if found.bands else set()) | tables.keys()
    page: str = template("across.html").render(
        title=f"Optimizers across {joined(list(found.found))}",
        answer=contents.answer(found),
        cautions=contents.cautions(found),
        facts=[(str(len(found.found)), "workloads"), (str(len(found.labels)), "optimizers in all of them")],
        sections=[(key, name) for key, name in sections.items() if key in shown] + [("studies", "Studies")],
        notices=[f"{name}: {notice}" for name, one in found.found.items() for notice in one.study.notices],
        panels=panels(charts),
        profile_words=contents.profile_words(found),
        legend=[(label, swatch(style)) for label, style in styles.items()],
        tables={key: to_html(table) for key, table in tables.items()},
        studies=[(name, one.study) for name, one in found.found.items()],
        figures_json=figures_json(charts),
        plotly=Markup(plotly_script()),
        file_list=file_list(printed_figures(charts), tables),
    )
    return page
