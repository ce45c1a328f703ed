"""Steepest descent with a line search: the ideal that a fixed learning rate replaces."""

from __future__ import annotations

from dataclasses import KW_ONLY

import torch
from torch import Tensor

from .. import fields
from ..optimizer import Optimizer
from ..rule import Rule
from .line_search import LineSearchError, along, armijo, strong_wolfe


def steepest_descent(x, *, lr, line_search, c1, c2, max_evals):
    """x: a vector. Asks for gradients at x and along the line x - step * g. Returns the new x."""
    f, g = yield x
    gg = float(g.dot(g))
    if gg == 0.0 or (line_search == "exact" and is_rounding(g, x)):
        return x
    if line_search == "exact":
        _, h = yield x - g
        return x - exact_step(gg, float(g.dot(h))) * g
    noise = torch.finfo(x.dtype).eps * abs(f)
    search = (
        armijo(f, -gg, lr=lr, c1=c1, max_evals=max_evals, noise=noise)
        if line_search == "armijo"
        else strong_wolfe(f, -gg, lr=lr, c1=c1, c2=c2, max_evals=max_evals, noise=noise)
    )
    found, _ = yield from along(search, x, -g)
    return x - found.step * g


def is_rounding(g: Tensor, x: Tensor) -> bool:
    """Return whether x - g equals x up to its last bits, so that the gradient there does not show the curvature."""
    return float(g.abs().max()) <= 8 * torch.finfo(x.dtype).eps * float(x.abs().max())


def exact_step(gg: float, gh: float) -> float:
    """Return the minimiser along -g of a convex quadratic, g.g / g.(g - h), from the gradient h at x - g."""
    if not gg > gh:
        raise LineSearchError(
            f"the curvature along the gradient is {gg - gh:g}, not positive: the loss is no convex quadratic there. "
            "Use line_search='strong_wolfe' or 'armijo'."
        )
    return gg / (gg - gh)


class SteepestDescent(Optimizer):
    """Steepest descent: θ ← θ - η*∇J(θ), with η* found on the line. ``step`` needs a closure.

    ``line_search="exact"`` takes η* = g·g / g·(∇J(θ) - ∇J(θ - g)), the exact minimiser on a convex quadratic, from one
    more gradient. ``"strong_wolfe"`` (default) and ``"armijo"`` search from ``lr`` on any function. All parameters are
    one vector; a parameter without gradient stays. If no step is found the parameters keep their values and
    `LineSearchError` is raised.

    Source:
        Cauchy 1847, "Méthode générale pour la résolution des systèmes d'équations simultanées"; searches: Nocedal and
        Wright 2006, algorithms 3.1, 3.5, 3.6.
    Differs:
        torch has none; its LBFGS has the same kind of line search under ``line_search_fn``. ``step`` returns the loss
        at the old parameters, as LBFGS does.
    """

    lr: fields.Rate = fields.lr(1.0, 1e-3, 10.0)
    _: KW_ONLY
    line_search: str = fields.hyper(
        "strong_wolfe", "how the step is found", choices=("strong_wolfe", "armijo", "exact")
    )
    c1: float = fields.hyper(1e-4, "share of the promised decrease that a step must reach", low=0.0, high=1.0)
    c2: float = fields.hyper(0.1, "share of the slope that may remain (strong_wolfe)", low=0.0, high=1.0)
    max_evals: int = fields.hyper(25, "evaluations that one search may use", low=1)
    weight_decay: float = fields.weight_decay()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(steepest_descent, "driver")
