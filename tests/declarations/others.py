"""LBFGS and SparseAdam: a driver with lists for state, and a rule for sparse gradients."""

from __future__ import annotations

from typing import Any

from steepest import Optimizer, Rule, State, fields


def lbfgs(x: Any, directions: Any, steps: Any, *, lr: Any) -> Any:
    yield x
    return x, directions, steps


class LBFGS(Optimizer):
    """Two lists that grow."""

    lr: float = fields.lr(1)
    max_iter: int = fields.hyper(20, "iterations", low=1)
    max_eval: int | None = fields.hyper(None, "evaluations", low=1)
    tolerance_grad: float = fields.hyper(1e-7, "stop at this gradient", low=0.0)
    tolerance_change: float = fields.hyper(1e-9, "stop at this change", low=0.0)
    history_size: int = fields.hyper(100, "pairs that are kept", low=1)
    line_search_fn: str | None = fields.hyper(None, "line search", choices=("strong_wolfe",))

    rule = Rule(lbfgs, "driver", (State("old_dirs", "list"), State("old_stps", "list")))


def sparse_adam(p: Any, g: Any, m: Any, v: Any, *, lr: Any, t: Any) -> Any:
    return p, m, v


class SparseAdam(Optimizer):
    """Adam's state, touched where the gradient is."""

    lr: float = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    maximize: bool = fields.maximize()

    rule = Rule(sparse_adam, "pointwise", (State("step", "step"), State("exp_avg"), State("exp_avg_sq")))
