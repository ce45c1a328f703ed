"""Muon: momentum whose singular values are all made about 1."""

from __future__ import annotations

from dataclasses import KW_ONLY
from math import sqrt

import torch
from torch import Tensor

from .. import fields
from ..fields import Options, Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp


def muon(p, g, B, *, lr, weight_decay, momentum, nesterov, a, b, c, eps, ns_steps, adjust_lr_fn, precision):
    """p, g, B: (..., n, m), matrices or stacks of them. Returns new (p, B)."""
    B = lerp(B, g, 1 - momentum)
    u = lerp(g, B, momentum) if nesterov else B
    O = orthogonalized(u.to(precision), (a, b, c), eps, ns_steps).to(p.dtype)  # noqa: E741 - the paper's letter
    n, m = p.shape[-2:]
    scale = 0.2 * sqrt(max(n, m)) if adjust_lr_fn == "match_rms_adamw" else sqrt(max(1, n / max(m, 1)))
    return p * (1 - lr * weight_decay) - lr * scale * O, B


def orthogonalized(X: Tensor, coefficients: tuple[float, float, float], eps: float, steps: int) -> Tensor:
    """Apply Newton and Schulz's iteration X <- aX + b(XX')X + c(XX')²X from X / ‖X‖, in the dtype of X.

    With a = 3.4445, b = -4.775, c = 2.0315 five steps bring every singular value that is not tiny to about 0.7 to 1.2.
    Small ones grow fastest, and none settles at 1.
    """
    a, b, c = coefficients
    is_tall = X.shape[-2] > X.shape[-1]
    X = X.mT if is_tall else X
    X = X / torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        G = X @ X.mT
        X = _blend(a, X, 1, _blend(b, G, c, G, G), X)
    return X.mT if is_tall else X


def _blend(beta: float, X: Tensor, alpha: float, Y: Tensor, Z: Tensor) -> Tensor:
    """Compute βX + αYZ in one call, for matrices or stacks of them, so that half types round once."""
    add = torch.addmm if X.dim() == 2 else torch.baddbmm
    return add(X, Y, Z, beta=beta, alpha=alpha)


class Muon(Optimizer):
    """Muon: the momentum of a weight matrix, orthogonalized, so that every direction moves alike.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; ``"match_rms_adamw"``: Liu et al.
        2025, "Muon is scalable for LLM training", arXiv:2502.16982.
    Differs:
        torch: same numbers; foreach=False is torch's own sequence of operations. The momentum is a running average,
        B ← μB + (1 - μ)g and with Nesterov (1 - μ)g + μB, as in Jordan's and torch's code; torch's documentation has
        B ← μB + g. The next operation divides by the norm, so only eps makes the factor matter. The iteration runs in
        bfloat16, whatever the parameter's dtype. Decay is decoupled, by ηλ with the rate before it is adjusted.
        torch divides the buffer of bfloat16 parameters in place when nesterov=False; ours keeps it. Equal shapes are
        stacked and run at once (`steepest.executors.stacked`); torch loops.
    Use:
        Choose it over AdamW for the hidden matrices of transformers: with equal tuning rules of matrices win
        (arXiv:2509.02046). Give all other parameters a group of AdamW.
    Caveats:
        Gains over AdamW shrink as models grow: see `AdamW`.
    """

    lr: fields.Rate = fields.lr(1e-3, invalid="Learning rate should be >= 0 but is: {value}")
    weight_decay: float = fields.weight_decay(
        0.1,
        "decay λ of the weights themselves, θ ← θ - ηλθ before the step",
        invalid="weight decay should be >= 0 but is: {value}",
    )
    momentum: float = fields.momentum(0.95, invalid="momentum should be >= 0 but is: {value}")
    nesterov: bool = fields.hyper(True, "orthogonalize (1 - μ)g + μB, the momentum seen ahead, and not B")
    ns_coefficients: tuple[float, float, float] = fields.hyper(
        (3.4445, -4.775, 2.0315),
        "coefficients of Newton and Schulz's iteration",
        names=("a", "b", "c"),
        candidates=((1.875, -1.25, 0.375),),
    )
    eps: float = fields.hyper(1e-7, "least norm that is divided by", search=Search(1e-10, 1e-3))
    ns_steps: int = fields.hyper(5, "iterations", low=0, integer=True)
    adjust_lr_fn: str | None = fields.hyper(
        None,
        "how the rate follows the shape: by √max(1, n/m) ('original', and None), or by 0.2√max(n, m)",
        choices=("original", "match_rms_adamw"),
        invalid="Adjust learning rate function {value} is not supported",
    )
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()

    rule = Rule(muon, "matrix", (State("momentum_buffer"),), is_real=True, precision=torch.bfloat16)

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse a hundred iterations or more, as torch does, though already at construction."""
        if options["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency (ns_steps)")

    @classmethod
    def check_parameter(cls, p: Tensor) -> None:
        """Refuse biases, embeddings and convolutions, which another optimizer updates."""
        if p.dim() != 2:
            raise ValueError(
                f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}; give it to an "
                f"optimizer such as AdamW"
            )
