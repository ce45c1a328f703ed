"""Muon: a rule that is for matrices alone. The rule is a stand-in; what is tested is the declaration."""

from __future__ import annotations

from typing import Any

from steepest import Optimizer, Rule, State, fields


def muon(p: Any, g: Any, b: Any, *, lr: Any) -> Any:
    return p, b


class Muon(Optimizer):
    """Matrices alone, equal shapes stacked."""

    lr: float = fields.lr(1e-3)
    weight_decay: float = fields.weight_decay(0.1)
    momentum: float = fields.hyper(0.95, "momentum", low=0.0)
    nesterov: bool = fields.hyper(True, "Nesterov's form")
    ns_coefficients: tuple[float, float, float] = fields.hyper(
        (3.4445, -4.775, 2.0315), "polynomial", names=("a", "b", "c"), candidates=((1.875, -1.25, 0.375),)
    )
    eps: float = fields.eps(1e-7)
    ns_steps: int = fields.hyper(5, "iterations", low=0)
    adjust_lr_fn: str | None = fields.hyper(
        None, "how the rate follows the shape", choices=("original", "match_rms_adamw")
    )

    rule = Rule(muon, "matrix", (State("momentum_buffer"),))
