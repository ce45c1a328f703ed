"""A word means the same on floats, on tensors and in a trace."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steepest.vocabulary import (
    OPERATORS,
    WORDS,
    Word,
    atan2,
    axis_max,
    axis_mean,
    axis_total,
    column_mean,
    exp,
    head_mean,
    lerp,
    log,
    maximum,
    mean,
    minimum,
    norm,
    rms,
    row_mean,
    sqrt,
    total,
    unit_mean,
    unit_norm,
    where,
)

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.5, -0.3, 1e-300, 1e300, math.inf, -math.inf, math.nan]
EXTRA = {"head_mean": (1,), "axis_max": (0,), "axis_total": (0,), "axis_mean": (0,)}
"""Numbers that some words take after their tensor."""
REDUCING = dict.fromkeys(
    ("norm", "rms", "mean", "total", "row_mean", "column_mean", "unit_norm", "unit_mean", *EXTRA), 1
)
COUNT = {
    "sqrt": 1,
    "absolute": 1,
    "sign": 1,
    "log": 1,
    "exp": 1,
    "atan2": 2,
    "sigmoid": 1,
    **REDUCING,
    "maximum": 2,
    "minimum": 2,
    "lerp": 3,
    "rescaled": 2,
    "where": 3,
}


def agree(a: float, b: Any) -> bool:
    """Equal, or within two roundings, or both NaN."""
    b = float(b)
    return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=4e-16, abs_tol=1e-300)


def tensor(x: float) -> torch.Tensor:
    return torch.tensor([x, x], dtype=torch.float64)


def check(word: Word, numbers: tuple[float, ...]) -> None:
    extra = EXTRA.get(word.name, ())
    one = tensor(numbers[0])[:1, None]
    on_tensors = word(*map(tensor, numbers)) if word.reduces == "nothing" else word(one, *extra)
    assert agree(word(*numbers, *extra), on_tensors.reshape(-1)[0]), (word.name, numbers, on_tensors)


def test_what_words_make_one_number_of() -> None:
    x = torch.arange(1.0, 13.0).view(2, 2, 3)
    assert {w.name for w in WORDS.values() if w.reduces != "nothing"} == REDUCING.keys()
    assert norm(x).item() == pytest.approx(math.sqrt(650))
    assert rms(x).item() == pytest.approx(math.sqrt(650 / 12))
    assert mean(x).item() == 6.5
    assert total(x).item() == 78.0
    assert axis_max(x, 1).tolist() == [[[9.0], [12.0]]]
    assert axis_total(x, 0).tolist() == [[[21.0]], [[57.0]]]
    assert axis_mean(x, 2).tolist() == [[[5.5, 6.5, 7.5]]]
    assert head_mean(torch.arange(12.0).view(4, 3), 2).tolist() == [[2.5], [2.5], [8.5], [8.5]]
    assert row_mean(x).tolist() == [[[2.0], [5.0]], [[8.0], [11.0]]]
    assert column_mean(x).tolist() == [[[2.5, 3.5, 4.5]], [[8.5, 9.5, 10.5]]]
    assert unit_norm(x).flatten().tolist() == pytest.approx([math.sqrt(91), math.sqrt(559)])
    assert unit_mean(x).tolist() == [[[3.5]], [[9.5]]]
    assert unit_norm(x[0, 0]).item() == pytest.approx(math.sqrt(14))  # a vector is a unit, and has no mean to lose
    assert unit_mean(x[0, 0]).tolist() == 0.0
    assert unit_norm(torch.ones(2, 0)).tolist() == [[0.0], [0.0]]
    assert rms(torch.ones(0)).isnan()
    assert mean(torch.ones(0)).isnan()
    assert axis_max(torch.ones(0, 2), 1).tolist() == [[0.0, 0.0]]


def test_a_mean_is_summed_in_double() -> None:
    """In float32 the ones are lost next to 2^25, and the mean would be 0."""
    x = torch.ones(1002)
    x[0], x[1] = 2.0**25, -(2.0**25)
    assert mean(x).item() == torch.tensor(1000 / 1002).item()


def test_every_word_is_tested_and_every_operator_has_a_symbol() -> None:
    assert COUNT.keys() == WORDS.keys()
    assert len(set(OPERATORS.values())) == len(OPERATORS)


@pytest.mark.parametrize("name", [name for name, count in COUNT.items() if count == 1])
@pytest.mark.parametrize("x", SPECIAL, ids=repr)
def test_one_argument(name: str, x: float) -> None:
    check(WORDS[name], (x,))


@pytest.mark.parametrize("name", [name for name, count in COUNT.items() if count == 2])
@pytest.mark.parametrize("x", SPECIAL, ids=repr)
def test_two_arguments(name: str, x: float) -> None:
    for y in SPECIAL:
        check(WORDS[name], (x, y))


@pytest.mark.parametrize("word", [maximum, minimum], ids=lambda w: w.name)
@pytest.mark.parametrize("x", SPECIAL, ids=repr)
def test_extremes_of_a_tensor_and_a_number(word: Word, x: float) -> None:
    """On either side, and NaN wins whichever side it is on."""
    for y in SPECIAL:
        assert agree(word(x, y), word(tensor(x), y)[0])
        assert agree(word(x, y), word(x, tensor(y))[0])


@pytest.mark.parametrize("y", SPECIAL, ids=repr)
def test_the_angle_of_a_tensor_and_a_number(y: float) -> None:
    for x in SPECIAL:
        assert agree(atan2(y, x), atan2(tensor(y), x)[0])
        assert agree(atan2(y, x), atan2(y, tensor(x))[0])


def test_logarithm_and_exponential_have_values_everywhere() -> None:
    """Python's raise instead. A decay rate of 0 has the logarithm -inf, and a half-life of 0."""
    assert log(0) == -math.inf
    assert math.isnan(log(-1.0))
    assert exp(1e4) == math.inf
    assert exp(log(0)) == 0.0
    assert exp(1 / log(0.0)) == 1.0


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0.0, 1.0))
def test_lerp_meets_its_ends(a: float, b: float, w: float) -> None:
    """torch.lerp computes b - (b - a)(1 - w) for w >= 1/2: both within roundings of the larger end."""
    on_tensors = lerp(tensor(a), tensor(b), w)[0].item()
    assert lerp(a, b, w) == pytest.approx(on_tensors, rel=0, abs=1e-15 * max(abs(a), abs(b), 1e-300))
    assert lerp(a, b, 0.0) == a


def test_where_on_a_number_picks_one_side_whole() -> None:
    """The other side's NaN or division by zero never leaks."""
    assert where(True, 1.0, math.nan) == 1.0
    picked = where(1.0 > 2.0, tensor(math.nan), tensor(3.0))
    assert picked.tolist() == [3.0, 3.0]


def test_where_on_a_number_beside_a_tensor_is_a_tensor() -> None:
    picked = where(True, 0.1, tensor(3.0))
    assert picked.tolist() == [0.1, 0.1]
    assert picked.dtype == torch.float64


def test_where_on_a_tensor_picks_by_element() -> None:
    condition = torch.tensor([True, False])
    assert where(condition, tensor(1.0), tensor(math.nan)).tolist()[0] == 1.0
    assert where(condition, tensor(1.0), 0.1).tolist() == [1.0, 0.1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_where_between_numbers_is_of_the_dtype_that_it_is_like(dtype: torch.dtype) -> None:
    condition, like = torch.tensor([True, False]), torch.ones(3, dtype=dtype)
    picked = where(condition, 1.2, 5, like=like)
    host = where(condition, torch.tensor(1.2, dtype=torch.float64), 5, like=like)
    assert picked.dtype == host.dtype == dtype
    assert picked.tolist() == host.tolist() == torch.tensor([1.2, 5.0], dtype=dtype).tolist()


def test_where_between_numbers_needs_to_be_told() -> None:
    with pytest.raises(TypeError, match=r"picks between two numbers, 1.2 and 5, .* like=g"):
        where(torch.tensor([True, False]), 1.2, 5)


def test_only_where_takes_what_it_is_like() -> None:
    with pytest.raises(TypeError):
        maximum(torch.ones(2), 0.5, like=torch.ones(2))


def test_where_between_numbers_on_one_condition_is_double() -> None:
    """A count or rate that stays on its device is such a condition, and numbers are computed in double."""
    for picked in (where(torch.tensor(3.0) > 2, 0.1, 1), where(torch.tensor(3.0) > 2, 0.1, 1, like=torch.ones(2))):
        assert picked.dtype == torch.float64
        assert picked.item() == 0.1


def test_lerp_between_dtypes_is_in_the_wider_one() -> None:
    x = lerp(torch.tensor(1.0), torch.tensor(3.0, dtype=torch.float64), 0.1)
    assert (x.dtype, x.item()) == (torch.float64, pytest.approx(1.2, rel=1e-15))
    assert lerp(torch.ones(2), torch.tensor(3.0, dtype=torch.float64), 0.1).dtype == torch.float32


def test_host_words_compute_in_double() -> None:
    assert sqrt(2.0) == math.sqrt(2.0)
    assert isinstance(sqrt(2.0), float)
    assert maximum(5, 3) == 5


@pytest.mark.parametrize("symbol", OPERATORS.values())
def test_operators_agree(symbol: str) -> None:
    fn = next(f for f, s in OPERATORS.items() if s == symbol)
    arguments = (0.7,) if fn is operator.neg else (0.7, 1.9)
    assert agree(float(fn(*arguments)), fn(*map(tensor, arguments)).double()[0])


def test_half_precision_words_keep_their_dtype() -> None:
    x = torch.tensor([[0.5, 2.0]], dtype=torch.bfloat16)
    for name, count in COUNT.items():
        arguments = [x] * count if name != "where" else [x > 1, x, x]
        assert WORDS[name](*arguments, *EXTRA.get(name, ())).dtype == torch.bfloat16, name


@pytest.mark.parametrize("word", WORDS.values(), ids=list(WORDS))
def test_templates_take_every_argument(word: Word) -> None:
    letters = "uvw"[: COUNT[word.name]]
    for template in (word.plain, word.latex):
        shown = template.format(*letters, *EXTRA.get(word.name, ()))
        assert all(letter in shown for letter in letters)


def test_minimum_and_maximum_mirror_each_other() -> None:
    for x in SPECIAL:
        for y in SPECIAL:
            assert agree(minimum(x, y), -maximum(-x, -y))
