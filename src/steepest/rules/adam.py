"""Adam, AMSGrad and AdamW."""

from __future__ import annotations

from dataclasses import KW_ONLY

from torch import Tensor

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, sqrt


def adam(p, g, m, v, vmax, *, t, lr, beta1, beta2, eps, eps_in_sqrt):
    """p, g, m, v, vmax: same shape; vmax is None without amsgrad. Returns new (p, m, v, vmax)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    if vmax is not None:
        vmax = maximum(vmax, v)
    mhat = m / (1 - beta1**t)
    vhat = (v if vmax is None else vmax) / (1 - beta2**t)
    d = sqrt(vhat + eps) if eps_in_sqrt else sqrt(vhat) + eps
    return p - lr * mhat / d, m, v, vmax


class Adam(Optimizer):
    """Adam: averages of g and g², corrected for their start at zero, give each coordinate its direction and rate.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1; AMSGrad: Reddi, Kale and Kumar 2018.
    Differs:
        torch: same numbers. ε is added to the corrected root, as in the paper and torch; Keras adds its "ε hat" (1e-7)
        to the uncorrected root; ``eps_in_sqrt=True`` puts it under the root. AMSGrad keeps the maximum of the
        uncorrected v, as torch and Keras do; optax takes it of the corrected v. lerp(m, g, 1 - β1) is torch's way to
        write β1·m + (1 - β1)·g.
    """

    lr: float = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    amsgrad: bool = fields.hyper(False, "divide by the largest v so far, so that rates never grow")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    eps_in_sqrt: bool = fields.eps_in_sqrt()

    rule = Rule(
        adam,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg"),
            State("exp_avg_sq", nonnegative=True),
            State("max_exp_avg_sq", when=lambda o: o["amsgrad"], nonnegative=True),
        ),
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """What torch's class refuses of tensors."""
        betas = options["betas"]
        if len({isinstance(beta, Tensor) for beta in betas}) > 1:
            raise ValueError("betas must be either both floats or both Tensors")
        if options["foreach"] and not options["capturable"]:
            for name, value in (("lr", options["lr"]), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
                if isinstance(value, Tensor):
                    raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ - ηλθ before Adam's step, so that λ does not pass through its averages.

    Source:
        Loshchilov and Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101, Algorithm 2.
    Differs:
        torch: same numbers. As in torch the decay is ηλ; in the paper it is λ times the schedule's multiplier, without
        the base rate. Keras as torch; optax's adamw adds λθ to the update before it is scaled by η, which is the same.
    """

    weight_decay: float = fields.weight_decay(1e-2, "decay λ of the weights themselves, θ ← θ - ηλθ before the step")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    decoupled_weight_decay: bool = fields.hyper(True, "decay the weights themselves", fixed=True)
