"""Adafactor and Muon: factored state for matrices alone, and a rule that is for matrices alone."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from torch import Tensor

from steepest import Optimizer, Rule, State, fields


def is_matrix(p: Tensor) -> bool:
    return p.dim() > 1


def is_vector(p: Tensor) -> bool:
    return p.dim() <= 1


def adafactor(p: Any, g: Any, row: Any, column: Any, variance: Any, *, lr: Any, t: Any) -> Any:
    return p, row, column, variance


class Adafactor(Optimizer):
    """Factored moments for matrices, a full one for the rest."""

    lr: float = fields.lr(1e-2)
    beta2_decay: float = fields.hyper(-0.8, "power of the decay", high=0.0, closed=True)
    eps: tuple[float | None, float] = fields.hyper((None, 1e-3), "regularisation", names=("eps1", "eps2"))
    d: float = fields.hyper(1.0, "clipping threshold", low=1.0)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = Rule(
        adafactor,
        "per_tensor",
        (
            State("step", "step"),
            State("row_var", "row", where=is_matrix),
            State("col_var", "column", where=is_matrix),
            State("variance", where=is_vector),
        ),
    )


def muon(p: Any, g: Any, b: Any, *, lr: Any) -> Any:
    return p, b


class Muon(Optimizer):
    """Matrices alone, equal shapes stacked."""

    lr: float = fields.lr(1e-3)
    weight_decay: float = fields.weight_decay(0.1)
    momentum: float = fields.hyper(0.95, "momentum", low=0.0)
    nesterov: bool = fields.hyper(True, "Nesterov's form")
    ns_coefficients: tuple[float, float, float] = fields.hyper(
        (3.4445, -4.775, 2.0315), "polynomial", names=("a", "b", "c")
    )
    eps: float = fields.eps(1e-7)
    ns_steps: int = fields.hyper(5, "iterations", low=0)
    adjust_lr_fn: str | None = fields.hyper(
        None, "how the rate follows the shape", choices=("original", "match_rms_adamw")
    )

    rule = Rule(muon, "matrix", (State("momentum_buffer"),))
