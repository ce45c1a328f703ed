"""L-BFGS: quasi-Newton steps from the last pairs of steps and changes of the gradient."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

from torch import Tensor

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from .line_search import Goal, Point, along, fixed, strong_wolfe_cubic

SMALLEST_CURVATURE = 1e-10
"""A pair is remembered if y.s is above this, so that the inverse Hessian stays positive definite; torch's value."""

NARROWEST_BRACKET = 1e-9
"""A line search ends when the ends of its bracket are nearer than this; torch's value, not ``tolerance_change``."""

Pairs = tuple[list[Tensor], list[Tensor], list[Any], Any]
"""The known curvature: y, s and 1 / y.s of each remembered pair, oldest first, and the scale γ of H₀."""


def lbfgs(
    x, func_evals, n_iter, d, t, y, s, rho, gamma, g_before, f_before,
    *, lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn,
):  # fmt: skip
    """x, d, g_before and each of y and s: vectors of one length. Returns new x and state; inputs untouched.

    Iterates x ← x + td with d = -Hg until ``max_iter``, ``max_eval`` or a tolerance is reached. It asks for gradients
    at x and, along d, at the search's trial points.
    """
    f, g = yield x
    evals, last, pairs = 1, n_iter + max_iter, (y, s, rho, gamma)
    is_done = largest(g) <= tolerance_grad
    while n_iter < last and not is_done:
        pairs = updated(pairs, g - g_before, d * t, history_size) if n_iter else ([], [], [], 1)
        d = times_inverse_hessian(-g, *pairs)
        t = lr if n_iter else min(1.0, 1.0 / g.abs().sum()) * lr
        n_iter, g_before, f_before = n_iter + 1, g, f
        start = Point(0, f, g.dot(d), g)
        if start.slope > -tolerance_change:
            break
        if line_search_fn is None:
            search = fixed(start, t, evaluate=n_iter < last)
        else:
            goal = Goal(start, c1=1e-4, c2=0.9, extent=largest(d), tolerance=NARROWEST_BRACKET)
            search = strong_wolfe_cubic(goal, t, max_evals=max_eval - evals)
        (t, f, _, g), tried = yield from along(search, x, d)
        x, evals = x.add(d, alpha=t), evals + tried
        is_done = evals >= max_eval or largest(g) <= tolerance_grad
        is_done = is_done or largest(d * t) <= tolerance_change or abs(f - f_before) < tolerance_change
    return x, func_evals + evals, n_iter, d, t, *pairs, g_before, f_before


def updated(pairs: Pairs, y: Tensor, s: Tensor, history_size: int) -> Pairs:
    """Return the pairs with one more, and without the oldest if there are too many; unchanged if y.s is too small."""
    ys, (known_y, known_s, rho, _) = y.dot(s), pairs
    if not ys > SMALLEST_CURVATURE:
        return pairs
    kept = slice(-history_size, None)
    return [*known_y, y][kept], [*known_s, s][kept], [*rho, 1.0 / ys][kept], ys / y.dot(y)


def times_inverse_hessian(v: Tensor, y: list[Tensor], s: list[Tensor], rho: list[Any], gamma: Any) -> Tensor:
    """Compute H v by the two-loop recursion (algorithm 7.4), with H₀ = γ I."""
    v, shares = v.clone(), []
    for y_i, s_i, rho_i in zip(reversed(y), reversed(s), reversed(rho), strict=True):
        shares.append(s_i.dot(v) * rho_i)
        v.add_(y_i, alpha=-shares[-1])
    v.mul_(gamma)
    for y_i, s_i, rho_i, share in zip(y, s, rho, reversed(shares), strict=True):
        v.add_(s_i, alpha=share - y_i.dot(v) * rho_i)
    return v


def largest(v: Tensor) -> Any:
    """Return the largest absolute value; 0 for an empty tensor."""
    return v.abs().max() if v.numel() else 0.0


class LBFGS(Optimizer):
    """Limited-memory BFGS: θ ← θ - tHg, H from the last ``history_size`` steps. ``step`` needs a closure.

    One ``step`` makes up to ``max_iter`` iterations. Without a line search t is ``lr`` (in the very first iteration at
    most lr / ‖g‖₁), and the last iteration is not evaluated again; ``line_search_fn="strong_wolfe"`` looks for t on the
    line, from there. All parameters are one vector; a parameter without gradient has gradient zero. If the closure
    raises, parameters and state are as before the step.

    Source:
        Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4, 7.5 (H₀ = γI of equation 7.20), 3.5, 3.6;
        cubic steps and safeguards as in Schmidt's minFunc, which torch follows.
    Differs:
        Decisions, tolerances and trial points are torch's, also where a line search meets NaN: the parameters are left
        there. torch's scratch list ``al`` is not kept as state. torch fails with an ``IndexError`` for
        history_size=0, and where the first trial has a NaN loss but a finite slope; here the former is refused and the
        latter accepted. A tensor ``lr`` acts as its number (torch's float32 rate makes a float64 search round in
        float32). ``weight_decay`` (added to the loss as λ/2·θ·θ) and ``maximize`` are ours.

    Raises:
        ValueError: more than one parameter group.
        RuntimeError: another ``line_search_fn`` (torch raises it at the step).
        TypeError: ``step`` without a closure.
    """

    lr: fields.Rate = fields.lr(1, 1e-3, 10.0)
    max_iter: int = fields.hyper(20, "iterations of one step", low=0, integer=True)
    max_eval: int | None = fields.hyper(
        None, "evaluations after which a step ends; None: 5/4 of max_iter", low=0, integer=True
    )
    tolerance_grad: float = fields.hyper(1e-7, "largest element of a gradient that counts as zero", low=-math.inf)
    tolerance_change: float = fields.hyper(1e-9, "change of loss or parameters that counts as none", low=-math.inf)
    history_size: int = fields.hyper(100, "pairs that are remembered", low=1, integer=True)
    line_search_fn: str | None = fields.hyper(
        None, "how t is found", choices=("strong_wolfe",), invalid="only 'strong_wolfe' is supported"
    )
    _: KW_ONLY
    weight_decay: float = fields.weight_decay()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(
        lbfgs,
        "driver",
        (
            State("func_evals", "shared", init=0),
            State("n_iter", "shared", init=0),
            *(State(name, "shared", init=None) for name in ("d", "t", "old_dirs", "old_stps", "ro", "H_diag")),
            State("prev_flat_grad", "shared", init=None),
            State("prev_loss", "shared", init=None),
        ),
    )

    def _settle(self, options: dict[str, Any]) -> None:
        super()._settle(options)
        if options["max_eval"] is None:
            options["max_eval"] = options["max_iter"] * 5 // 4
