"""The interactive page, in a real browser: it draws, it does what its buttons say, and it fetches nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Page, browser
from steepest.landscapes.page.contents import contents
from steepest.landscapes.page.page import page as page_of
from steepest.landscapes.traced import Traced
from steepest.landscapes.tracing import trace

BUDGET = 40


@pytest.fixture(scope="module")
def traced() -> Traced:
    return trace("ravine[condition=20]", ["sgd[lr=0.05]", "adam", "sam[base=sgd,lr=0.05,rho=0.01]"], budget=40, rates=2)


@pytest.fixture(scope="module")
def file(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> str:
    return traced.save(tmp_path_factory.mktemp("page") / "ravine.html").as_uri()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


def state(shown: Page, name: str) -> Any:
    return shown.ask(f"window.steepest.state.{name}")


def inked(shown: Page, selector: str) -> int:
    """How many pixels of a canvas are drawn, in how many colours: 0 for an empty one."""
    return int(
        shown.ask(
            f"""(() => {{ const canvas = document.querySelector({selector!r});
            const {{data}} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const found = new Set(); for (let at = 0; at < data.length; at += 4) if (data[at + 3])
            found.add(data[at] * 65536 + data[at + 1] * 256 + data[at + 2]); return found.size; }})()"""
        )
    )


def give(shown: Page, selector: str, value: int, event: str) -> None:
    """Set a control's value, as a user does who drags or chooses."""
    element = f"document.querySelector({selector!r})"
    shown.ask(f"{element}.value = '{value}'")
    shown.ask(f"{element}.dispatchEvent(new Event({event!r}))")
    shown.settle()


def picture(shown: Page, selector: str) -> str:
    return str(shown.ask(f"document.querySelector({selector!r}).toDataURL()"))


# -- without a browser -------------------------------------------------------------------------------------------------


def test_the_data_are_the_paths(traced: Traced) -> None:
    made = contents(traced)
    assert [series["label"] for series in made["series"]] == list(traced.labels)
    for series, path in zip(made["series"], traced.paths, strict=True):
        (own,) = series["paths"]
        np.testing.assert_allclose(np.stack([own["x"], own["y"]], 1), path.positions, rtol=1e-5)
        np.testing.assert_allclose(own["values"], path.values, rtol=1e-5)
        np.testing.assert_allclose(own["lengths"][1:], path.step_lengths, rtol=1e-5)
        assert own["evaluations"] == path.evaluations.tolist()
    count = made["ground"]["count"]
    corner = made["window"][0][0], made["window"][1][0]
    assert made["ground"]["heights"][0] == pytest.approx(traced.surface.at(corner) - made["ground"]["floor"], rel=1e-5)
    assert len(made["ground"]["heights"]) == count**2


def test_it_needs_nothing_else_and_closes_no_script(traced: Traced) -> None:
    text = page_of(traced)
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", text)
    assert len(re.findall("</script", text)) == 2
    embedded = re.search(r'id="contents">(.*?)</script', text, re.DOTALL)
    assert embedded is not None
    assert json.loads(embedded[1])["budget"] == BUDGET
    assert len(text) < 400_000


def test_equal_traces_give_equal_pages(traced: Traced) -> None:
    assert page_of(traced) == page_of(traced)


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_without_trouble(shown: Page, file: str, width: int, scheme: str) -> None:
    shown.open(file, width, 1000, scheme)
    assert inked(shown, "#plane") > 50
    assert inked(shown, "#curve") > 10
    assert shown.ask("document.documentElement.scrollWidth") <= width
    assert shown.troubles == []


@pytest.mark.parametrize("surface", ["reddi", "least-squares", "himmelblau"])
def test_other_kinds_of_surfaces_are_drawn(shown: Page, tmp_path: Path, surface: str) -> None:
    """One number over the evaluations; a plane through many numbers; several minima and starts."""
    made = trace(surface, ["sgd", "adam"], budget=12, rates=2, starts=2 if surface == "himmelblau" else 1)
    shown.open(made.save(tmp_path / "page.html").as_uri(), 1000, 900)
    assert inked(shown, "#plane") > 20
    for view in ("tilted", "each"):
        if shown.ask(f"!!document.querySelector('[value={view}]')"):
            shown.click(f"#views label:has([value={view}])")
    assert shown.ask("document.querySelectorAll('tbody tr').length") == len(made.paths)
    assert shown.troubles == []


def test_the_slider_and_the_buttons_move_all_paths(shown: Page, file: str) -> None:
    shown.open(file, 1200, 900)
    assert state(shown, "now") == BUDGET
    whole = picture(shown, "#plane")
    shown.click("#back")
    assert state(shown, "now") == BUDGET - 1
    shown.click("#ahead")
    assert picture(shown, "#plane") == whole
    give(shown, "#now", 7, "input")
    assert state(shown, "now") == 7
    assert shown.ask("document.querySelector('#count').textContent") == f"7 of {BUDGET}"
    assert picture(shown, "#plane") != whole


def test_playing_goes_from_the_start_to_the_end_and_pauses(shown: Page, file: str) -> None:
    shown.open(file, 1200, 900)
    give(shown, "#speed", 4, "change")
    shown.click("#play")
    assert state(shown, "playing")
    shown.wait("window.steepest.state.now > 0.5")
    shown.click("#play")
    paused = state(shown, "now")
    assert 0 < paused < BUDGET
    shown.settle()
    assert state(shown, "now") == paused
    shown.click("#play")
    shown.wait(f"window.steepest.state.now === {BUDGET} && !window.steepest.state.playing")
    shown.settle()
    assert shown.ask("document.querySelector('#play').getAttribute('aria-label')") == "Play"


def test_keys(shown: Page, file: str) -> None:
    shown.open(file, 1200, 900)
    for key, now in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", BUDGET)):
        shown.press(key)
        assert state(shown, "now") == now, key
    shown.press(" ")
    assert state(shown, "playing")
    shown.press(" ")
    assert not state(shown, "playing")


def test_names_hide_and_show_their_paths(shown: Page, file: str) -> None:
    shown.open(file, 1200, 900)
    shown.mouse("mouseMoved", 1, 1)
    shown.settle()
    whole = picture(shown, "#curve")
    shown.click(".chip[data-series=Adam]")
    shown.mouse("mouseMoved", 1, 1)
    shown.settle()
    assert shown.ask("[...window.steepest.hidden]") == ["Adam"]
    assert shown.ask("document.querySelector('.chip[data-series=Adam]').getAttribute('aria-pressed')") == "false"
    assert picture(shown, "#curve") != whole
    shown.click(".chip[data-series=Adam]")
    shown.ask("document.activeElement.blur()")
    shown.mouse("mouseMoved", 1, 1)
    shown.settle()
    assert picture(shown, "#curve") == whole


def test_views(shown: Page, file: str, traced: Traced) -> None:
    shown.open(file, 1200, 900)
    above = picture(shown, "#plane")
    shown.click("#views label:has([value=tilted])")
    tilted = picture(shown, "#plane")
    assert tilted != above
    box = json.loads(shown.ask("JSON.stringify(document.querySelector('#plane').getBoundingClientRect())"))
    shown.mouse("mousePressed", box["x"] + 200, box["y"] + 150)
    shown.mouse("mouseMoved", box["x"] + 300, box["y"] + 170)
    shown.mouse("mouseReleased", box["x"] + 300, box["y"] + 170)
    shown.settle()
    assert picture(shown, "#plane") != tilted
    shown.click("#views label:has([value=each])")
    assert shown.ask("document.querySelectorAll('#multiples canvas').length") == len(traced.labels)
    assert all(inked(shown, f"#multiples [data-series='{label}'] canvas") > 20 for label in traced.labels)
    shown.click("#curves label:has([value=distance])")
    assert shown.ask("document.querySelector('#curve-title').textContent") == "Distance to the nearest minimum"
    assert shown.troubles == []


def test_the_pointer_tells_step_value_length_and_rate(shown: Page, file: str, traced: Traced) -> None:
    shown.open(file, 1200, 900)
    end = traced.paths[0]
    at = json.loads(
        shown.ask(
            """(() => { const canvas = document.querySelector('#curve'); canvas.scrollIntoView({block: 'center'});
            const box = canvas.getBoundingClientRect();
            const right = Number(canvas.dataset.left) + Number(canvas.dataset.width);
            return JSON.stringify([box.x + right, box.y, box.height]); })()"""
        )
    )
    told, last = "", f"step {len(end.values) - 1}, {BUDGET} evaluations"
    for y in np.arange(at[1], at[1] + at[2], 4):
        shown.mouse("mouseMoved", at[0], float(y))
        told = shown.ask("document.querySelector('#tip').hidden ? '' : document.querySelector('#tip').innerText")
        if told.startswith(end.label) and last in told:
            break
    assert told.startswith(end.label)
    assert last in told
    assert all(word in told for word in ("value ", "distance ", "step length ", "gradient ", "effective rate "))
    number = re.search(r"effective rate ([\d.e-]+)", told)
    assert number is not None
    assert float(number[1]) == pytest.approx(end.effective_rates[-1], rel=1e-2)


def test_a_link_opens_a_view(shown: Page, file: str) -> None:
    shown.open(f"{file}#view=tilted&now=9", 1200, 900)
    assert (state(shown, "view"), state(shown, "now")) == ("tilted", 9)
    assert shown.ask("document.querySelector('[name=view]:checked').value") == "tilted"
    shown.open(f"{file}#view=nonsense&now=x", 1200, 900)
    assert (state(shown, "view"), state(shown, "now")) == ("above", 0)
    assert shown.troubles == []


def test_nothing_moves_by_itself(shown: Page, file: str) -> None:
    shown.open(file, 1200, 900, motion="reduce")
    first = picture(shown, "#plane")
    shown.settle()
    assert not state(shown, "playing")
    assert picture(shown, "#plane") == first
