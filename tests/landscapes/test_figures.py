"""Figures: they show the paths' own numbers, name what is skipped, and are written by what their suffix asks for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import animation
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from steepest.landscapes import Traced, sources, trace
from steepest.landscapes.figures import parts
from steepest.landscapes.plane import heights, plane_of
from steepest.landscapes.rates import RESOLUTION
from steepest.study.errors import UsageError

SEVEN = ("sgd", "momentum", "nag", "adam", "rmsprop", "adagrad", "lion")


@pytest.fixture(scope="module")
def traced() -> Traced:
    optimizers = ["sgd[lr=0.004]", "adam[lr=0.3]", "muon", "sgd[lr=0.3,momentum=0.1]"]
    return trace("rosenbrock", optimizers, budget=40)


@pytest.fixture(scope="module")
def figure(traced: Traced) -> Figure:
    return traced.figure()


def lines(figure: Figure, gid: str) -> list[np.ndarray]:
    found = [line for axes in figure.axes for line in axes.lines if line.get_gid() == gid]
    return [np.array(line.get_xydata()) for line in found]


def words(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(found)


def test_the_paths_of_a_figure_are_those_of_the_trace(traced: Traced, figure: Figure) -> None:
    for path in traced.paths:
        (points,) = lines(figure, f"path:{path.label}")
        assert points.tolist() == path.positions.tolist()
        (values,) = lines(figure, f"value:{path.label}")
        assert values[:, 0].tolist() == path.evaluations.tolist()
        assert values[:, 1].tolist() == np.maximum(path.values, RESOLUTION).tolist()
        (end,) = lines(figure, f"end:{path.label}")
        assert end.tolist() == [path.positions[-1].tolist()]
    assert lines(figure, "start")[0].tolist() == [[-1.2, 1.0]]
    assert lines(figure, "minimum")[0].tolist() == [[1.0, 1.0]]


def test_values_are_drawn_above_the_minimum() -> None:
    traced = trace("saddle", "sgd[lr=0.3]", budget=60)
    (values,) = lines(traced.figure(), "value:SGD[lr=0.3]")
    assert values[:, 1].tolist() == np.maximum(traced.paths[0].values + 1, RESOLUTION).tolist()
    assert values[-1, 1] == RESOLUTION


def test_a_figure_says_rates_ends_and_skips(traced: Traced, figure: Figure) -> None:
    said = words(figure)
    assert "SGD[lr=0.004], rate 0.004, given" in said
    assert re.search(r"SGD\[lr=0.3,momentum=0.1\], rate 0.3, given, beyond 1e\+12 at evaluation \d+", said)
    assert "Muon skipped: Muon only supports 2D parameters" in said
    assert figure.get_suptitle() == traced.surface.title
    assert figure.axes[0].get_title(loc="left") == f"${traced.surface.formula}$"


def test_nothing_overlaps(figure: Figure) -> None:
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    notes = max((text for text in figure.texts if "skipped" in text.get_text()), key=lambda text: len(text.get_text()))
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box is not None
        assert box.y0 >= legend.y1 - 1
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width + 1
    assert notes.get_window_extent().y1 <= legend.y0 + 1
    assert notes.get_window_extent().x1 <= figure.bbox.width


def test_markers_stand_at_equal_counts_of_evaluations() -> None:
    path = trace("himmelblau", "sam[base=sgd,lr=0.01]", budget=32).paths[0]
    assert path.evaluations[parts.marks(path, 32)].tolist() == [4, 8, 12, 16, 20, 24, 28, 32]
    long = trace("himmelblau", "lbfgs[max_iter=5]", budget=32).paths[0]
    reached = long.evaluations[parts.marks(long, 32)]
    assert set(reached) <= set(long.evaluations)
    assert reached[-1] == long.evaluations[-1]


def test_more_than_six_get_a_surface_each() -> None:
    traced = trace("ravine", SEVEN, budget=4, rates=1)
    figure = traced.figure()
    assert len(figure.axes) == len(SEVEN) + 1
    gids = [[line.get_gid() or "" for line in axes.lines] for axes in figure.axes]
    shown = [[gid for gid in each if gid.startswith("path")] for each in gids]
    assert shown == [*([f"path:{label}"] for label in traced.labels), []]


def test_a_surface_of_one_number_is_drawn_over_the_evaluations() -> None:
    traced = trace("reddi", "adam[lr=0.1]", budget=12)
    (points,) = lines(traced.figure(), "path:Adam[lr=0.1]")
    assert points.tolist() == [[step, x] for step, (x,) in enumerate(traced.paths[0].positions.tolist())]


def test_the_plane_of_many_numbers_is_named() -> None:
    traced = trace("linear-network", "sgd[lr=0.1]", budget=20)
    figure = traced.figure()
    assert "of their squared distances from the origin" in words(figure)
    assert "The saddle x² - y² has no lowest value" in words(trace("saddle", "sgd[lr=0.1]", budget=2).figure())
    assert figure.axes[0].get_xlabel() == "first direction"
    assert traced.plane is not None
    (points,) = lines(figure, "path:SGD[lr=0.1]")
    assert points == pytest.approx((traced.paths[0].positions - traced.plane.origin) @ traced.plane.directions.T)


def test_levels_are_logarithmic_where_values_span_decades() -> None:
    levels, norm = parts.levels_of(np.geomspace(1e-4, 1e3, 200).reshape(10, 20))
    assert isinstance(norm, LogNorm)
    assert np.ptp(np.diff(np.log(levels))) == pytest.approx(0, abs=1e-9)
    levels, norm = parts.levels_of(np.linspace(1, 2, 200).reshape(10, 20))
    assert type(norm) is Normalize
    assert np.ptp(np.diff(levels)) == pytest.approx(0, abs=1e-9)
    assert len(parts.levels_of(np.full((3, 3), 2.0))[0]) == 1


def test_a_flat_function_and_one_with_holes_are_drawn() -> None:
    flat = trace(lambda p: 0 * p.sum(), "sgd", budget=3, lr=0.1)
    assert isinstance(flat.figure(), Figure)
    holes = trace(lambda p: (p + 1.6).log().sum() + (p * p).sum(), "sgd", budget=3, lr=0.1, window=((-3, 3), (-3, 3)))
    assert isinstance(holes.figure(), Figure)


def test_figures_of_one_surface_share_its_heights() -> None:
    found, other = sources.find("beale"), sources.find("booth")
    plane = plane_of(found, [])
    assert plane is not None
    window = ((-1.0, 1.0), (0.0, 2.0))
    x, y, values = heights(found, plane, window, 5)
    assert heights(found, plane, window, 5)[2] is values
    assert values[3, 1] == pytest.approx(found.at((float(x[1]), float(y[3]))))
    assert not np.allclose(heights(other, plane, window, 5)[2], values)
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 0.0


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_by_suffix(suffix: str, begin: bytes, tmp_path: Path) -> None:
    short = trace("bowl", "sgd[lr=0.5]", budget=3)
    file = short.save(tmp_path / f"paths.{suffix.upper()}")
    assert file.read_bytes().startswith(begin)


def test_equal_traces_give_equal_bytes(tmp_path: Path) -> None:
    made = [trace("bowl", "sgd[lr=0.5]", budget=3).save(tmp_path / f"{place}.svg").read_bytes() for place in range(2)]
    assert made[0] == made[1]


def test_a_notebook_shows_the_figure(traced: Traced) -> None:
    html = traced._repr_html_()
    assert len(html) < 500_000
    assert html.startswith("<img ")
    assert 'src="data:image/svg+xml;base64,' in html
    assert "Muon is skipped" in html


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("paths.gif", "paths.gif needs Pillow, which is not installed: pip install pillow; or save .mp4"),
        (
            "paths.mp4",
            "paths.mp4 needs ffmpeg, which is not on the PATH: install it with your system's package manager",
        ),
        ("paths.htm", "unknown kind of file 'htm'; did you mean 'html'? Choose from html, png, svg, pdf, gif, mp4."),
        ("paths", "unknown kind of file ''"),
    ],
)
def test_what_cannot_be_written(
    name: str, words: str, traced: Traced, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(animation.writers, "is_available", lambda name: False)
    with pytest.raises(UsageError) as raised:
        traced.save(tmp_path / name)
    assert words in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist(traced: Traced, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        traced.save(tmp_path / "nowhere" / "paths.png")


def test_a_film_grows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    file = trace("bowl", "sgd[lr=0.1]", budget=6).save(tmp_path / "paths.gif")
    assert file.read_bytes().startswith(b"GIF89a")
    with Image.open(file) as film:
        frames = []
        for place in range(film.n_frames):
            film.seek(place)
            frames.append(np.asarray(film.convert("RGB"), dtype=np.int64))
    moved = [int((frame != frames[0]).any(axis=2).sum()) for frame in frames]
    assert moved[0] == 0 < moved[3] < moved[-1]


def test_no_setting_of_matplotlib_changes(traced: Traced) -> None:
    import matplotlib as mpl

    before: Any = dict(mpl.rcParams)
    traced.figure()
    assert dict(mpl.rcParams) == before
