"""Maps: all starts at once are each start by itself, to the bit; basins, speeds, their figures, mistakes."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from cases import some
from steepest import registry
from steepest.landscapes import basins, rates, sources, speeds
from steepest.landscapes.figures import charts
from steepest.landscapes.maps import ELSEWHERE, LOST, BasinMap, basin_map, speed_map
from steepest.landscapes.paths import UnsuitedError, walk
from steepest.landscapes.rates import Choice
from steepest.landscapes.surfaces import surfaces
from steepest.landscapes.together import acts_on_numbers, is_walked_together, walk_together
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config
from steepest.study.report.charts.palette import style_of

FED = {"sophia"}
TOGETHER = [name for name in registry.built_in() if name not in FED and acts_on_numbers(parse_config(name, {}))]
DENSE = [name for name in TOGETHER if name != "sparseadam"]
PLAIN = [name for name, each in surfaces().items() if each().is_elementwise and each().seen is None]
STARTS = np.random.default_rng(0).uniform(-1.5, 1.5, (21, 2))


def together(surface: str, text: str, budget: int) -> list[np.ndarray]:
    found = sources.find(surface)
    return [positions[0] for _, positions, _ in walk_together(found, parse_config(text, {}), STARTS, budget, 0)]


def assert_equal_to_single(surface: str, text: str, budget: int, places: tuple[int, ...]) -> None:
    points = together(surface, text, budget)
    for place in places:
        start = (float(STARTS[place][0]), float(STARTS[place][1]))
        single = walk(sources.find(surface), parse_config(text, {}), start, budget=budget, seed=0)
        assert single.positions.tolist() == [points[step][place].tolist() for step in range(len(single.values))]


@pytest.mark.parametrize("surface", PLAIN)
def test_all_starts_at_once_are_each_start_by_itself_to_the_bit(surface: str) -> None:
    for text in ("sgd[lr=0.003]", "adam[lr=0.1]"):
        assert_equal_to_single(surface, text, 12, (0, 7, 20))


@pytest.mark.parametrize("name", some(DENSE))
def test_every_pointwise_rule_walks_from_all_starts_at_once(name: str) -> None:
    assert_equal_to_single("rastrigin", f"{name}[lr=0.01]", 6, (0, 19))


@pytest.mark.parametrize("name", some(name for name in DENSE if "lr" in parse_config(name, {}).origin.ranges))
def test_all_rates_at_once_end_where_each_ends_by_itself_to_the_bit(name: str) -> None:
    found, config = sources.find("himmelblau"), parse_config(name, {})
    low, high = (getattr(config.origin.ranges["lr"], end) for end in ("low", "high"))
    tried = np.geomspace(low, high, 3).tolist()
    arguments = found, config, tried, found.starts[:2], 5, 0
    together, single = rates._ends_together(*arguments), rates._ends(*arguments)
    assert together == single
    assert len({*map(tuple, single)}) > 1


def test_a_rate_that_is_lost_is_lost_among_others() -> None:
    found, config = sources.find("himmelblau"), parse_config("sgd", {})
    arguments = found, config, [0.01, 30.0, 0.02], found.starts, 40, 0
    together = rates._ends_together(*arguments)
    assert together == rates._ends(*arguments)
    assert [math.inf in ends for ends in together] == [False, True, False]


def test_a_rate_that_was_too_high_once_stays_lost() -> None:
    """The second rate steps upon a peak beyond all limits, and from there into the minimum."""

    def value(p: torch.Tensor) -> torch.Tensor:
        return p.square().sum(0) + 1e13 * torch.exp(-(((p[0] - 0.5) / 0.01) ** 2))

    peak = dataclasses.replace(sources.find("bowl"), value=value, starts=((1.0, 0.0),), minima=((0.0, 0.0),))
    config = parse_config("sgd", {})
    assert is_walked_together(peak, config)
    arguments = peak, config, [0.2, 0.25], peak.starts, 40, 0
    single = rates._ends(*arguments)
    assert [math.inf in ends for ends in single] == [False, True]
    assert rates._ends_together(*arguments) == single
    assert rates._ends_apart(*arguments) == single


def test_noise_and_boxes_make_runs_walk_by_themselves() -> None:
    config = parse_config("sgd", {})
    assert is_walked_together(sources.find("ravine"), config)
    for name in ("noisy-ravine", "reddi", "least-squares"):
        assert not is_walked_together(sources.find(name), config)
    assert not is_walked_together(dataclasses.replace(sources.find("ravine"), box=(-2.0, 2.0)), config)


def test_rules_that_look_at_several_numbers_walk_by_themselves() -> None:
    assert {"sgd", "adam", "lion", "rmsprop"} <= set(TOGETHER)
    alone = ("lamb", "lars", "adafactor", "lbfgs", "soap", "prodigy", "dog", "momo", "momoadam", "steepestdescent")
    assert not {*alone} & {*TOGETHER}
    for text in ("sgd[max_norm=1]", "adam[centralize=true]", "adam[cautious=true]", "sam[base=sgd]", "torch.optim:SGD"):
        assert not acts_on_numbers(parse_config(text, {})), text


def test_a_sum_over_numbers_would_be_seen() -> None:
    """What the test above guards: LAMB from all starts at once is not LAMB from each."""
    points = together("bowl", "lamb[lr=0.1]", 5)
    single = walk(sources.find("bowl"), parse_config("lamb[lr=0.1]", {}), tuple(STARTS[0]), budget=5, seed=0)
    assert points[5][0].tolist() != single.positions[5].tolist()


def mapped(surface: Any, text: str, **others: Any) -> BasinMap:
    given = {"budget": 60, "together": 9, "single": 4, "seed": 0, **others}
    return basin_map(sources.find(surface), parse_config(text, {}), Choice(None, "own"), **given)


def test_basins_of_the_saddle_are_its_sides() -> None:
    found = mapped("saddle", "sgd[lr=0.1]")
    assert found.is_together
    assert found.minimum.shape == (9, 9)
    assert (found.minimum[found.y > 0] == 0).all()
    assert (found.minimum[found.y < 0] == 1).all()
    assert (found.minimum[found.y == 0] == ELSEWHERE).all()
    assert np.isnan(found.evaluations[found.y == 0]).all()


@pytest.mark.parametrize("text", ["sgd[lr=0.02]", "sgd[lr=0.06]"])
def test_one_by_one_is_the_same_map(text: str) -> None:
    """A clipping at a norm that no gradient has makes the rule walk by itself."""
    at_once = mapped("himmelblau", text, together=4, budget=30)
    single = mapped("himmelblau", text.replace("]", ",max_norm=1e9]"), single=4, budget=30)
    assert (at_once.is_together, single.is_together) == (True, False)
    assert at_once.minimum.tolist() == single.minimum.tolist()
    assert np.array_equal(at_once.evaluations, single.evaluations, equal_nan=True)
    assert (LOST in at_once.minimum) == (text == "sgd[lr=0.06]")


def test_evaluations_are_those_until_a_path_stays() -> None:
    found = mapped("bowl", "sgd[lr=0.5]", together=3)
    (left, right), _ = sources.find("bowl").window or ((0, 0), (0, 0))
    far = math.hypot(found.x[0], found.y[0])
    assert found.evaluations[0, 0] == math.ceil(math.log2(far / (0.02 * (right - left))))
    assert found.evaluations[1, 1] == 0


def test_the_colour_of_a_start() -> None:
    minimum, evaluations = np.array([[0, 1], [ELSEWHERE, LOST]]), np.array([[0.0, 60.0], [math.nan, math.nan]])
    ends = np.array([0.0, 1.0])
    colours = charts.basin_colours(BasinMap("", Choice(None, "own"), ends, ends, minimum, evaluations, True), 60)
    pale = 1 - (1 - np.array(to_rgb(style_of(1).light))) * (1 - charts.PALEST)
    assert colours[0, 0] == pytest.approx(to_rgb(style_of(0).light))
    assert colours[0, 1] == pytest.approx(pale)
    assert colours[1, 0] == pytest.approx(to_rgb(charts.NOWHERE))
    assert colours[1, 1] == pytest.approx(to_rgb(charts.GONE))


def test_a_figure_of_basins(tmp_path: Path) -> None:
    found = basins("himmelblau", ["sgd[lr=0.01]", "sam[base=sgd,lr=0.01]", "muon"], budget=20, together=9, single=3)
    assert [each.is_together for each in found.maps] == [True, False]
    figure = found.figure()
    said = "\n".join(text.get_text() for text in figure.texts)
    assert "SGD[lr=0.01]: rate 0.01, given; 9 x 9 starts, all at once" in said
    assert "SAM(SGD)[lr=0.01]: rate 0.01, given; 3 x 3 starts, one by one" in said
    assert "Muon skipped: Muon only supports 2D parameters" in said
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    assert image.tolist() == charts.basin_colours(found.maps[0], 20).tolist()
    assert found.save(tmp_path / "basins.png").read_bytes().startswith(b"\x89PNG")


def test_speed_over_momentum_and_over_the_condition() -> None:
    declared = surfaces()["ravine"]
    config = parse_config("momentum", {})
    found = speed_map(declared, {"rotation": 0.0}, config, "momentum", 30, 3, 0)
    assert found.surface.label == "ravine[rotation=0]"
    for row, momentum in enumerate(found.others):
        for column, rate in enumerate(found.rates):
            chosen = config.with_options({"lr": rate, "momentum": momentum})
            path = walk(found.surface, chosen, found.surface.starts[0], budget=30, seed=0)
            below = np.flatnonzero(path.values <= 1e-3 * path.values[0])
            expected = path.evaluations[below[0]] if len(below) else math.nan if path.is_lost else math.inf
            assert found.evaluations[row, column] == pytest.approx(expected, nan_ok=True)
    over = speed_map(declared, {}, parse_config("sgd", {}), "condition", 30, 3, 0)
    assert over.others == pytest.approx([1, 100, 10_000])
    assert np.isfinite(over.evaluations[0]).any()


def test_a_figure_of_speeds(tmp_path: Path) -> None:
    found = speeds("ravine", "sgd", "condition", budget=10, count=3)
    figure = found.figure()
    (mesh,) = figure.axes[0].collections
    shown, own = mesh.get_array(), found.maps[0].evaluations
    assert shown is not None
    assert np.ma.getmaskarray(shown).reshape(3, 3).tolist() == np.isnan(own).tolist()
    assert found.save(tmp_path / "speeds.svg").read_bytes().startswith(b"<?xml")
    assert charts.edges(np.array([1.0, 10.0, 100.0]), is_log=True) == pytest.approx(np.sqrt([0.1, 10, 1e3, 1e5]))
    assert charts.edges(np.array([1.0, 2.0, 4.0]), is_log=False) == pytest.approx([0.5, 1.5, 3, 5])


@pytest.mark.parametrize(
    ("surface", "optimizer", "over", "words"),
    [
        ("ravine", "sgd", "conditon", "did you mean 'condition'?"),
        ("ravine", "sgd", "beta1", "unknown option of SGD and of ravine 'beta1'"),
        ("ravine", "prodigy", "condition", "Prodigy has no range of rates to draw"),
        ("ravine", "sgd[lr=0.1]", "condition", "has no range of rates to draw"),
        ("ravine", "sophia", "condition", "Sophia cannot be drawn: it is fed with estimates"),
        ("ravine", "muon", "condition", "Muon cannot walk on ravine: Muon only supports 2D parameters"),
        ("rosenbrok", "sgd", "b", "unknown surface 'rosenbrok'"),
    ],
)
def test_mistakes_in_a_speed_map(surface: str, optimizer: str, over: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        speeds(surface, optimizer, over, budget=3, count=2)
    assert words in str(raised.value)


def test_mistakes_in_basins(tmp_path: Path) -> None:
    for surface in ("linear-network", "scalar-network", "reddi", lambda p: (p * p).sum()):
        with pytest.raises(UsageError, match="needs two numbers, minima and a window"):
            basins(surface, "sgd[lr=0.1]", budget=3)
    with pytest.raises(UsageError, match="together must be a whole number"):
        basins("bowl", "sgd", together=0)
    with pytest.raises(UsageError, match="unknown kind of picture 'gif'"):
        basins("bowl", "sgd[lr=0.1]", budget=2, together=2).save(tmp_path / "basins.gif")
    with pytest.raises(UnsuitedError):
        walk(sources.find("bowl"), parse_config("muon", {}), (1.0, 1.0), budget=3, seed=0)
    assert torch.get_default_dtype() == torch.float32
