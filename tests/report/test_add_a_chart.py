"""A chart that only this file defines: a function and its row in `CHARTS` put it on the page and into the figures."""

import json
import re
from pathlib import Path

import pytest
from synthetic_study import TUNED, write_study

from steepest.study.report import write_report
from steepest.study.report.charts import charts
from steepest.study.report.charts.chart import Axis, Chart, Section, Series
from steepest.study.report.charts.palette import Styles
from steepest.study.report.findings.findings import Findings

SECTIONS: tuple[Section, ...] = ("verdicts", "seeds", "curves", "targets", "tuning", "cost")


def _state_chart(section: Section, found: Findings, styles: Styles) -> Chart:
    series = tuple(
        Series(cost.label, styles[cost.label], "dots", (cost.state_bytes,), (1000 * cost.seconds,), notes=("median",))
        for cost in found.costs
        if cost.state_bytes is not None
    )
    return Chart(
        section=section,
        key=f"state-against-time-in-{section}",
        title=f"State against time in {section}",
        x=Axis("Bytes of state per parameter"),
        y=Axis("Milliseconds of a step"),
        series=series,
        note="Every mark is one optimizer.",
        alt="Dot chart: the state of every optimizer against its step time.",
    )


def _in_every_section(found: Findings, styles: Styles) -> tuple[Chart, ...]:
    return tuple(_state_chart(section, found, styles) for section in SECTIONS)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's report with six more charts."""
    folder = write_study(tmp_path_factory.mktemp("added"), TUNED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "CHARTS", (*charts.CHARTS, _in_every_section))
        return write_report(folder).parent


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_its_section_shows_it_once_and_no_other_does(page: str, section: Section) -> None:
    shown = dict(re.findall(r'<section id="(\w+)".*?>(.*?)</section>', page, re.DOTALL))
    places = [name for name, text in shown.items() for _ in re.findall(f"state-against-time-in-{section}&#34;", text)]
    assert places == [section]
    assert f"<h3>State against time in {section}</h3>" in shown[section]
    assert '<p class="note">Every mark is one optimizer.</p>' in shown[section]


def test_the_page_has_what_it_draws(page: str) -> None:
    drawn = json.loads(re.findall(r'id="figures">(.*?)</script>', page, re.DOTALL)[0])["state-against-time-in-cost"]
    assert [trace["name"] for trace in drawn["data"]] == ["SGD", "Momentum", "Adam", "AdamW", "Lion"]
    assert drawn["layout"]["xaxis"]["title"]["text"] == "Bytes of state per parameter"


@pytest.mark.parametrize("section", SECTIONS)
def test_it_is_printed_and_listed(report: Path, page: str, section: Section) -> None:
    for kind in ("png", "svg"):
        name = f"figures/state-against-time-in-{section}.{kind}"
        assert (report / name).stat().st_size > 5000
        assert f'<a href="{name}">{kind}</a>' in page
