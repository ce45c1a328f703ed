"""Scion: steps to the boundary of the norm ball that suits a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, replace
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor

from .. import fields
from ..fields import Options, Search, State, View
from ..matrices import WHOLE, Whole, column, heads, matrices, refuse_flat, view_of
from ..optimizer import Optimizer
from ..rule import Rule
from ..sharding import scattered_as
from ..vocabulary import column_mean, lerp, row_mean, sign, sqrt
from .muon import NS_EPS, check_iteration, ns_coefficients, ns_dtype, ns_steps, polar

Lmo = Callable[[Any, float, int, tuple[Any, ...], Whole], Any]
"""Point of a unit ball farthest along B: ``lmo(B, eps, kernel, iteration, whole)``, with elements of a kernel."""


def scion_to(lmo: Lmo, kernel: int) -> Callable[..., Any]:
    """Return the rule that steps to the points of a ball; `Scion.rule_for` says which."""

    def scion(
        p, g, B, *, lr, momentum, scale, unconstrained, eps, ns_coefficients, ns_steps, ns_dtype, precision, whole
    ):  # fmt: skip
        """p, g, B: (..., n, m), matrices or stacks of them. Returns new (p, B)."""
        B = lerp(B, g, momentum)
        step = lmo(B, eps, kernel, (ns_coefficients, ns_steps, NS_EPS, ns_dtype or precision), whole)
        return (p if unconstrained else (1 - lr) * p) - lr * scale * step, B

    return scion


def spectral(B, eps, kernel, iteration, whole=WHOLE):
    """B: (..., n, m). Returns its polar factor times √(n/m); a convolution counts channels, over the kernel's size."""
    n, m = (max(1, size) for size in whole.sizes(B))
    return math.sqrt(n * kernel / m) / kernel * polar(B, *iteration, whole)  # type: ignore[call-arg]


def signs(B, eps, kernel, iteration, whole=WHOLE):
    """B: (..., n, m). Returns its signs over m."""
    return sign(B) / max(1, whole.sizes(B)[1])


def col_norm(B, eps, kernel, iteration, whole=WHOLE):
    """B: (..., n, m). Returns it with columns of root mean square 1."""
    return whole(by_columns, B, eps)


def row_norm(B, eps, kernel, iteration, whole=WHOLE):
    """B: (..., n, m). Returns it with rows of root mean square 1/m."""
    return whole(by_rows, B, eps)


def bias_rms(B, eps, kernel, iteration, whole=WHOLE):
    """B: (..., n, m). Returns it with a root mean square of 1."""
    return whole(by_all, B, eps)


def by_columns(B, eps):
    """Return B over the root mean square of each column."""
    return B / (sqrt(column_mean(B * B)) + eps)


def by_rows(B, eps):
    """Return B over m times the root mean square of each row."""
    return B / (max(1, B.shape[-1]) * sqrt(row_mean(B * B)) + eps)


def by_all(B, eps):
    """Return B over its root mean square."""
    return B / (sqrt(row_mean(column_mean(B * B))) + eps)


LMOS: dict[str, Lmo] = {
    "spectral": spectral,
    "sign": signs,
    "col_norm": col_norm,
    "row_norm": row_norm,
    "bias_rms": bias_rms,
}
"""Linear minimisation oracles by the name of their norm, for descent along -B."""


@cache
def scion_for(rule: Rule, norm: str, kernel: int, view: View | None) -> Rule:
    """Return the rule of parameters of one norm, size of kernel, and view."""
    return replace(rule, fn=scion_to(LMOS[norm], kernel), view=view)


class Scion(Optimizer):
    """Scion: layer by layer, the step to the boundary of a norm ball that lies farthest along the averaged gradient.

    One rule for all parameters: the spectral norm for matrices and convolutions, the root mean square for vectors. Give
    embeddings and heads a group of their own: ``{"params": ..., "norm": "sign", "scale": 3000}``.

    Source:
        Pethick et al. 2025, "Training deep learning models with norm-constrained LMOs", arXiv:2502.07529.
    Differs:
        torch has none. As in the authors' code ``momentum`` is the weight of the new gradient, the opposite of torch's:
        1 stands for none. Defaults are those of their example for hidden matrices of transformers; their signature has
        lr 1e-3, momentum 1 and scale 1, and pytorch_optimizer's 0.1, 1 and unconstrained. Constrained weights shrink
        by 1 - η, so that their norms stay within ``scale``. A convolution counts channels and divides by the elements
        of its kernel. Three dimensions need ``matrices``. The authors' code starts inside the balls:
        `Scion.init_norm_ball`; results differ without it. Their light form, which averages in the gradient, is not
        here.
    Use:
        Choose it over `Muon` to have one rule and one rate for all layers, which carry over to other widths.
    Caveats:
        A head whose weights are shared with an embedding has one radius for both.
    """

    lr: fields.Rate = fields.lr(2**-12, 2**-14, 2**-8)
    momentum: float = fields.hyper(
        0.1,
        "weight α of the new gradient in the average",
        low=0.0,
        high=1.0,
        inclusive_high=True,
        search=Search(0.02, 1),
    )
    norm: str | None = fields.hyper(
        None,
        "norm of the ball: 'spectral', 'sign' (largest entry), 'col_norm', 'row_norm' or 'bias_rms'; None: 'spectral' "
        "for two dimensions or more, 'bias_rms' for vectors",
        choices=tuple(LMOS),
    )
    scale: float = fields.hyper(50.0, "radius ρ of the ball", low=0.0, search=Search(1.0, 3e3))
    unconstrained: bool = fields.hyper(False, "do not shrink the weights by 1 - η, and so not hold them in the ball")
    eps: float = fields.eps(1e-8, exclusive_low=True)
    ns_coefficients: Any = ns_coefficients()
    ns_steps: int = ns_steps()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    ns_dtype: str | None = ns_dtype()
    matrices: str | None = matrices()
    heads: Any = heads()

    rule = Rule(scion_to(spectral, 1), "matrix", (State("momentum_buffer"),), is_real=True, precision=torch.bfloat16)

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, and other numbers of steps than a preset has."""
        check_iteration(options)

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of a parameter's norm."""
        norm = options["norm"]
        if p is None:
            return scion_for(cls.rule, norm or "spectral", 1, None)
        refuse_flat(cls.__name__, p)
        if p.dim() < 2:
            return scion_for(cls.rule, norm or "bias_rms", 1, column)
        is_convolution = p.dim() > 2 and options["matrices"] != "batch"
        kernel = p.shape[2:].numel() if is_convolution else 1
        return scion_for(cls.rule, norm or "spectral", max(1, kernel), view_of(cls.__name__, p, options))

    @torch.no_grad()
    def init_norm_ball(self, generator: Generator | None = None) -> None:
        """Draw every parameter anew, on the boundary of its ball; vectors become 0.

        Args:
            generator: the source of the random numbers; None: torch's own.
        """
        for group in self.param_groups:
            for p in group["params"]:
                rule = self.rule_for(group, p)
                drawn = torch.randn(p.shape, generator=generator, dtype=torch.float32, device=p.device)
                seen = drawn if rule.view is None else rule.view(drawn)
                point = rule.fn(
                    torch.zeros_like(seen),
                    -seen,
                    torch.zeros_like(seen),
                    **{**EXACTLY, "scale": group["scale"], "eps": group["eps"]},
                )[0]
                p.copy_(scattered_as(p, point.reshape(p.shape) * (p.dim() > 1)))


EXACTLY: Options = {
    "lr": 1.0,
    "momentum": 1.0,
    "unconstrained": False,
    "ns_coefficients": "polar8",
    "ns_steps": 8,
    "ns_dtype": "float32",
    "precision": None,
    "whole": WHOLE,
}
"""Numbers of a first step that ends on the boundary."""
