"""Counted random numbers: their distribution, their independence, and that nothing but their place decides them."""

from __future__ import annotations

import math

import pytest
import torch

from steepest import Rule, State
from steepest.codecs import stream_of
from steepest.noise import bits, normal, uniform

STREAM = stream_of(0, 0)
COUNT = 200_000


def moments(x: torch.Tensor) -> list[float]:
    return [float((x**k).mean()) for k in (1, 2, 3, 4)]


def test_normal_numbers_have_the_moments_of_normal_numbers() -> None:
    """To four standard errors of 200,000 numbers: variances of x, x², x³, x⁴ are 1, 2, 15, 96."""
    found = moments(normal(STREAM, 3, (COUNT,), device="cpu"))
    for value, wanted, variance in zip(found, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(value - wanted) < 4 * math.sqrt(variance / COUNT)


def test_uniform_numbers_are_spread_evenly() -> None:
    u = uniform(STREAM, 3, (COUNT,), device="cpu")
    assert 0 < u.min() < u.max() < 1
    counts = torch.histc(u, 100, 0, 1)
    chi = float(((counts - COUNT / 100) ** 2 / (COUNT / 100)).sum())
    assert 50 < chi < 160  # 99 degrees of freedom


def other(**changed: int) -> torch.Tensor:
    place = {"seed": 0, "parameter": 0, "draw": 0, "slot": 0, **changed}
    stream = stream_of(place["seed"], place["parameter"])
    return normal(stream, place["draw"], (COUNT,), device="cpu", slot=place["slot"])


@pytest.mark.parametrize("name", ["seed", "parameter", "draw", "slot"])
def test_what_differs_in_its_place_is_independent(name: str) -> None:
    """Also of what is a few elements further: no two sequences are one, shifted."""
    x, y = other(), other(**{name: 1})
    for shift in (-2, -1, 0, 1, 2):
        assert abs(float((x * y.roll(shift)).mean())) < 4 / math.sqrt(COUNT)
    assert len(set(x.tolist()) & set(y.tolist())) < 100


def test_elements_are_independent_of_their_neighbours() -> None:
    x = other()
    for shift in (1, 2, 16, 256, 1000):
        assert abs(float((x * x.roll(shift)).mean())) < 4 / math.sqrt(COUNT)


def test_nothing_is_far_out_where_all_places_are_zero() -> None:
    """The hash of 0 is 0: without care, seed 0, parameter 0 and element 0 would make a number of 6.8 deviations."""
    assert abs(float(normal(stream_of(0, 0), 0, (1,), device="cpu"))) < 4


def test_a_stack_has_the_numbers_of_its_members() -> None:
    streams = [stream_of(0, place) for place in range(3)]
    stacked = normal(torch.tensor(streams), 5, (3, 4, 6), device="cpu")
    for stream, member in zip(streams, stacked, strict=True):
        assert torch.equal(member, normal(stream, 5, (4, 6), device="cpu"))


def test_nothing_is_drawn_from_torchs_generators() -> None:
    before = torch.get_rng_state()
    first = normal(STREAM, 0, (10,), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(normal(STREAM, 0, (10,), device="cpu"), first)


def test_the_numbers_are_these() -> None:
    """They are part of what a run that resumes relies on."""
    assert bits(STREAM, 0, 0, (3,), "cpu").tolist() == PINNED


PINNED = [305810056, 2074548900, 1403877986]


def test_rules_of_elements_get_no_stream() -> None:
    def rule(p, g, *, stream, lr):  # type: ignore[no-untyped-def]
        return p - lr * g

    with pytest.raises(TypeError, match="rule is a pointwise rule; matrix rules alone take a stream"):
        Rule(rule, "pointwise", (State("step", "step"),))
