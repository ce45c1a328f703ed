"""Adam, AMSGrad and AdamW."""

from __future__ import annotations

from dataclasses import KW_ONLY

from torch import Tensor

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, maximum, sqrt


def adam(p, g, m, v, *, t, lr, beta1, beta2, eps, eps_in_sqrt, eps_hat):
    """p, g, m, v: same shape. Returns new (p, m, v)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    mhat = m / (1 - beta1**t)
    vhat = v / (1 - beta2**t)
    return p - lr * mhat / root(vhat, 1 - beta2**t, eps, eps_in_sqrt, eps_hat), m, v


def amsgrad(p, g, m, v, vmax, *, t, lr, beta1, beta2, eps, eps_in_sqrt, eps_hat, amsgrad_corrected):
    """p, g, m, v, vmax: same shape. Returns new (p, m, v, vmax)."""
    m = lerp(m, g, 1 - beta1)
    v = beta2 * v + (1 - beta2) * g * g
    c = 1 - beta2**t
    vmax = maximum(vmax, v / c if amsgrad_corrected else v)
    mhat = m / (1 - beta1**t)
    vhat = vmax if amsgrad_corrected else vmax / c
    return p - lr * mhat / root(vhat, c, eps, eps_in_sqrt, eps_hat), m, v, vmax


def root(vhat, c, eps, eps_in_sqrt, eps_hat):
    """Return √v̂ + ε, or √(v̂ + ε) with eps_in_sqrt; with eps_hat ε comes before the correction c, (√v + ε) / √c."""
    eps = eps / sqrt(c) if eps_hat else eps
    return sqrt(vhat + eps) if eps_in_sqrt else sqrt(vhat) + eps


def companion(p, g, m, v, *, t, lr, adamw_beta1, adamw_beta2, adamw_eps):
    """p, g, m, v: same shape. Returns new (p, m, v): `adam` under other names for its arguments."""
    betas = {"beta1": adamw_beta1, "beta2": adamw_beta2}
    return adam(p, g, m, v, t=t, lr=lr, **betas, eps=adamw_eps, eps_in_sqrt=False, eps_hat=False)


MOMENTS = State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)
COMPANION = Rule(companion, "pointwise", MOMENTS)
AMSGRAD = Rule(amsgrad, "pointwise", (*MOMENTS, State("max_exp_avg_sq", nonnegative=True)))


class Adam(Optimizer):
    """Adam: averages of g and g², corrected for their start at zero, give each coordinate its direction and rate.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1; AMSGrad: Reddi, Kale and Kumar 2018.
    Differs:
        torch: same numbers. ε is added to the corrected root, as in the paper's Algorithm 1, torch and optax's ``eps``;
        with ``eps_hat=True`` to the root of the uncorrected v, as in the paper's section 2 and Keras (1e-7); with
        ``eps_in_sqrt=True`` it is under the corrected root (optax's ``eps_root``). AMSGrad keeps the maximum of the
        uncorrected v, as torch and Keras do; ``amsgrad_corrected=True`` that of the corrected v, as optax does. Decay
        is coupled, as in torch; Keras decouples it. lerp(m, g, 1 - β1) is torch's way to write β1·m + (1 - β1)·g.
    Use:
        Choose it over SGD where rates must differ by coordinate; with weight decay choose AdamW.
    """

    lr: fields.Rate = fields.lr(1e-3)
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
    eps_hat: bool = fields.eps_hat(False)
    amsgrad_corrected: bool = fields.hyper(False, "amsgrad's maximum is of the corrected v")
    lr_in_decay: bool = fields.lr_in_decay()

    aliases = fields.aliases(amsgrad={"amsgrad": True})
    rule = Rule(adam, "pointwise", MOMENTS)

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of AMSGrad if it is asked for, else Adam's."""
        return AMSGRAD if options["amsgrad"] else cls.rule

    @classmethod
    def check(cls, options: Options) -> None:
        """Require one place for ε, and a corrected root for a maximum of the corrected v."""
        super().check(options)
        if options["amsgrad_corrected"] and not options["amsgrad"]:
            raise ValueError("amsgrad_corrected=True says which maximum amsgrad keeps; give amsgrad=True too")
        for other in ("eps_in_sqrt", "amsgrad_corrected"):
            if options["eps_hat"] and options[other]:
                raise ValueError(f"eps_hat=True adds ε to the root of the uncorrected v; leave {other}=False")
        fields.check_tensor_numbers(options, ("lr", "betas"))


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ - ηλθ before Adam's step, so that λ does not pass through its averages.

    Source:
        Loshchilov and Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101, Algorithm 2.
    Differs:
        torch: same numbers. As in torch the decay is ηλ, η with its schedule; Keras as torch; optax's adamw adds λθ to
        the update before it is scaled by η, which is the same. In the paper it is λ times the schedule's multiplier,
        without the base rate: give λ divided by the base rate. ``lr_in_decay=False`` decays by λ, whatever η is.
    Use:
        Choose it first for transformers and everything with embeddings: it asks for little tuning. Equal β1 and β2 make
        it a strong baseline (arXiv:2505.21829).
    Caveats:
        With equal tuning, speed-ups of other rules over it shrink as models grow. They are at most 1.4 times at 0.1
        billion parameters and 1.1 times at 1.2 billion (arXiv:2509.02046). bfloat16 parameters lose a decay ηλ below
        2⁻⁸, unless ``parameter_rounding`` is given (OneTrainer #996).
    """

    weight_decay: float = fields.weight_decay(1e-2, "decay λ of the weights themselves, θ ← θ - ηλθ before the step")
    _: KW_ONLY
    maximize: bool = fields.maximize()
    decoupled_weight_decay: bool = fields.fixed(default=True, doc="decay the weights themselves")

    aliases = fields.aliases(cadamw={"cautious": True}, adamwcautious={"cautious": True})
