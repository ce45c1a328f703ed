"""The comparison across workloads on disk: one page, its figures and tables."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from steepest.study.report.across import contents
from steepest.study.report.across.across import Across
from steepest.study.report.across.studies import compare
from steepest.study.report.charts.chart import Chart, printed_figures
from steepest.study.report.charts.palette import Styles, styles_of, swatch
from steepest.study.report.page import figures_json, file_list, panels, plotly_script, template
from steepest.study.report.tables.tables import Table, to_html
from steepest.study.report.wording import joined
from steepest.study.report.write import write_all


def write_files(folders: Sequence[Path], out: Path) -> Path:
    """Read the studies, compare them and write the files."""
    return write_comparison(compare(folders), folders, out)


def write_comparison(found: Across, folders: Sequence[Path], out: Path) -> Path:
    """Write the files of a comparison of these folders."""
    styles = styles_of(found.sources)
    charts = tuple(chart for chart in contents.charts(found, styles) if not chart.empty)
    figures = printed_figures(charts)
    tables = contents.tables(found)
    again = f"steepest report {shlex.join(map(str, folders))} --out {shlex.quote(str(out))}"
    return write_all(out, figures, tables, _page(found, charts, tables, styles), again=again)


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
