"""LARS: momentum whose gradients are as long as their tensors."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import norm, where


def lars(p, g, b, *, lr, momentum, nesterov, trust_coefficient, eps, weight_decay, first):
    """p, g, b: same shape; b is None without momentum. Returns new (p, b). r is 1 where p or g is zero."""
    ratio = trust_coefficient * norm(p) / (norm(g) + weight_decay * norm(p) + eps)
    r = where(norm(p) > 0, where(norm(g) > 0, ratio, 1.0), 1.0)
    d = r * (g + weight_decay * p)
    if b is None:
        return p - lr * d, None
    b = d if first else momentum * b + d
    u = d + momentum * b if nesterov else b
    return p - lr * u, b


class LARS(Optimizer):
    """LARS: the heavy ball over gradients that are scaled, tensor by tensor, to a fixed part of their parameter's norm.

    Source:
        You, Gitman and Ginsburg 2017, "Large batch training of convolutional networks", arXiv:1708.03888, Algorithm 1.
    Differs:
        torch has none. η·trust_coefficient is the paper's γ·η. The learning rate stays outside the buffer, as in
        torch's SGD and timm; the paper and optax have it inside. The ratio's denominator is ‖g‖ + λ‖θ‖, as in the
        paper; optax takes the norm of g + λθ. Every tensor is scaled: common recipes leave biases and norms out (give
        them a group of SGD). Where θ or g is zero, the ratio is 1, as in timm.
    Use:
        Choose it over SGD for very large batches of images, and for self-supervised learning. Search η from 0.1 to 30;
        ``trust_coefficient`` is 1e-3, or 2e-2 for self-supervised learning.
    Caveats:
        Biases and norms nearly freeze, since their ratio is tiny: give them a group of SGD.
    """

    lr: fields.Rate = fields.lr(1.0, 1e-2, 100.0)
    momentum: float = fields.momentum(0.9)
    trust_coefficient: float = fields.hyper(
        1e-3, "length of a scaled gradient relative to its parameter", low=0.0, search=Search(1e-4, 1e-1)
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, "decay λ, added to the gradient as λθ before it is scaled")
    nesterov: bool = fields.hyper(False, "step along d + μb, the scaled gradient seen ahead, and not along b")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()

    rule = Rule(lars, "per_tensor", (State("momentum_buffer", when=lambda o: o["momentum"] != 0),))

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse Nesterov's form without momentum."""
        super().check(options)
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov=True looks ahead along the momentum; give momentum > 0, or leave it False")
