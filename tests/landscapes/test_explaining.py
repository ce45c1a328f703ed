"""Explanations: the path of a trace, the values of its steps, and the page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from browser import Page, browser
from steepest.landscapes.explaining import Explanation, explain
from steepest.study.errors import UsageError


@pytest.fixture(scope="module")
def explained() -> Explanation:
    return explain("adam", "rosenbrock", steps=8, rates=3)


@pytest.mark.parametrize("surface", ["ravine", "noisy-ravine", "reddi", "least-squares"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam[beta1=0.5]"])
def test_the_steps_are_those_of_the_trace(surface: str, optimizer: str) -> None:
    """To a few units in the last place, since a trace runs the fastest executor."""
    made = explain(optimizer, surface, steps=6, lr=1e-3)
    path = made.traced.paths[0]
    after = np.stack([step.after.flatten().numpy() for step in made.steps])
    assert len(made.steps) == 6
    np.testing.assert_allclose(after, path.positions[1:7], rtol=1e-13)


def test_the_text_has_every_equation_of_every_step_with_its_value(explained: Explanation) -> None:
    text = explained.text()
    assert text.startswith("Adam on Rosenbrock function (rosenbrock), rate ")
    assert len(re.findall(r"^    θ ← .* = \(", text, re.MULTILINE)) == 8
    assert f"with η = {explained.choice.rate:.4g}, β₁ = 0.9" in text
    step = explained.steps[4]
    m = next(each for each in step.equations if each.symbol == "m")
    hand = 0.9 * torch.as_tensor(step.given["m"]) + 0.1 * step.gradient
    assert torch.allclose(torch.as_tensor(m.value), hand)
    assert f"m ← β₁·m + (1 - β₁)·g = ({', '.join(f'{x:.4g}' for x in hand.tolist())})" in text
    assert repr(explained) == explained.text(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("muon",), r"Muon cannot walk on ravine"),
        (("lbfgs",), r"LBFGS has no equations to walk through, since this rule asks for new gradients"),
        (("prodigy",), r"Prodigy has numbers that all parameters share"),
        (("torch.optim:Adam",), r"is not a rule of this library"),
        (("sophia",), r"Sophia cannot walk on ravine: it is fed with estimates"),
        (("adma",), r"did you mean"),
        (("adam", "linear-network"), r"has 2 parameters; choose a surface of one"),
        (("adam", "ravin"), r"did you mean 'ravine'"),
    ],
    ids=str,
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explain(*arguments, steps=2, rates=1)


def test_bad_files_and_counts(explained: Explanation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown kind of file 'png'. Choose from html, txt"):
        explained.save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="cannot be written"):
        explained.save(tmp_path / "missing" / "x.html")
    with pytest.raises(UsageError, match="steps must be a whole number of at least 1, not 0"):
        explain("adam", steps=0)
    assert explained.save(tmp_path / "x.txt").read_text(encoding="utf-8") == explained.text() + "\n"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(shown: Page, explained: Explanation, tmp_path: Path, width: int, scheme: str) -> None:
    file = explained.save(tmp_path / "adam.html").as_uri()
    shown.open(file, width, 1000, scheme)
    assert shown.ask("document.documentElement.scrollWidth") <= width
    assert shown.ask("document.querySelector('#count').textContent") == "step 1 of 8"
    first = shown.ask("document.querySelector('#plane').toDataURL()")
    shown.press("ArrowRight")
    shown.click("#ahead")
    assert shown.ask("document.querySelector('#count').textContent") == "step 3 of 8"
    assert shown.ask("document.querySelector('#plane').toDataURL()") != first
    weights = explained.steps[2].equations[-1]
    told = shown.ask("document.querySelector('#equations li:last-child').innerText")
    numbers = [float(x) for x in re.findall(r"-?[\d.]+(?:e-?\d+)?", told.rpartition("=")[2])]
    assert numbers == pytest.approx(torch.as_tensor(weights.value).tolist(), rel=1e-4)
    shown.click("#play")
    shown.wait("window.steepest.state.step > 3")
    shown.press("End")
    assert shown.ask("window.steepest.state.step") == 8
    assert shown.troubles == []
