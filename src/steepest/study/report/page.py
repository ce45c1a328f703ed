"""A study's figures and tables -> one self-contained HTML page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, get_args

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from steepest.study.records.format import FINISHED
from steepest.study.records.records import plain
from steepest.study.report.charts.chart import Chart, Figure, Section, printed_figures
from steepest.study.report.charts.palette import styles_of, swatch
from steepest.study.report.charts.plotly_renderer import plotly_figure
from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.measures import definitions
from steepest.study.report.findings.settings import run_with, spelled
from steepest.study.report.findings.summary import statuses
from steepest.study.report.names import breakable
from steepest.study.report.stored.study import Study
from steepest.study.report.tables.contents import comparable, shown_trials_table
from steepest.study.report.tables.tables import Table, to_csv, to_html, to_latex, to_markdown
from steepest.study.report.text.answer import answer, caution, edge_words, seen
from steepest.study.report.text.explanations import basin_words, target_words, verdict_words
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.matching import differing, matched_words
from steepest.study.report.text.methods import methods
from steepest.study.report.wording import joined, plural

X_NAMES = {"epochs": "Epochs", "steps": "Steps", "seconds": "Seconds"}
SECTIONS = {
    "verdicts": "Verdicts",
    "seeds": "Every seed",
    "curves": "Curves",
    "behaviour": "Behaviour",
    "targets": "Time to target",
    "tuning": "Tuning",
    "cost": "Cost",
    "fairness": "Fairness",
    "methods": "Methods",
    "settings": "Settings",
    "trials": "Every trial",
    "setup": "Data and machine",
    "reading": "How to read",
    "files": "Files",
}
OPTIONAL = {"verdicts": "verdicts", "targets": "targets", "tuning": "tuning"}
"""Sections that stand only where their table does."""
_TIGHT = " ± ".replace(" ", "\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Panel:
    """One place for a chart on the page, with the chart for each position of the switch that the reader sets."""

    charts: Mapping[str, Chart]

    @property
    def first(self) -> Chart:
        """The chart that the page shows at first; heading and words are its own."""
        return next(iter(self.charts.values()))

    @property
    def keys(self) -> str:
        """The charts' keys by position, as the page's script reads them."""
        return json.dumps({choice: chart.key for choice, chart in self.charts.items() if not chart.empty})

    @property
    def switch(self) -> str:
        """The name of the switch; empty without one."""
        return self.first.switch

    @property
    def empty(self) -> bool:
        """True if no position has anything to draw."""
        return all(chart.empty for chart in self.charts.values())


def render_page(
    findings: Findings, charts: Sequence[Chart], tables: Mapping[str, Table], *, refresh: float | None = None
) -> str:
    """Return the whole page as text. A browser reads it again every `refresh` seconds; None: never."""
    study = findings.study
    shown = panels(charts)
    page: str = template("page.html").render(
        study=study,
        refresh=refresh,
        title=study.title,
        **_head(findings, tables, shown),
        notices=study.notices,
        panels=shown,
        behaviour=findings.behaviour,
        x_names=X_NAMES,
        legend=[(label, swatch(style)) for label, style in styles_of(study.sources).items()],
        tables={key: to_html(table) for key, table in {**tables, "trials": shown_trials_table(study)}.items()},
        exports={key: exports(tables[key]) for key in ("verdicts", "results") if key in tables},
        published=comparable(study),
        here=_setting_in_words(study),
        verdict_words=verdict_words(findings.verdicts),
        target_words=target_words(findings),
        basin_words=basin_words(study),
        matched_words=matched_words(findings),
        edges=edge_words(findings.searches),
        fairness=fairness(findings),
        methods=methods(findings),
        all_options=[(setting.label, spelled(run_with(study, setting))) for setting in study.running],
        definitions=definitions(study),
        details=_details(study),
        digests=_digests(study),
        citation=_citation(study),
        figures_json=figures_json(charts),
        plotly=Markup(plotly_script()),
        file_list=file_list(printed_figures(charts), tables),
    )
    return page


def _head(findings: Findings, tables: Mapping[str, Table], shown: Mapping[Section, Sequence[Panel]]) -> dict[str, Any]:
    """Return the content above the first section."""
    study = findings.study
    first = answer(study, findings.verdicts, findings.summaries)
    cautions = (*caution(study, findings.verdicts, findings.searches), *differing(findings))
    more = (seen(findings.verdicts, findings.summaries), *cautions)
    return {
        "answer": first.replace(" ± ", _TIGHT),
        "cautions": [sentence.replace(" ± ", _TIGHT) for sentence in more if sentence],
        "facts": _facts(study),
        "sections": [
            (key, name)
            for key, name in SECTIONS.items()
            if OPTIONAL.get(key, "results") in tables and (key != "behaviour" or shown["behaviour"])
        ],
    }


def template(name: str, *packages: str) -> Template:
    """Return a template of this package, or of others that use its parts; everything that it prints is escaped."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "steepest.study.report")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template(name)


def plotly_script() -> str:
    """Return the drawing library as text, as `plotly.offline.get_plotlyjs` does, without plotly's slow import."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def panels(charts: Iterable[Chart]) -> dict[Section, list[Panel]]:
    """Return every section's places for charts; those of one title on a switch share a place."""
    places: dict[tuple[Section, str], dict[str, Chart]] = {}
    for chart in charts:
        if chart.placeholder or not chart.empty:
            name = chart.title if chart.switch else chart.key
            places.setdefault((chart.section, name), {})[chart.choice] = chart
    return {
        section: [Panel(group) for (its, _), group in places.items() if its == section] for section in get_args(Section)
    }


def figures_json(charts: Iterable[Chart]) -> Markup:
    """Return every chart as plotly JSON; ``<`` is written as an escape, so that no label can end the script element."""
    drawn = {chart.key: _rounded(plotly_figure(chart)) for chart in charts if not chart.empty}
    text = json.dumps(drawn, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _rounded(value: Any) -> Any:
    """Return plain data with seven digits: finer than any screen, half as long."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def _facts(study: Study) -> list[tuple[str, str]]:
    """Return the numbers in the page's head."""
    seeds, config, data = len({trial.seed for trial in study.trials}), study.document.config, study.document.data
    found = [
        (str(len(study.labels)), "optimizer" if len(study.labels) == 1 else "optimizers"),
        (str(seeds), "seed" if seeds == 1 else "seeds"),
        (f"{config.epochs:,}", config.unit.removesuffix("s") if config.epochs == 1 else config.unit),
        ("" if data is None else f"{data.train:,}", "training examples"),
        (f"{study.document.model.parameters:,}", "parameters"),
        _ended(study),
        (f"{len(study.search_trials):,}" if study.search_trials else "", "search trials"),
    ]
    return [(value, name) for value, name in found if value]


def _ended(study: Study) -> tuple[str, str]:
    counts = statuses(study.trials)
    if set(counts) <= {FINISHED}:
        return f"{len(study.trials):,}", "reported trials, all finished"
    return f"{counts.get(FINISHED, 0):,} of {len(study.trials):,}", "reported trials finished"


def _setting_in_words(study: Study) -> str:
    """Return the same facts that a published setting names, of this study."""
    config, data = study.document.config, study.document.data
    parts = [
        f"{data.train:,} training examples" if data else "",
        f"{data.validation:,} kept apart for validation" if data and data.validation else "",
        f"{config.epochs:,} {config.unit}",
        f"batch size {config.batch_size:,}" if config.batch_size else "",
        f"precision {config.precision}",
        plural(len({trial.seed for trial in study.trials}), "seed"),
        study.document.machine.cpu,
    ]
    return ", ".join(part for part in parts if part)


def _details(study: Study) -> dict[str, list[tuple[str, str]]]:
    """Return lists of names and values for the page's lower part; empty ones are left out."""
    document = study.document
    run = {"threads": document.threads, "commit": document.commit, "started": _when(document.created)}
    found = {
        "Data": _pairs(_entries(document.data, "sha256", "fallback")) if document.data else [],
        "Run": _pairs({"workload": document.workload, "preset": document.preset, **_entries(document.config)}),
        "Model": _pairs(_entries(document.model, "sha256")),
        "Seeds and what each stream decides": list(document.seed_purposes.items()),
        "Machine": _pairs({**_entries(document.machine), **run}),
        "Versions": _pairs(document.versions),
    }
    return {title: pairs for title, pairs in found.items() if pairs}


def _entries(part: object, *without: str) -> dict[str, Any]:
    """Return the entries of a part of the document, in alphabetical order as in its file."""
    return {key: value for key, value in sorted(plain(part).items()) if key not in without}


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key).replace("_", " "), _words(value)) for key, value in values.items() if value not in (None, "")]


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in sorted(value.items()))
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return _amount(value)


def _amount(value: object) -> str:
    """Return a count with thousands separators, anything else as it is, nothing for nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def _digests(study: Study) -> list[tuple[str, str]]:
    """Return every digest that the study recorded: of the data's files and of the model's code."""
    data, model = study.document.data, study.document.model
    found = [*(data.sha256.items() if data else ()), ("model", model.sha256), ("code", model.code_sha256)]
    return [(name, digest) for name, digest in found if digest]


def _when(created: str) -> str:
    """Spell ``2026-11-21 22:30 UTC`` where the text is an ISO date, else the text."""
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created


def _citation(study: Study) -> str:
    """Return one sentence that tells a reader of a paper what was run."""
    document = study.document
    tool = f"Steepest {document.versions['steepest']}"
    commit = f", commit {document.commit}" if document.commit else ""
    day = f", {document.created[:10]}" if document.created else ""
    command = f" Command: {document.command}." if document.command else ""
    counts = joined([f"{count} {status}" for status, count in statuses(study.trials).items()])
    return (
        f"{study.title}. Study run with {tool}{commit}{day}; {plural(len(study.trials), 'trial')} ({counts}).{command}"
    )


def exports(table: Table) -> list[tuple[str, str]]:
    """Return the table in the formats that people paste."""
    return [("Markdown", to_markdown(table)), ("LaTeX", to_latex(table)), ("CSV", to_csv(table))]


def file_list(figures: Sequence[Figure], tables: Mapping[str, Table]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the files next to the page: name, and kind and address of each."""
    images = [(figure.key, [(kind, f"figures/{figure.key}.{kind}") for kind in ("png", "svg")]) for figure in figures]
    texts = [(key, [(kind, f"tables/{key}.{kind}") for kind in ("csv", "md", "tex")]) for key in tables]
    return images + texts
