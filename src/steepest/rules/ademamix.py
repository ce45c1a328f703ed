"""AdEMAMix and its simplification: a gradient's memory that lasts longer than Adam's."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, Search, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import exp, lerp, log, minimum, sqrt, where


def ademamix(p, g, m1, m2, v, *, t, lr, beta1, beta2, beta3, eps, alpha, total_steps):
    """p, g, m1, m2, v: same shape; m1 is None at β1 = 0. Returns new (p, m1, m2, v). m2 is not corrected."""
    if total_steps is not None:
        beta3 = warmed(t, total_steps, beta1, beta3)
        alpha = minimum(t / total_steps, 1) * alpha
    m1 = None if m1 is None else lerp(m1, g, 1 - beta1)
    m2 = lerp(m2, g, 1 - beta3)
    v = beta2 * v + (1 - beta2) * g * g
    fast = g if m1 is None else m1 / (1 - beta1**t)
    return p - lr * (fast + alpha * m2) / (sqrt(v / (1 - beta2**t)) + eps), m1, m2, v


def simplified_ademamix(p, g, m, v, *, t, lr, beta1, beta2, eps, alpha, beta_min, total_steps):
    """p, g, m, v: same shape. Returns new (p, m, v). m is a sum, not an average, and is not corrected."""
    if total_steps is not None:
        beta1 = warmed(t, total_steps, beta_min, beta1)
    m = g + beta1 * m
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * (m + alpha * g) / (sqrt(v / (1 - beta2**t)) + eps), m, v


def warmed(t, total_steps, start, end):
    """Return the decay rate at step t, whose half-life grows linearly from that of ``start`` to that of ``end``."""
    a = t / total_steps
    # log(0) is -inf: a half-life of 0. The bound keeps the sum from 0 where both are.
    between = exp(1 / minimum((1 - a) / log(start) + a / log(end), -1e-300))
    return where(t < total_steps, between, end)


TOTAL_STEPS = "steps of the run, over which {} warms up; None: no warm-up"


class AdEMAMix(Optimizer):
    """AdEMAMix: Adam with a second average of g, which remembers ten thousand steps and is weighed by α.

    Source:
        Pagliardini et al. 2024, "The AdEMAMix optimizer: better, faster, older", arXiv:2409.03137, Algorithm 1.
    Differs:
        torch has none. ``betas`` are β1 of the fast average, β2 of g² and β3 of the slow average, in the order of the
        authors' code. α is 5, as in bitsandbytes and pytorch_optimizer; the authors' code has 2, their language models
        8. With ``total_steps`` α and the half-life of β3 grow linearly until then, and stay; the authors' code adds
        1e-8 inside the logarithm of the half-life. They follow the parameter's own step count, which a checkpoint
        keeps. The fast average is dropped at β1 = 0. Decay is decoupled; pytorch_optimizer couples it by default.
    Use:
        Choose it over AdamW for long pretraining: it was the best elementwise rule of a language-model benchmark
        (arXiv:2509.01440). That benchmark had η = 1e-3, α = 8, β3 = 0.999, and ``total_steps`` of the whole run. The
        memory of the slow average, 1/(1 - β3), must be far shorter than the run.
    Caveats:
        For fine-tuning ``total_steps`` is the length of that run, not of pretraining. A run that resumes without its
        step counts starts α and β3 anew. Clip gradients to a norm of 0.1 to 0.5.
    """

    lr: fields.Rate = fields.lr(1e-3, 1e-4, 1e-1)
    betas: tuple[float, float, float] = fields.betas(
        (0.9, 0.999, 0.9999),
        "decay rates of the fast average of g, of the average of g² and of the slow average of g",
        search=Search(1e-4, 0.3, complement=True),
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    alpha: float = fields.hyper(5.0, "weight of the slow average", low=0.0, search=Search(2.0, 10.0))
    total_steps: int | None = fields.hyper(None, TOTAL_STEPS.format("the slow average"), low=1, integer=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        ademamix,
        "pointwise",
        (
            State("step", "step"),
            State("exp_avg_fast", when=lambda o: o["betas"][0] != 0),
            State("exp_avg_slow"),
            State("exp_avg_sq", nonnegative=True),
        ),
    )


class SimplifiedAdEMAMix(Optimizer):
    """Simplified AdEMAMix: one long sum of g, and the newest g weighed by α; the memory of Adam.

    Source:
        Morwani et al. 2025, "Connections between schedule-free optimizers, AdEMAMix, and accelerated SGD variants",
        arXiv:2502.02431.
    Differs:
        torch has none. Same numbers as the authors' code and optax. m is a sum, so steps are up to 1/(1 - β1) times
        Adam's, and η must be as much smaller: about Adam's times √((1 - β_min)(1 - β1)). pytorch_optimizer takes an
        average, and divides by √(1 - β2^t) where it must multiply. With ``total_steps`` the half-life of β1 grows
        linearly from that of ``beta_min``. The authors' code keeps the sums of weights in its state; they are closed
        forms of the step count.
    Use:
        Choose it over AdEMAMix for its quality in Adam's memory (arXiv:2502.02431). The best α depends on the batch: 0
        to 0.05 at a million tokens, about 100 at 32 thousand.
    Caveats:
        Next to the paper, the evidence that we know of is reports of users (OneTrainer #1318). Adam's η is far too
        large for it.
    """

    lr: fields.Rate = fields.lr(1e-4, 1e-5, 3e-4)
    betas: tuple[float, float] = fields.betas((0.99, 0.95), "decay rates of the sum of g and of the average of g²")
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay(0, fields.OF_WEIGHTS)
    alpha: float = fields.hyper(0.0, "weight of the newest gradient", low=0.0, search=Search(0.01, 100.0))
    beta_min: float = fields.hyper(0.9, "β1 at the start of its warm-up", low=0.0, high=1.0, is_decay=True)
    total_steps: int | None = fields.hyper(None, TOTAL_STEPS.format("β1"), low=1, integer=True)
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    capturable: bool = fields.capturable()
    differentiable: bool = fields.differentiable()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        simplified_ademamix,
        "pointwise",
        (State("step", "step"), State("exp_avg"), State("exp_avg_sq", nonnegative=True)),
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse ``beta_min`` without the steps of the warm-up that it starts."""
        super().check(options)
        if options["total_steps"] is None and options["beta_min"] != cls.fields["beta_min"].default:
            raise ValueError("beta_min is where the warm-up of β1 starts; give total_steps, the steps of the run, too")
