import errno
import gc
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_study import NINE, PAPER, TUNED, Plan, write_study

from steepest.study.report import ReportError, write_report
from steepest.study.report.charts.charts import build_charts
from steepest.study.report.findings.findings import findings
from steepest.study.report.page import render_page
from steepest.study.report.stored.reader import read_study
from steepest.study.report.write import all_tables, write_files

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b`*_$x^2$ \\ & % # {} ~",
    "_hidden",
    "\"'><img src=x onerror=alert(2)>",
    "深度",
)


class _Page(HTMLParser):
    """Elements with their attributes, the text of scripts, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("script", "style"):
            self._open = tag
            (self.scripts if tag == "script" else self.styles).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            (self.scripts if self._open == "script" else self.styles)[-1] += data
        else:
            self.text += data


def _rendered(folder: Path) -> str:
    """The page alone, without writing figures."""
    found = findings(read_study(folder))
    return render_page(found, build_charts(found), all_tables(found))


@pytest.fixture(scope="module")
def page(mixed_folder: Path) -> _Page:
    return _Page((mixed_folder / "report/index.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing(page: _Page) -> None:
    loads = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href", "integrity")
    ]
    assert not [value for value in loads if re.match(r"(?i)\s*(https?:|//|ftp:|file:)", value)]
    assert not [style for style in page.styles if re.search(r"(?i)@import|url\(", style)]
    assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "img"}


def test_plotly_is_inlined_once(page: _Page) -> None:
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert len(page.scripts) == 3
    size = sum(map(len, page.scripts)) + len(page.text)
    assert size < 5_600_000


def test_no_button_sends_data_away(page: _Page) -> None:
    own = page.scripts[-1]
    assert 'modeBarButtons: [["toImage", "resetScale2d"]]' in own
    assert not re.search(r"fetch\(|XMLHttpRequest|sendBeacon|https?:", own)


def test_every_place_for_a_chart_has_its_data(page: _Page) -> None:
    figures = json.loads(page.scripts[0])
    places = [attributes for tag, attributes in page.elements if attributes.get("class") == "chart"]
    named = [key for place in places for key in json.loads(place["data-charts"]).values()]
    assert sorted(named) == sorted(figures)
    assert len(places) >= 8
    assert all(len(place["aria-label"]) > 40 and place["role"] == "img" for place in places)


def test_links_lead_to_files_and_sections_that_exist(page: _Page, mixed_folder: Path) -> None:
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section" and "id" in attributes]
    assert len(sections) == 11
    report = mixed_folder / "report"
    files = [path for folder in ("figures", "tables") for path in (report / folder).iterdir()]
    assert sorted(link for link in links if not link.startswith("#")) == sorted(
        path.relative_to(report).as_posix() for path in files
    )
    assert set(sections) <= {link[1:] for link in links if link.startswith("#")} <= ids
    assert len(files) >= 6 * 2 + 4 * 3
    assert all(path.stat().st_size > 0 for path in files)


def test_damage_and_ends_are_told(page: _Page) -> None:
    for words in (
        "the last line could not be read",
        "loss is nan at step 16",
        "2 of 3 (1 diverged)",
        "ValueError: lr < 0 is <refused>",
        'File "trial.py", line 12, in run_trial',
        "steepest study fashion-mnist --preset quick",
        "running mean of the loss",
        "ab" * 32,
        "initial weights",
        "abc1234",
    ):
        assert words.lower() in page.text.lower(), words


def test_the_answer_stands_above_everything_else(page: _Page) -> None:
    assert page.text.index("No verdict: for 8 comparisons with SGD") < page.text.index("Every seed")


def test_a_whole_study_says_nothing_of_damage(tmp_path: Path) -> None:
    text = _Page(_rendered(write_study(tmp_path, Plan(labels=("Adam", "SGD"))))).text
    assert "damaged" not in text
    assert "not the data" not in text
    assert "reported trials, all finished" in text


def test_a_tuned_study_has_every_section_in_reading_order(tuned_folder: Path) -> None:
    page = _Page(_rendered(tuned_folder))
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section" and "id" in attributes]
    assert ids == [
        "verdicts", "seeds", "curves", "targets", "tuning", "cost", "fairness", "methods", "settings", "trials",
        "setup", "reading", "files",
    ]  # fmt: skip
    tables = {attributes["id"] for tag, attributes in page.elements if tag == "table"}
    keys = "verdicts results targets tuning search cost matched skipped settings trials"
    assert tables == {f"table-{key}" for key in keys.split()}
    for words in (
        "Rprop needs <the whole> data set",
        "restarted from its beginning: its state holds a closure",
        f"steepest rerun {tuned_folder} 00-seed0-0a1b2c3d",
        "lr=0.5623",
        "Widen the range with --extend.",
    ):
        assert words in page.text, words


def test_an_untuned_study_has_no_section_that_it_has_no_data_for(tmp_path: Path) -> None:
    page = _Page(_rendered(write_study(tmp_path, Plan(labels=("Adam",), seeds=2))))
    ids = {attributes["id"] for tag, attributes in page.elements if tag == "section" and "id" in attributes}
    assert ids.isdisjoint({"verdicts", "targets", "tuning"})
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert links.isdisjoint({"#verdicts", "#targets", "#tuning"})
    assert not [attributes for tag, attributes in page.elements if attributes.get("id") == "table-cost"]


def test_a_tuned_study_is_written_whole(tuned_folder: Path) -> None:
    report = write_report(tuned_folder).parent
    names = {path.stem for path in (report / "figures").iterdir()}
    assert {"verdicts", "steps-to-target-1", "learning-rate-sensitivity", "expected-best"} <= names
    assert "accuracy-against-step-time" in names
    table = (report / "tables/verdicts.tex").read_text(encoding="utf-8")
    assert r"$-$$\infty$ to +0.0822" in table


def test_fallback_data_are_announced_loudly(tmp_path: Path) -> None:
    sentence = "These are digits & not Fashion-MNIST. Run: steepest data fetch fashion-mnist"
    page = _Page(_rendered(write_study(tmp_path, Plan(labels=("Adam",), overrides={"data": {"fallback": sentence}}))))
    assert sentence in page.text
    assert page.text.index(sentence) < page.text.index("Adam has a mean test accuracy")
    assert any(attributes.get("role") == "alert" for _, attributes in page.elements)


def test_published_figures_come_with_source_and_both_settings(tmp_path: Path) -> None:
    text = _Page(_rendered(write_study(tmp_path, Plan(preset="full")))).text
    assert str(PAPER["source"]) in text
    assert f"Setting there: {PAPER['setting']}" in text
    assert "Setting here: 6,000 training examples, 1,000 kept apart for validation, 2 epochs, batch size 250" in text


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    title = "</script><script>alert(3)</script>"
    plan = Plan(
        labels=HOSTILE,
        seeds=2,
        overrides={"title": title},
        trials=2,
        timing_rounds=1,
        targets=(0.5,),
        skipped={HOSTILE[3]: "<b>reason</b>"},
        restarts={(HOSTILE[0], 0): "<i>closure</i>"},
    )
    page = _Page(_rendered(write_study(tmp_path, plan)))
    assert len(page.scripts) == 3
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert "img" not in {tag for tag, _ in page.elements}
    assert title in page.text
    assert all(label in page.text for label in HOSTILE)
    series = {trace["meta"]["series"] for figure in json.loads(page.scripts[0]).values() for trace in figure["data"]}
    assert series == set(HOSTILE) - {HOSTILE[3]}
    assert not {"b", "i"} & {tag for tag, _ in page.elements}


@pytest.mark.parametrize(
    "plan",
    [
        Plan(labels=("Adam",), seeds=1, epochs=1, steps_per_epoch=1),
        Plan(ends={(label, seed): "not started" for label in NINE for seed in range(3)}),
        Plan(labels=("Adam", "SGD"), seeds=2, ends={("Adam", seed): "diverged" for seed in range(2)}),
        Plan(labels=("Adam",), overrides={"optimizers": [], "seed_purposes": {}, "commit": None, "description": ""}),
        Plan(labels=("Adam",), overrides={"trials": []}),
        replace(TUNED, search_ends={(label, n): "not started" for label in TUNED.labels for n in range(8)}),
        replace(TUNED, overrides={"chosen": {}}),
        replace(TUNED, overrides={"optimizers": [], "chosen": {}}),
    ],
    ids=[
        "one of everything",
        "nothing yet",
        "one diverged throughout",
        "bare",
        "no trials",
        "searching",
        "no choice",
        "unlisted",
    ],
)
def test_partial_studies_have_a_page(plan: Plan, tmp_path: Path) -> None:
    page = _Page(_rendered(write_study(tmp_path, plan)))
    assert not re.search(r"None(?! of these)", page.text)
    json.loads(page.scripts[0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_trials_without_times_are_shown_without_seconds(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam", "SGD"), seeds=2))
    for path in (folder / "times").iterdir():
        path.unlink()
    figures = json.loads(_Page(_rendered(folder)).scripts[0])
    assert "validation-loss-over-steps" in figures
    assert "train-loss-over-seconds" not in figures
    assert "accuracy-against-time" not in figures


def test_the_same_records_give_the_same_page(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=2))
    assert _rendered(folder) == _rendered(folder)


def test_a_report_on_hostile_labels_is_written_whole(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=HOSTILE[:2] + HOSTILE[4:], seeds=1, epochs=1, steps_per_epoch=2))
    report = write_report(folder).parent
    written = {path.suffix for path in report.rglob("*") if path.is_file()}
    assert written == {".html", ".png", ".svg", ".csv", ".md", ".tex"}
    assert not list(report.rglob("*.part"))
    assert "<script" not in (report / "figures/every-seed.svg").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    (folder / "report").write_text("in the way")
    with pytest.raises(ReportError, match=r"could not be written.*records are untouched.*steepest report"):
        write_report(folder)


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1, ends={("Adam", 0): "not started"}))
    page = write_report(folder)
    before = page.read_bytes()

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ReportError, match="No space left on device"):
        write_report(folder)
    assert page.read_bytes() == before
    assert not list(folder.rglob("*.part"))


def test_reading_needs_no_drawing_library() -> None:
    code = (
        "import sys, steepest.study.report; print([m for m in ('plotly', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_report_that_fails_leaves_the_collector_of_cycles_on(tmp_path: Path) -> None:
    with pytest.raises(ReportError):
        write_files(tmp_path)
    assert gc.isenabled()
