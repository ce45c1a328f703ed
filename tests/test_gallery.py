"""The gallery: its pages, its pictures and its figures agree, and are what the code computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import CLASSES

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 3_000_000
"""Bytes of the gallery and of the pictures of articles together."""


@pytest.fixture(scope="module")
def gallery() -> Any:
    """docs/gallery.py, which imports docs/generate.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        import gallery

        yield gallery
    for name in ("gallery", "generate"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def results(gallery: Any) -> dict[str, list[dict[str, Any]]]:
    told: dict[str, list[dict[str, Any]]] = json.loads(gallery.RESULTS.read_text("utf-8"))
    return told


def test_every_optimizer_has_a_row_on_each_of_its_surfaces(gallery: Any, results: Any) -> None:
    assert list(results) == list(CLASSES), f"run `{gallery.COMMAND}` and commit what it writes"
    for name, told in results.items():
        expected = gallery.surfaces_for(gallery.steepest.info(name))
        assert tuple(row["surface"] for row in told) == expected, name


def test_pictures_and_pages_agree(gallery: Any, results: Any) -> None:
    drawn = {name for name, told in results.items() if not all("skipped" in row for row in told)}
    assert {path.stem for path in gallery.FOLDER.glob("*.png")} == drawn
    assert set(CLASSES) - drawn == {"sparseadam", "sophia"}
    index = gallery.PAGE.read_text("utf-8")
    for name in CLASSES:
        page = (gallery.generate.FOLDER / f"{name}.md").read_text("utf-8")
        assert (f"](../gallery/{name}.png)" in page) == (name in drawn), name
        assert index.count(f"(gallery/{name}.png)](optimizers/{name}.md)") == (name in drawn), name


def test_the_index_is_what_the_figures_say(gallery: Any, results: Any) -> None:
    assert gallery.PAGE.read_text("utf-8") == gallery.index(results), f"run `{gallery.COMMAND}`"


def test_a_page_without_a_picture_has_no_link(gallery: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = gallery.steepest.info("adam")
    assert list(gallery.generate.paths(facts))
    monkeypatch.setattr(gallery.generate, "GALLERY", tmp_path)
    assert list(gallery.generate.paths(facts)) == []


def test_the_first_and_their_ties_are_said(gallery: Any) -> None:
    def row(reached: int | None) -> dict[str, Any]:
        return {"surface": "ravine", "reached": reached}

    others = [{"surface": surface, "reached": 9} for surface in (*gallery.SURFACES[1:], *gallery.FOR_MATRICES)]
    told = {"sgd": [row(7), *others], "adam": [row(5), *others], "lion": [row(None)], "nag": [row(5)]}
    page = gallery.index(told)
    assert "* Ravine: Adam, NAG tie, after 5." in page
    assert "| [SGD](optimizers/sgd.md) | 7 | **9** |" in page
    assert "| [Adam](optimizers/adam.md) | **5** | **9** |" in page
    assert "| [Lion](optimizers/lion.md) | – |  |" in page


def test_a_searched_range_holds_a_rate_that_is_not_lost(results: Any) -> None:
    lost = [(name, row["surface"]) for name, told in results.items() for row in told if row.get("lost") and row["ties"]]
    assert not lost


def test_a_lost_path_is_said_to_be_lost(gallery: Any, results: Any) -> None:
    (row,) = (row for row in results["dadaptsgd"] if row["surface"] == "himmelblau")
    assert gallery.words(row).split("\n") == ["its own rate", "lost, beyond 1e+12 at", "evaluation 28"]
    assert gallery.words({**row, "rate": 0.1, "ties": 3}).startswith("rate 0.1, as all are lost\nlost, ")


def test_pictures_are_small(gallery: Any) -> None:
    folders = gallery.FOLDER, ROOT / "docs" / "images" / "articles"
    assert 0 < sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < LIMIT


@pytest.mark.parametrize("name", ["momentum", "muon"])
def test_the_gallery_is_what_the_code_draws(
    gallery: Any, results: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is drawn with its own fonts and libraries, so that two drawings are compared, and the figures."""
    monkeypatch.setattr(gallery, "surfaces_for", lambda facts: ("ravine", "saddle", "least-squares"))
    monkeypatch.setattr(gallery.parts, "GRID", 41)
    traced = gallery.traces(name)
    expected = [row for row in results[name] if row["surface"] in ("ravine", "saddle", "least-squares")]
    for row, stored in zip(gallery.rows(traced), sorted(expected, key=_order), strict=True):
        assert {key: row.get(key) for key in ("surface", "rate", "lost", "reached", "ended", "skipped")} == {
            key: stored.get(key) for key in ("surface", "rate", "lost", "reached", "ended", "skipped")
        }
        assert row.get("above", 0.0) == pytest.approx(stored.get("above", 0.0), rel=0.1)
    assert gallery.picture(name, traced) == gallery.picture(name, traced)
    assert torch.get_default_dtype() == torch.float32


def _order(row: dict[str, Any]) -> int:
    return ["ravine", "saddle", "least-squares"].index(row["surface"])
