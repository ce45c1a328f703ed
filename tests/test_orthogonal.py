"""Polar factors by iteration: every preset's polynomial, range and symmetries, and the conventions of the rate.

In float64, so that no rounding of the iteration hides a mistake.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from steepest.orthogonal import PRESETS, iteration, orthogonalized, shape_factor, unit_rms

RANGES = {
    "kj": (0.682, 1.134),
    "quintic": (0.978, 1.032),
    "polar5": (0.859, 1.141),
    "polar8": (0.9995, 1.0005),
    "cans5": (0.884, 1.120),
    "dsv4": (0.9995, 1.0011),
    "exact": (0.9995, 1.0005),
}
"""Least and largest singular value for start values from a hundredth to 1, as the sources have them."""

OF_A_THOUSANDTH = {
    "kj": 0.471,
    "quintic": 0.475,
    "polar5": 0.847,
    "polar8": 1.0,
    "cans5": 0.887,
    "dsv4": 1.0,
    "exact": 1.0,
}
"""Singular value for a start of a thousandth."""

SPREAD = (0.01, 0.7)
"""Least and largest singular value of the matrices below, as shares of the norm."""

every_preset = pytest.mark.parametrize("name", PRESETS)
every_shape = pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (1, 7), (7, 1)], ids=str)


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(drawn((n, n), seed)).Q


def polar(X: Tensor, name: str, eps: float = 1e-7) -> Tensor:
    return orthogonalized(X, iteration(name, 5), eps)


def polynomial(name: str, s: Tensor | float) -> Tensor:
    """The iteration on a singular value, as a share of the norm."""
    x = torch.as_tensor(s, dtype=torch.float64) / PRESETS[name].safety
    for a, b, c in PRESETS[name].triples:
        x = a * x + b * x**3 + c * x**5
    return x


@every_preset
def test_the_range_is_the_sources(name: str) -> None:
    values = polynomial(name, torch.linspace(0.01, 1.0, 20_000, dtype=torch.float64))
    least, largest = RANGES[name]
    assert least - 1e-3 < values.min() < least + 6e-3
    assert largest - 6e-3 < values.max() < largest + 1e-3


@pytest.mark.parametrize(("name", "wanted"), OF_A_THOUSANDTH.items())
def test_small_singular_values_grow_as_the_source_says(name: str, wanted: float) -> None:
    assert float(polynomial(name, 1e-3)) == pytest.approx(wanted, abs=1e-3)


def test_the_two_lists_of_polar_express_differ() -> None:
    """The fifth triple of ``polar5`` is its last; in a list of eight the fifth is damped for what follows."""
    apart = (polynomial("polar5", 0.5) - 1).abs(), (polynomial("polar8", 0.5) - 1).abs()
    assert apart[0] > 0.005 > 1e-3 > apart[1]
    assert PRESETS["polar5"].triples[4] != PRESETS["polar8"].triples[4]


@every_preset
@every_shape
def test_singular_values_lie_in_the_range(name: str, shape: tuple[int, int]) -> None:
    n = min(shape)
    values = torch.logspace(math.log10(SPREAD[0]), math.log10(SPREAD[1]), n, dtype=torch.float64)
    X = rotation(shape[0], 1)[:, :n] @ torch.diag(values) @ rotation(shape[1], 2)[:n]
    found = torch.linalg.svdvals(polar(X, name))
    wanted = polynomial(name, values / values.norm()).sort(descending=True).values
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)
    least, largest = RANGES[name]
    assert found.min() > least - 1e-3
    assert found.max() < largest + 1e-3


@every_preset
@every_shape
@pytest.mark.parametrize("c", [1e-5, 3.0, 1e6])
def test_the_size_of_the_matrix_is_nothing(name: str, shape: tuple[int, int], c: float) -> None:
    X = drawn(shape)
    torch.testing.assert_close(polar(c * X, name, 1e-30), polar(X, name, 1e-30), rtol=1e-9, atol=1e-9)


@every_preset
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("exponent", [60, 66, 120])
def test_large_matrices_whose_squares_overflow(name: str, dtype: torch.dtype, exponent: int) -> None:
    """From 2^64 on a square is infinite in float32, and so is the norm: everything over it would be 0."""
    X = drawn((5, 7)).to(dtype)
    torch.testing.assert_close(polar(X * 2.0**exponent, name), polar(X, name), rtol=0, atol=0)


@every_preset
@every_shape
def test_rotations_pass_through(name: str, shape: tuple[int, int]) -> None:
    X, U, V = drawn(shape), rotation(shape[0], 3), rotation(shape[1], 4)
    torch.testing.assert_close(polar(U @ X @ V.mT, name), U @ polar(X, name) @ V.mT, rtol=1e-9, atol=1e-9)


@every_preset
@every_shape
def test_transposed_in_transposed_out(name: str, shape: tuple[int, int]) -> None:
    """Bit by bit but for a square, whose products are then taken on the other side."""
    X = drawn(shape)
    rtol = 1e-9 if shape[0] == shape[1] else 0.0
    torch.testing.assert_close(polar(X.mT, name), polar(X, name).mT, rtol=rtol, atol=rtol)


@every_preset
def test_rank_one_is_the_polynomial_of_the_whole_norm(name: str) -> None:
    """Only the signal is looked at: the iteration multiplies rounding in the other directions, up to 6,500 times."""
    u, v = rotation(5, 5)[0], rotation(8, 6)[0]
    found = polar(37.0 * torch.outer(u, v), name)
    torch.testing.assert_close(u @ found @ v, polynomial(name, 1.0), rtol=1e-11, atol=0)
    torch.testing.assert_close(found, polynomial(name, 1.0) * torch.outer(u, v), rtol=0, atol=1e-11)


def test_rank_one_under_jordans_coefficients() -> None:
    assert float(polynomial("kj", 1.0)) == pytest.approx(0.696, abs=1e-3)


@every_preset
def test_a_stack_is_a_loop_and_a_bad_matrix_spoils_itself(name: str) -> None:
    stack = drawn((2, 3, 4, 6))
    stack[1, 0] = 0.0
    stack[0, 2, 1, 1] = math.nan
    together = polar(stack, name)
    for i, j in ((i, j) for i in range(2) for j in range(3)):
        alone = polar(stack[i, j], name)
        torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert bool(alone.isnan().all()) == ((i, j) == (0, 2))
    assert together[1, 0].eq(0.0).all()


@every_preset
@pytest.mark.parametrize("eps", [1e-7, 1e-15])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_zero_stays_zero(name: str, eps: float, dtype: torch.dtype) -> None:
    for shape in ((3, 5), (5, 3), (0, 4), (4, 0), (2, 0, 4)):
        assert polar(torch.zeros(shape, dtype=dtype), name, eps).eq(0.0).all()


# -- conventions of the rate -----------------------------------------------------------------------------------------

FACTORS = [
    ("original", 8, 2, 2.0),
    ("original", 2, 8, 1.0),
    (None, 8, 2, 2.0),
    ("spectral_unclamped", 8, 2, 2.0),
    ("spectral_unclamped", 2, 8, 0.5),
    ("match_rms_adamw", 4, 25, 1.0),
    ("match_rms_adamw", 25, 4, 1.0),
    ("rms_norm", 25, 4, 0.2),
]


@pytest.mark.parametrize(("adjust", "n", "m", "wanted"), FACTORS)
def test_factors_of_the_rate(adjust: str | None, n: int, m: int, wanted: float) -> None:
    assert shape_factor(adjust, n, m) == pytest.approx(wanted)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_unit_rms_does_not_depend_on_rank(rank: int) -> None:
    """Under the factor of a shape a gradient of low rank makes a smaller step."""
    O = rotation(4, 1)[:, :rank] @ rotation(6, 2)[:rank]  # noqa: E741 - the paper's letter
    rms = unit_rms(O).square().mean().sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms))
    plain = shape_factor("match_rms_adamw", 4, 6) * O.square().mean().sqrt()
    torch.testing.assert_close(plain, torch.full_like(plain, 0.2 * math.sqrt(rank / 4)))


def test_unit_rms_of_zeros_and_of_stacks() -> None:
    stack = drawn((3, 2, 4))
    stack[1] = 0.0
    found = unit_rms(stack)
    assert found[1].eq(0.0).all()
    torch.testing.assert_close(found[2], unit_rms(stack[2]))
