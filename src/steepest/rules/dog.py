"""DoG, L-DoG and DoWG: steps as long as the distance from the start, over the norm of all gradients so far."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule, Shared
from ..vocabulary import maximum, norm, sqrt, total


def dog(p, g, x0, *, lr, weight_decay, eta):
    """p, g, x0: same shape. Returns new (p, x0)."""
    return p - lr * eta * (g + weight_decay * p), x0


def measured(p, g, x0, *, weight_decay):
    """p, g, x0: same shape. Returns ‖p - x0‖², ‖x0‖² and ‖g‖², where g has its decay."""
    g = g + weight_decay * p
    return total((p - x0) * (p - x0)), total(x0 * x0), total(g * g)


def renewed(*, moved: float, start: float, square: float, reps_rel: float, rbar: float, G: float) -> dict[str, float]:
    """Return the largest distance so far, the sum of squared norms, and their ratio η."""
    rbar = max(rbar, reps_rel * (1 + math.sqrt(start)), math.sqrt(moved))
    G = G + square
    return {"rbar": rbar, "G": G, "eta": rbar / math.sqrt(G)}


def ldog(p, g, x0, rbar, G, *, lr, reps_rel, weight_decay):
    """p, g, x0: same shape; rbar, G: one number per tensor. Returns new (p, x0, rbar, G)."""
    g = g + weight_decay * p
    rbar = maximum(rbar, maximum(reps_rel * (1 + norm(x0)), norm(p - x0)))
    G = G + total(g * g)
    return p - lr * rbar / sqrt(G) * g, x0, rbar, G


def weighted(*, moved: float, square: float, eps: float, estim_sq_dist: float, weighted_sq_norm_grads: float):
    """Return the largest squared distance so far, the sum of squared norms weighted by it, and their ratio η."""
    estim_sq_dist = max(estim_sq_dist, moved)
    summed = weighted_sq_norm_grads + estim_sq_dist * square
    kept = {"estim_sq_dist": estim_sq_dist, "weighted_sq_norm_grads": summed}
    return {**kept, "eta": estim_sq_dist / (math.sqrt(summed) + eps)}


def measured_twice(p, g, x0, *, weight_decay):
    """p, g, x0: same shape. Returns ‖p - x0‖² and ‖g‖², where g has its decay."""
    g = g + weight_decay * p
    return total((p - x0) * (p - x0)), total(g * g)


REPS = "first distance, as a part of 1 + ‖θ0‖: 1e-4 for networks with batch normalisation, 1e-8 for L-DoG on T5"
"""Meaning of ``reps_rel``."""


class DoG(Optimizer):
    """DoG: SGD whose rate is the largest distance from the start over the root of the sum of all squared gradients.

    Each group has a distance ``rbar`` and a sum ``G`` of its own, kept in the group.

    Source:
        Ivgi, Hinder and Carmon 2023, "DoG is SGD's best friend: a parameter-free dynamic step size schedule",
        arXiv:2302.12022.
    Differs:
        dog-optimizer 1.0.3: same numbers, without init_eta. ε is added once to the sum. As there a group is one long
        vector, so that other groups are another method; optax's ``init_step=("heuristic", 1e-6)`` has one for all. Its
        start is kept as ``x0`` with each parameter, gradients that are None are allowed, and ``.grad`` stays as it is.
        Decay is coupled, and part of the norm.
    Use:
        Choose it over SGD where no rate can be tuned. Evaluate with the average of the weights, which is a part of the
        method: ``DoG(params, ema_decay="polynomial")`` and ``with optimizer.averaged():``.
    Caveats:
        The rate does not fall to 0, so that the last weights are noisy without the average.
    """

    lr: fields.Rate = fields.rate_factor("factor c of the steps; keep 1")
    reps_rel: float = fields.hyper(1e-6, REPS, low=0.0, exclusive_low=True, search=fields.Search(1e-8, 1e-4))
    weight_decay: float = fields.weight_decay()
    eps: float = fields.eps(1e-8, exclusive_low=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(
        dog,
        "pointwise",
        (State("x0", init="param", exact=True),),
        shared=Shared(
            renewed,
            {"rbar": 0.0, "G": "eps"},
            made=("eta",),
            sums=("moved", "start", "square"),
            measure=measured,
        ),
    )


class LDoG(Optimizer):
    """L-DoG: DoG with a distance and a sum of squared gradients for every tensor.

    Source:
        Ivgi, Hinder and Carmon 2023, "DoG is SGD's best friend: a parameter-free dynamic step size schedule",
        arXiv:2302.12022, Section 3.3.
    Differs:
        dog-optimizer 1.0.3: same numbers, without init_eta. Gradients that are None are allowed, ``.grad`` stays as it
        is, and the distance and the sum are state of each parameter. They are in float32 for half-precision parameters.
    Use:
        Choose it over `DoG` for transformers, with ``reps_rel=1e-8`` for T5. Evaluate with the average of the weights:
        ``LDoG(params, ema_decay="polynomial")`` and ``with optimizer.averaged():``.
    """

    lr: fields.Rate = fields.rate_factor("factor c of the steps; keep 1")
    reps_rel: float = fields.hyper(1e-6, REPS, low=0.0, exclusive_low=True, search=fields.Search(1e-8, 1e-4))
    weight_decay: float = fields.weight_decay()
    eps: float = fields.eps(1e-8, exclusive_low=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(
        ldog,
        "per_tensor",
        (
            State("x0", init="param", exact=True),
            State("rbar", "wide_scalar", nonnegative=True),
            State("G", "wide_scalar", init="eps", nonnegative=True),
        ),
    )


class DoWG(Optimizer):
    """DoWG: DoG with squared gradients weighted by the squared distance, so that the rate adapts to the curvature.

    The largest squared distance ``estim_sq_dist`` and the sum ``weighted_sq_norm_grads`` are one number each for all
    groups, kept in each.

    Source:
        Khaled, Mishchenko and Jin 2023, "DoWG unleashed: an efficient universal parameter-free gradient descent
        method", arXiv:2305.16284, Algorithm 1.
    Differs:
        optax's contrib.dowg: same numbers; the first squared distance is 1e-4, and ε is added to the root. The paper
        has no ε. The package dowg turns its ε into 1 - ε, clips and needs a closure: it is another method.
    Use:
        Choose it over `DoG` for problems that are smooth or not, and it is not known which.
    Caveats:
        The rate does not fall to 0, so that the last weights are noisy; ``ema_decay="polynomial"`` averages them.
    """

    lr: fields.Rate = fields.rate_factor("factor c of the steps; keep 1")
    init_estim_sq_dist: float = fields.hyper(
        1e-4, "first squared distance", low=0.0, exclusive_low=True, search=fields.Search(1e-8, 1e-2)
    )
    eps: float = fields.eps(1e-4)
    weight_decay: float = fields.weight_decay()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    takes_schedule = False
    rule = Rule(
        dog,
        "pointwise",
        (State("x0", init="param", exact=True),),
        shared=Shared(
            weighted,
            {"estim_sq_dist": "init_estim_sq_dist", "weighted_sq_norm_grads": 0.0},
            made=("eta",),
            sums=("moved", "square"),
            measure=measured_twice,
            over="all",
        ),
    )
