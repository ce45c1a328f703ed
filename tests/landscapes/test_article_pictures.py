"""The pictures of articles: each shows what its first line says, and stands on a page of docs/."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from steepest.landscapes import trace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "images" / "articles"


@pytest.fixture(scope="module")
def article() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        yield vars(importlib.import_module("article_pictures"))
    del sys.modules["article_pictures"]
    pyplot.close("all")


def curve(figure: Figure, place: int, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [each for each in figure.axes[place].lines if label in (each.get_label(), each.get_gid())]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_every_picture_is_made_by_a_short_function_and_shown(article: Any) -> None:
    names = [picture.__name__ for picture in article["PICTURES"]]
    assert {path.stem for path in FOLDER.glob("*.png")} == set(names)
    page = (ROOT / "docs" / "article-pictures.md").read_text("utf-8")
    for picture in article["PICTURES"]:
        assert len(inspect.getsource(picture).splitlines()) < 25
        assert f"](images/articles/{picture.__name__}.png)" in page


def test_momentum_is_lower_in_the_end(article: Any) -> None:
    figure = article["momentum_in_a_ravine"]()
    ends = [curve(figure, 1, f"value:{label}")[1][-1] for label in ("Momentum[lr=0.004]", "SGD[lr=0.018]")]
    assert ends[0] < ends[1] / 2


def test_the_points_ahead_are_those_of_the_rewritten_form(article: Any) -> None:
    x, y = curve(article["nag_looks_ahead"](), 0, "point ahead")
    (rewritten,) = trace("ravine", "nag[lr=0.004]", budget=14).paths
    assert np.stack([x, y], 1) == pytest.approx(rewritten.positions[1:], abs=1e-12)


def test_adagrads_rate_falls_with_the_root_and_rmsprops_settles(article: Any) -> None:
    figure = article["adagrads_shrinking_rate"]()
    steps, adagrad = curve(figure, 0, "Adagrad")
    assert adagrad == pytest.approx(adagrad[0] / np.sqrt(steps))
    rmsprop = curve(figure, 0, "RMSprop[alpha=0.9]")[1]
    assert rmsprop[-1] == pytest.approx(rmsprop[-100], rel=1e-3)
    assert rmsprop[-1] == pytest.approx(rmsprop[0] * np.sqrt(0.1), rel=1e-3)


def test_the_first_step_without_correction_is_too_long(article: Any) -> None:
    figure = article["adams_bias_correction"]()
    adam, uncorrected = (curve(figure, 0, label)[1] for label in ("Adam", "Adam, uncorrected"))
    assert len(adam) == 50
    assert uncorrected[0] / adam[0] == pytest.approx(0.1 / np.sqrt(0.001))
    assert adam[0] == pytest.approx(0.1 * np.sqrt(2))


def test_of_three_rates_one_is_too_small_and_one_too_large(article: Any) -> None:
    figure = article["three_rates"]()
    small, right, large = (curve(figure, 1, f"value:SGD{rate}")[1] for rate in ("", "[lr=0.018]", "[lr=0.021]"))
    assert (np.diff(small) < 0).all()
    assert right[-1] < small[-1] / 2
    assert large[-1] > large[0]
