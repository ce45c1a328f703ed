"""Explanations: the path of a trace, the values of its steps, and the page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
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


@pytest.mark.parametrize(
    ("optimizer", "surface"),
    [
        *product(["momentum", "adam[beta1=0.5]"], ["ravine", "noisy-ravine", "reddi", "least-squares"]),
        ("adam[lr=0.5]", "reddi"),
        ("adam[max_norm=1]", "ravine"),
        ("prodigy[d0=0.01]", "noisy-ravine"),
        ("momo", "noisy-ravine"),
        ("dog", "ravine"),
        ("lbfgs", "rosenbrock"),
        ("lbfgs[line_search_fn=strong_wolfe]", "noisy-ravine"),
        ("steepestdescent", "rosenbrock"),
        ("muon", None),
        ("soap", None),
        ("psgdkron", None),
    ],
)
def test_the_steps_are_those_of_the_trace(optimizer: str, surface: str | None) -> None:
    """To a few units in the last place, since a trace runs the fastest executor."""
    made = explain(optimizer, surface, steps=6, rates=1)
    path = made.traced.paths[0]
    at = np.stack([step.after.flatten().numpy() for step in made.steps])
    assert len(made.steps) == min(6, len(path.values) - 1)
    np.testing.assert_allclose(at, path.positions[1 : len(at) + 1], rtol=1e-13)


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
        (("muon", "ravine"), r"Muon cannot walk on ravine: .* 2D parameters .*; walk on least-squares"),
        (("muon", "linear-network"), r"has 2 parameters; choose a surface of one, such as least-squares"),
        (("torch.optim:Adam",), r"is not a rule of this library"),
        (("sam[base=adam]",), r"SAM\(Adam\) is around another optimizer, and has no equations of its own"),
        (("sophia",), r"Sophia cannot walk on ravine: it is fed with estimates of [^;]*$"),
        (("adma",), r"did you mean"),
        (("adam", "linear-network"), r"has 2 parameters; choose a surface of one"),
        (("adam", "ravin"), r"did you mean 'ravine'"),
    ],
    ids=str,
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explain(*arguments, steps=2, rates=1)


@pytest.mark.parametrize(
    ("optimizer", "surface"),
    [("adam", "ravine"), ("prodigy", "ravine"), ("muon", "least-squares"), ("soap", "least-squares")],
)
def test_rules_of_matrices_walk_on_a_matrix(optimizer: str, surface: str) -> None:
    assert explain(optimizer, steps=1, rates=1).traced.surface.name == surface


def test_matrices_are_printed_row_by_row() -> None:
    made = explain("muon", steps=2, lr=0.05)
    text = made.text(2)
    rows = r"\[(?: +-?[\d.e-]+){3} \]"
    before = re.search(
        rf"^    θ = {rows}   g = {rows}   B = {rows}\n(    (?: +{rows}){{3}}\n){{3}}    θ ←", text, re.MULTILINE
    )
    assert before is not None
    assert re.search(
        rf"^    B ← μ·B \+ \(1 - μ\)·g\n      = {rows}\n(        {rows}\n){{3}}    u ← ", text, re.MULTILINE
    )
    assert "\nwhere orthogonalized(...): apply Newton and Schulz's iteration" in text
    assert "B = [ 0  0  0 ]" in before[0], "the state before the step"


OWN_RULE = """
import torch
from steepest import Optimizer, Rule, State, fields
from steepest.vocabulary import lerp


def polarised(w, grad, M, *, lr, momentum):
    M = lerp(M, grad, 1 - momentum)
    u = polar(M)
    return w - lr * u, M


def polar(x):
    U, _, V = torch.linalg.svd(x, full_matrices=False)
    return U @ V


class Polar(Optimizer):
    lr: fields.Rate = fields.lr(0.1, 1e-3, 1.0)
    momentum: float = fields.momentum(0.9)
    rule = Rule(polarised, "matrix", (State("momentum_buffer"),))
"""


def test_a_rule_in_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text(OWN_RULE, encoding="utf-8")
    made = explain(f"{file}:Polar", steps=2, lr=0.05)
    assert made.traced.surface.name == "least-squares"
    assert [f"{each.symbol} ← {each.expression}" for each in made.steps[1].equations] == [
        "M ← μ·M + (1 - μ)·g",
        "U ← torch.linalg.svd(M, full_matrices=False)₁",
        "V ← torch.linalg.svd(M, full_matrices=False)₃",
        "u ← U @ V",
        "θ ← θ - η·u",
    ]


def test_weights_that_are_only_evaluated_are_told_apart() -> None:
    made = explain("sgdschedulefree", steps=4, lr=0.01)
    assert made.remark.startswith("The path and its values are those of the weights to be evaluated")
    assert made.remark in made.text()
    assert not explain("sgd", steps=2, lr=0.01).remark


def test_bad_files_and_counts(explained: Explanation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown kind of file 'png'. Choose from html, txt"):
        explained.save(tmp_path / "x.png")
    with pytest.raises(UsageError, match="cannot be written"):
        explained.save(tmp_path / "missing" / "x.html")
    with pytest.raises(UsageError, match="steps must be a whole number of at least 1, not 0"):
        explain("adam", steps=0)
    assert explained.save(tmp_path / "x.txt").read_text(encoding="utf-8") == explained.text() + "\n"


@pytest.fixture(scope="module")
def of_matrices() -> Explanation:
    return explain("soap[precondition_frequency=2]", steps=4, rates=3)


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


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_of_a_rule_of_matrices(shown: Page, of_matrices: Explanation, tmp_path: Path, width: int) -> None:
    shown.open(of_matrices.save(tmp_path / "soap.html").as_uri() + "#step=3", width, 1000)
    assert shown.ask("document.documentElement.scrollWidth") <= width
    step = of_matrices.steps[2]
    cells = "[...document.querySelectorAll('{} tr')].map((row) => [...row.cells].map((x) => Number(x.textContent)))"
    theta = torch.tensor(shown.ask(cells.format("#given dd:nth-of-type(1) .matrix")), dtype=torch.float64)
    torch.testing.assert_close(theta, torch.as_tensor(step.before), rtol=1e-3, atol=0)
    place = next(k for k, each in enumerate(step.equations, 1) if each.symbol == "θ")
    moved = torch.tensor(shown.ask(cells.format(f"#equations li:nth-child({place}) .matrix")), dtype=torch.float64)
    torch.testing.assert_close(moved, torch.as_tensor(step.after), rtol=1e-3, atol=0)
    assert "rotated" in shown.ask("document.querySelector('.helpers').innerText")
    assert "t\n3" in shown.ask("document.querySelector('#numbers').innerText")
    assert shown.troubles == []
