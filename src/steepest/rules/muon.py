"""Muon: momentum whose singular values are all made about 1."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import torch
from torch import Tensor

from .. import fields
from ..companion import WithCompanion
from ..fields import Options, Search, State
from ..matrices import WHOLE, Whole
from ..orthogonal import (
    KJ,
    PRESETS,
    WORDS,
    coefficients_of,
    iteration,
    orthogonalized,
    scaled,
)
from ..rule import Rule
from ..vocabulary import lerp


def muon(p, g, B, *, lr, momentum, nesterov, ns_coefficients, eps, ns_steps, ns_dtype, adjust_lr_fn, precision, whole):
    """p, g, B: (..., n, m), matrices or stacks of them. Returns new (p, B)."""
    B, u = averaged(g, B, momentum, nesterov)
    O = polar(u, ns_coefficients, ns_steps, eps, ns_dtype or precision, whole)  # noqa: E741 - the paper's letter
    return p - lr * scaled(O, adjust_lr_fn, whole), B


def averaged(g: Tensor, B: Tensor, momentum: float, nesterov: bool) -> tuple[Tensor, Tensor]:
    """Return the new average of gradients, and the direction to orthogonalize: that average, or the one seen ahead."""
    B = lerp(B, g, 1 - momentum)
    return B, lerp(g, B, momentum) if nesterov else B


def polar(
    u: Tensor, coefficients: Any, steps: int, eps: float, dtype: torch.dtype | str, whole: Whole = WHOLE
) -> Tensor:
    """Return the orthogonalized ``u`` in its dtype, from an iteration in another one."""
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return whole(orthogonalized, u.to(dtype), iteration(coefficients, int(steps)), eps).to(u.dtype)


NS_EPS = 1e-7
"""Least norm that the iteration divides by, where a rule's own ``eps`` is for something else."""


def nesterov(default: bool = True) -> Any:
    """Declare ``nesterov``."""
    return fields.hyper(default, "orthogonalize (1 - μ)g + μB, the momentum seen ahead, and not B")


def ns_coefficients() -> Any:
    """Declare ``ns_coefficients``."""
    return fields.hyper(
        KJ,
        "coefficients of Newton and Schulz's iteration: those of every step, or a preset's name",
        convert=coefficients_of,
        words=WORDS,
        candidates=((1.875, -1.25, 0.375),),
    )


def ns_steps() -> Any:
    """Declare ``ns_steps``."""
    return fields.hyper(5, "iterations; 5 stands for the number that a preset has", low=0, integer=True)


def ns_dtype() -> Any:
    """Declare ``ns_dtype``."""
    return fields.hyper(
        None, "dtype of the iteration; None: bfloat16, as in torch", choices=("bfloat16", "float32", "float64")
    )


def adjust_lr_fn() -> Any:
    """Declare ``adjust_lr_fn``."""
    return fields.hyper(
        None,
        "how the rate follows the shape: √max(1, n/m) ('original', and None), √(n/m) ('spectral_unclamped'), "
        "0.2√max(n, m) ('match_rms_adamw'), or steps of a root mean square of 0.2 ('rms_norm')",
        choices=("original", "match_rms_adamw", "spectral_unclamped", "rms_norm"),
        aliases=(("match_rms", "match_rms_adamw"), ("spectral", "spectral_unclamped")),
        invalid="Adjust learning rate function {value} is not supported",
    )


def check_iteration(options: Options) -> None:
    """Raise `ValueError` for a hundred iterations or more, as torch does, or for another number than a preset has."""
    coefficients, steps = options["ns_coefficients"], options["ns_steps"]
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency (ns_steps)")
    if isinstance(coefficients, str) and steps not in (5, count := len(PRESETS[coefficients].triples)):
        raise ValueError(
            f"ns_coefficients={coefficients!r} are those of {count} steps, and ns_steps={steps!r}; leave ns_steps out, "
            "or give three coefficients for every step"
        )


class Muon(WithCompanion):
    """Muon: the momentum of a weight matrix, orthogonalized, so that every direction moves alike.

    Hidden matrices move by this rule, and all other parameters by AdamW: see `for_model`, and
    `steepest.companion.WithCompanion` for groups without a model.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; ``"match_rms_adamw"``: Liu et al.
        2025, "Muon is scalable for LLM training", arXiv:2502.16982.
    Differs:
        torch: same numbers; foreach=False is torch's own sequence of operations. The momentum is a running average,
        B ← μB + (1 - μ)g and with Nesterov (1 - μ)g + μB, as in Jordan's and torch's code; torch's documentation has
        B ← μB + g. The next operation divides by the norm, so only eps makes the factor matter. The iteration runs in
        bfloat16, whatever the parameter's dtype, unless ``ns_dtype`` says otherwise. Decay is decoupled, by ηλ with the
        rate before it is adjusted. torch divides the buffer of bfloat16 parameters in place when nesterov=False; ours
        keeps it. Equal shapes are stacked and run at once (`steepest.executors.stacked`); torch loops. torch refuses
        everything but matrices: here vectors go to AdamW, and convolutions are matrices with a row per output channel,
        also for the factor of the rate. Jordan's code takes that factor from the kernel's sizes.
        optax corrects the momentum's start, so that early steps differ, and keeps the last coefficients of a preset
        that is too long; here another number of steps than a preset has is refused.
    Use:
        Choose it over AdamW for the hidden matrices of transformers: with equal tuning rules of matrices win
        (arXiv:2509.02046).
    Caveats:
        Gains over AdamW shrink as models grow: see `AdamW`.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-3, 0.3, invalid="Learning rate should be >= 0 but is: {value}")
    weight_decay: float = fields.weight_decay(
        0.1,
        "decay λ of the weights themselves, θ ← θ - ηλθ before the step",
        invalid="weight decay should be >= 0 but is: {value}",
    )
    momentum: float = fields.momentum(0.95, invalid="momentum should be >= 0 but is: {value}")
    nesterov: bool = nesterov()
    ns_coefficients: Any = ns_coefficients()
    eps: float = fields.hyper(1e-7, "least norm that is divided by", search=Search(1e-10, 1e-3))
    ns_steps: int = ns_steps()
    adjust_lr_fn: str | None = adjust_lr_fn()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    ns_dtype: str | None = ns_dtype()

    rule = Rule(muon, "matrix", (State("momentum_buffer"),), is_real=True, precision=torch.bfloat16)

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, and other numbers of steps than a preset has."""
        check_iteration(options)
