"""NovoGrad: one second moment per layer."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import norm, sqrt


def novograd(p, g, m, v, *, lr, beta1, beta2, eps, weight_decay, grad_averaging, first):
    """p, g, m: same shape; v: one number per tensor. Returns new (p, m, v). v starts at the first squared norm."""
    n = norm(g)
    v = n * n if first else beta2 * v + (1 - beta2) * n * n
    u = g / (sqrt(v) + eps) + weight_decay * p
    m = beta1 * m + ((1 - beta1) * u if grad_averaging else u)
    return p - lr * m, m, v


class NovoGrad(Optimizer):
    """NovoGrad: gradients normalised layer by layer, then momentum and decoupled decay; half the memory of Adam.

    Source:
        Ginsburg et al. 2019, "Stochastic gradient methods with layer-wise adaptive moments", arXiv:1905.11286, Alg. 1.
    Differs:
        torch has none. betas, lr as in the paper's Algorithm 1 and its experiments (0.95, 0.98; 0.01). Others' betas:
        NVIDIA's Jasper (0.95, 0), Apex and TensorFlow Addons (0.9, 0.999), optax (0.9, 0.25; ε 1e-6). The new term
        enters the momentum whole, as in the paper and optax; ``grad_averaging=True`` weighs it by 1 - β1, as Apex does
        and Jasper and Addons can. v starts at ‖g‖² of the first step, as in the paper; the decay λθ enters the
        momentum, so it is scaled by η.
    """

    lr: fields.Rate = fields.lr(1e-2)
    betas: tuple[float, float] = fields.betas((0.95, 0.98), "decay rates of momentum and of ‖g‖²")
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, "decay λ, added to the normalised gradient as λθ")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    grad_averaging: bool = fields.hyper(False, "weigh the new term of the momentum by 1 - β1")

    rule = Rule(novograd, "per_tensor", (State("exp_avg"), State("exp_avg_sq", "tensor_scalar")))
