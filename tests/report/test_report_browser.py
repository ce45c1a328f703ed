"""The report's page in a real browser: everything is drawn, its switches do what they say, and nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report_behaviour import SAMPLED, with_samples

from browser import Page, browser
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.findings.findings import findings
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.write import all_tables


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module", params=["tuned_folder", pytest.param("mixed_folder", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page without the images beside it."""
    found = findings(read_study(request.getfixturevalue(request.param)))
    page: Path = tmp_path_factory.mktemp("page") / "index.html"
    page.write_text(render_page(found, build_charts(found), all_tables(found)), encoding="utf-8")
    return page.as_uri()


def ready(shown: Page, address: str, width: int = 1400, scheme: str = "light") -> None:
    shown.open(address, width, 1000, scheme)
    shown.wait("[...document.querySelectorAll('.chart[data-empty=false]')].every((c) => c.querySelector('.main-svg'))")


def traces(shown: Page) -> list[dict[str, Any]]:
    """Series, opacity and colour of the lines of all drawn curves."""
    found: list[dict[str, Any]] = json.loads(
        shown.ask(
            """JSON.stringify([...document.querySelectorAll('.curves .chart[data-empty=false]')].flatMap((chart) =>
            chart.data.filter((each) => each.meta.role !== 'band').map((each) => ({series: each.meta.series,
            opacity: each.opacity ?? 1, colour: each.line?.color ?? each.marker?.color}))))"""
        )
    )
    return found


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        (1400, "light"),
        pytest.param(390, "light", marks=pytest.mark.slow),
        pytest.param(1400, "dark", marks=pytest.mark.slow),
    ],
)
def test_it_is_drawn_without_trouble(shown: Page, address: str, width: int, scheme: str) -> None:
    ready(shown, address, width, scheme)
    assert shown.ask("document.querySelectorAll('.chart[data-empty=false]').length") > 3
    assert shown.ask("document.documentElement.scrollWidth") <= width
    assert shown.troubles == []


def test_a_dark_page_has_other_colours(shown: Page, address: str) -> None:
    ready(shown, address)
    light = {each["series"]: each["colour"] for each in traces(shown)}
    ready(shown, address, scheme="dark")
    dark = {each["series"]: each["colour"] for each in traces(shown)}
    assert light.keys() == dark.keys()
    assert all(light[series] != dark[series] for series in light)


def test_a_name_brings_its_curves_forward_and_show_all_puts_all_back(shown: Page, address: str) -> None:
    ready(shown, address)
    label = shown.ask("document.querySelector('.chip[data-series]').dataset.series")
    shown.click(".chip[data-series]")
    assert shown.ask("document.querySelector('.chip[data-series]').getAttribute('aria-pressed')") == "true"
    assert all((each["opacity"] == 1) == (each["series"] == label) for each in traces(shown))
    shown.click(".chip.all")
    assert all(each["opacity"] == 1 for each in traces(shown))
    assert shown.ask("document.querySelector('.chip.all').hidden")


def test_the_axis_of_the_curves_is_switched(shown: Page, address: str) -> None:
    ready(shown, address)
    drawn = "[...document.querySelectorAll('.curves .chart[data-empty=false]')]"
    titles = f"JSON.stringify({drawn}.map((chart) => chart.layout.xaxis.title.text))"
    before = json.loads(shown.ask(titles))
    for place in range(shown.ask("document.querySelectorAll('input[name=axis]').length")):
        shown.ask(f"document.querySelectorAll('input[name=axis]')[{place}].click()")
        shown.settle()
    assert shown.ask("[...document.querySelectorAll('input[name=axis]')].at(-1).checked")
    assert json.loads(shown.ask(titles)) != before


def test_a_heading_sorts_its_table(shown: Page, address: str) -> None:
    ready(shown, address)
    table = "#trials table.data"
    rows = f"[...document.querySelectorAll('{table} tbody tr')]"
    keys = f"JSON.stringify({rows}.map((row) => row.cells[0].dataset.sort))"
    first = json.loads(shown.ask(keys))
    shown.click(f"{table} .sort")
    upwards = json.loads(shown.ask(keys))
    shown.click(f"{table} .sort")
    downwards = json.loads(shown.ask(keys))
    assert sorted(first) == sorted(upwards) == sorted(downwards)
    assert [upwards[0], upwards[-1]] == [downwards[-1], downwards[0]]
    assert shown.ask(f"document.querySelector('{table} th[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_the_charts_of_behaviour_open_and_show_the_chosen_layer(
    shown: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = findings(read_study(with_samples(tmp_path_factory.mktemp("moved"), ("in.weight", "in.bias"))))
    page: Path = tmp_path_factory.mktemp("page") / "index.html"
    page.write_text(render_page(found, build_charts(found), all_tables(found)), encoding="utf-8")
    ready(shown, page.as_uri())
    place = "document.querySelector('#behaviour .chart')"
    assert not shown.ask(f"Boolean({place}.querySelector('.main-svg'))")
    shown.click("#behaviour summary")
    shown.wait(f"{place}.querySelector('.main-svg')")
    values = f"JSON.stringify({place}.data.find((each) => each.meta.role === 'line').y)"
    whole = json.loads(shown.ask(values))
    shown.ask("document.querySelector('#layer').value = 'in.bias'")
    shown.ask("document.querySelector('#layer').dispatchEvent(new Event('change'))")
    shown.settle()
    assert json.loads(shown.ask(values)) == [step + 2 for step in SAMPLED] != whole
    assert shown.troubles == []
