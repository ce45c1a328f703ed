"""SparseAdam: a rule for sparse gradients."""

from __future__ import annotations

from typing import Any

from steepest import Optimizer, Rule, State, fields


def sparse_adam(p: Any, g: Any, m: Any, v: Any, *, lr: Any, t: Any) -> Any:
    return p, m, v


class SparseAdam(Optimizer):
    """Adam's state, touched where the gradient is."""

    lr: float = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    maximize: bool = fields.maximize()

    rule = Rule(sparse_adam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq")))
