"""Runs in groups of their own are each run by itself, to the bit, and optimizers whose groups are not apart."""

import math
from typing import Any

import numpy as np
import pytest

from cases import some
from steepest import registry
from steepest.landscapes import rates, sources
from steepest.landscapes.apart import is_walked_apart
from steepest.landscapes.paths import UnsuitedError, try_step
from steepest.landscapes.together import has_groups_apart
from steepest.study.optimizers.config import OptimizerConfig, parse_config

SHAPES = ((3, 2),)
FED = {"sophia"}
SEARCHED = [n for n in registry.built_in() if n not in FED and "lr" in parse_config(n, {}).origin.ranges]
APART = [name for name in SEARCHED if name != "sparseadam" and has_groups_apart(parse_config(name, {}), SHAPES)]


def both(surface: str, text: str, tried: list[float] | None = None, budget: int = 4) -> tuple[Any, Any]:
    """The ends of runs in groups of their own, and of each run by itself."""
    found, config = sources.find(surface), parse_config(text, {})
    arguments = found, config, tried or spread(config), found.starts[:2], budget, 0
    return rates._ends_apart(*arguments), rates._ends(*arguments)


def spread(config: OptimizerConfig) -> list[float]:
    declared = config.origin.ranges["lr"]
    return [float(rate) for rate in np.geomspace(declared.low, declared.high, 3)]


def suits(surface: str, name: str) -> bool:
    found = sources.find(surface)
    try:
        try_step(found, parse_config(name, {}), found.starts[0], 0)
    except UnsuitedError:
        return False
    return True


@pytest.mark.parametrize("name", some(APART))
def test_runs_in_groups_of_their_own_are_each_run_by_itself(name: str) -> None:
    suited = [surface for surface in ("linear-network", "himmelblau") if suits(surface, name)]
    assert suited[0] == "linear-network"
    for surface in suited:
        apart, single = both(surface, name)
        assert apart == single, surface
        assert len({*map(tuple, single)}) > 1, surface


@pytest.mark.parametrize("text", ["ranger", "lars", "sgdp", "adam[ema_decay=0.5]"])
@pytest.mark.parametrize("surface", ["noisy-ravine", "reddi", "least-squares"])
def test_so_they_are_with_noise_in_a_box_and_with_other_weights(surface: str, text: str) -> None:
    apart, single = both(surface, text, budget=12)
    assert apart == single
    assert len({*map(tuple, single)}) > 1


def test_a_run_that_is_lost_is_lost_among_others() -> None:
    apart, single = both("himmelblau", "sgdp", [0.01, 30.0, 0.02], budget=40)
    assert apart == single
    assert [math.inf in ends for ends in apart] == [False, True, False]


def test_where_one_run_raises_each_walks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*arguments: Any) -> None:
        raise RuntimeError("one of the runs")

    found, config = sources.find("linear-network"), parse_config("lars", {})
    arguments = found, config, [0.01, 0.1], found.starts, 3, 0
    assert is_walked_apart(found, config)
    expected = rates._searched(*arguments)
    monkeypatch.setattr(rates, "ends_apart", raising)
    assert rates._searched(*arguments) == expected == rates._ends(*arguments)


def test_groups_that_are_not_apart() -> None:
    """They share numbers, look at all groups, take closures, or random numbers by a parameter's place."""
    assert {"lamb", "lars", "mars", "novograd", "stableadamw", "soap", "shampoo", "ranger", "adam"} <= set(APART)
    others = ("prodigy", "dog", "momo", "lbfgs", "steepestdescent", "psgdkron", "apollo", "torch.optim:SGD")
    options = ("max_norm=1", "zclip=2.5", "skip_nonfinite=true", "state_dtype=bfloat16")
    for text in (*others, *(f"adam[{option}]" for option in options)):
        assert not has_groups_apart(parse_config(text, {}), SHAPES), text
    for option in ("centralize=true", "cautious=true", "lookahead=(5,0.5)", "ema_decay=0.9", "max_value=1"):
        assert has_groups_apart(parse_config(f"adam[{option}]", {}), SHAPES), option
