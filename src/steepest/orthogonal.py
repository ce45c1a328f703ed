"""Polar factors of matrices by Newton and Schulz's iteration, under the coefficients that are in use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .matrices import WHOLE, Whole

Triple = tuple[float, float, float]
"""Coefficients a, b and c of one step, X ← aX + (bA + cA²)X with A = XX'."""


@dataclass(frozen=True)
class Preset:
    """Coefficients of every step of an iteration.

    Attributes:
        triples: the coefficients of each step.
        safety: the number by which the norm of the start is too small on purpose, where a value above 1 would diverge.
    """

    triples: tuple[Triple, ...]
    safety: float = 1.0


KJ = (3.4445, -4.7750, 2.0315)

PRESETS: Mapping[str, Preset] = {
    "kj": Preset((KJ,) * 5),
    "quintic": Preset(
        (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        )
    ),
    "polar5": Preset(
        (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        safety=1.02,
    ),
    "polar8": Preset(
        (
            (8.237312490495555, -23.157747414558198, 16.680568411445915),
            (4.082441999064835, -2.893047735332586, 0.5252849256975648),
            (3.9263479922546582, -2.8547468034765298, 0.5318022422894988),
            (3.2982187133085143, -2.424541981026706, 0.48632008358844075),
            (2.2970369434552573, -1.63662558125903, 0.4002628455953627),
            (1.8763805351440397, -1.2347896577722228, 0.35891887501668385),
            (1.8564423485617974, -1.2132449880935525, 0.3568003487825883),
            (1.875, -1.25, 0.375),
        )
    ),
    "cans5": Preset(
        (
            (8.4703, -25.1081, 18.6293),
            (4.1828, -3.1087, 0.5806),
            (3.9619, -2.9541, 0.5630),
            (3.2866, -2.4647, 0.5074),
            (2.2737, -1.6447, 0.4162),
        )
    ),
    "dsv4": Preset((KJ,) * 8 + ((2.0, -1.5, 0.5),) * 2),
    "exact": Preset(((2.0, -1.5, 0.5),) * 12),
}
"""Iterations by name, as the sources below have them.

``kj``: Jordan et al. 2024, all singular values to about 0.68 to 1.13. ``quintic``: 0.98 to 1.03. ``polar5`` and
``polar8``: Amsel et al. 2025, "The Polar Express", arXiv:2505.16932, the first for five steps as nanogpt has it, 0.86
to 1.14 down to a thousandth of the norm, the second to 1.000. ``cans5``: 0.88 to 1.12. ``dsv4``: DeepSeek-V4.
``exact``: twelve steps, for singular values from a hundredth of the norm."""


def coefficients_of(value: Any) -> str | Triple:
    """Return ``ns_coefficients`` as a group keeps them: a preset's name, or three numbers.

    Raises:
        TypeError: it is neither.
        ValueError: the preset does not exist, or there are not three numbers.
    """
    if isinstance(value, str):
        if value not in PRESETS:
            raise ValueError(f"ns_coefficients={value!r} is no preset; ns_coefficients must be {WORDS}")
        return value
    if not isinstance(value, Sequence) or not all(isinstance(x, Real) for x in value):
        raise TypeError(f"ns_coefficients must be {WORDS}, not {value!r}")
    if len(value) != 3:
        raise ValueError(f"ns_coefficients must be 3 numbers or the name of a preset, not {value!r}")
    a, b, c = map(float, value)
    return a, b, c


WORDS = f"3 numbers, or one of {', '.join(map(repr, PRESETS))}"
"""The allowed coefficients in words."""


def iteration(coefficients: str | Triple, steps: int) -> Preset:
    """Return the coefficients of every step."""
    return PRESETS[coefficients] if isinstance(coefficients, str) else Preset((coefficients,) * steps)


def orthogonalized(X: Tensor, preset: Preset, eps: float) -> Tensor:
    """Apply Newton and Schulz's iteration X ← aX + (bA + cA²)X with A = XX', from X / ‖X‖, in the dtype of X.

    Small singular values grow fastest. A matrix of zeros stays one.

    Args:
        X: (..., n, m), a matrix or a stack of them.
        preset: the coefficients of every step.
        eps: least norm that is divided by.
    """
    is_tall = X.shape[-2] > X.shape[-1]
    X = X.mT if is_tall else X
    X = X / (preset.safety * matrix_norm(X).clamp(min=eps))
    for a, b, c in preset.triples:
        A = X @ X.mT
        X = _blend(a, X, 1, _blend(b, A, c, A, A), X)
    return X.mT.contiguous() if is_tall else X


def _blend(beta: float, X: Tensor, alpha: float, Y: Tensor, Z: Tensor) -> Tensor:
    """Compute βX + αYZ in one call, for matrices or stacks of them, so that half types round once."""
    if X.dim() == 2:
        return torch.addmm(X, Y, Z, beta=beta, alpha=alpha)
    flat = [x.flatten(0, -3) for x in (X, Y, Z)]
    return torch.baddbmm(*flat, beta=beta, alpha=alpha).reshape(X.shape)


def shape_factor(adjust: str | None, n: int, m: int) -> float:
    """Return the factor s of a step's rate under a convention, for a matrix of ``n`` rows and ``m`` columns.

    Args:
        adjust: ``"original"`` (and None) √max(1, n/m); ``"spectral_unclamped"`` √(n/m); ``"match_rms_adamw"``
            0.2·√max(n, m), the root mean square of AdamW's steps; ``"rms_norm"`` the same after `unit_rms`.
        n: rows.
        m: columns.
    """
    n, m = max(n, 1), max(m, 1)
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(n, m))
    if adjust == "rms_norm":
        return 0.2
    return math.sqrt(n / m) if adjust == "spectral_unclamped" else math.sqrt(max(1, n / m))


def scaled(O: Tensor, adjust: str | None, whole: Whole = WHOLE) -> Tensor:  # noqa: E741 - the paper's letter
    """Return orthogonalized matrices at the size that a convention gives a step; see `shape_factor`."""
    O = whole(unit_rms, O) if adjust == "rms_norm" else O  # noqa: E741
    return shape_factor(adjust, *whole.sizes(O)) * O


def unit_rms(O: Tensor) -> Tensor:  # noqa: E741 - the paper's letter
    """Return every matrix of a stack scaled to a root mean square of 1; zeros stay."""
    return resized(O, math.sqrt(max(1, O.shape[-2] * O.shape[-1])))


def resized(X: Tensor, length: Tensor | float) -> Tensor:
    """Return every matrix of a stack scaled to a Frobenius norm of ``length``; zeros stay."""
    return X * (length / matrix_norm(X).clamp(min=TINY))


def matrix_norm(X: Tensor) -> Tensor:
    """Return the Frobenius norm of every matrix of a stack, in two dimensions of size 1.

    Where squares overflow, it is the norm of a smaller matrix, made larger again.
    """
    norms: Tensor = torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True)
    if X.dtype == torch.float64:
        return norms
    smaller = torch.linalg.vector_norm(X * SMALL, dim=(-2, -1), keepdim=True)
    return torch.where(norms.isinf(), smaller / SMALL, norms)


SMALL = 2.0**-80
"""Factor under which squares of the largest float32 numbers can be summed."""


TINY = 1e-30
"""Divisor in place of a norm of 0."""
