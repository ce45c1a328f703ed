"""RMSprop: divide the gradient by a running root mean square of itself."""

from __future__ import annotations

from dataclasses import KW_ONLY

from .. import fields
from ..fields import Options, State
from ..optimizer import Optimizer
from ..rule import Rule
from ..vocabulary import lerp, sqrt


def rmsprop(p, g, v, b, a, *, lr, alpha, eps, momentum, eps_in_sqrt, lr_in_momentum):
    """p, g, v, b, a: same shape; b is None without momentum, a without centering. Returns new (p, v, b, a)."""
    v = alpha * v + (1 - alpha) * g * g
    s = v
    if a is not None:
        a = lerp(a, g, 1 - alpha)
        s = v - a * a
    u = g / sqrt(s + eps) if eps_in_sqrt else g / (sqrt(s) + eps)
    if b is None:
        return p - lr * u, v, b, a
    b = momentum * b + (lr * u if lr_in_momentum else u)
    return p - (b if lr_in_momentum else lr * b), v, b, a


class RMSprop(Optimizer):
    """RMSprop: θ ← θ - η g / (√v + ε), v a moving average of g²; optionally centered, optionally with momentum.

    Source:
        Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850, eq. 38-41.
    Differs:
        torch: same numbers. ε is added to the root, as in torch; under it with ``eps_in_sqrt=True``, as in articles,
        Keras and optax (decay 0.9 there, 0.99 here and in torch). η is outside the momentum buffer, as in torch;
        ``lr_in_momentum=True`` has it inside, as in Keras, optax and TensorFlow 1, which matters once it changes.
        TensorFlow 1 also starts v at 1, ``initial_accumulator_value=1``. Keras decouples its decay, torch does not.
        Centered, rounding can make v - a² slightly negative and the step NaN, in torch as here; clamping at 0 would
        make it g/ε, far worse.
    """

    lr: fields.Rate = fields.lr(1e-2)
    alpha: float = fields.hyper(
        0.99, "decay of the average of g²", low=0.0, search=fields.Search(1e-3, 0.3, complement=True), is_decay=True
    )
    eps: float = fields.eps(1e-8)
    weight_decay: float = fields.weight_decay()
    momentum: float = fields.momentum(0)
    centered: bool = fields.hyper(False, "divide by the standard deviation: subtract the squared average of g")
    capturable: bool = fields.capturable()
    foreach: bool | None = fields.foreach()
    maximize: bool = fields.maximize()
    differentiable: bool = fields.differentiable()
    _: KW_ONLY
    fused: bool | None = fields.fused()
    eps_in_sqrt: bool = fields.eps_in_sqrt()
    lr_in_momentum: bool = fields.hyper(False, "keep η inside the momentum buffer, b ← μb + ηu, θ ← θ - b")
    initial_accumulator_value: float = fields.hyper(0, "the value that v starts at", low=0.0)
    decoupled_weight_decay: bool = fields.decoupled_weight_decay()
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(
        rmsprop,
        "pointwise",
        (
            State("step", "step"),
            State("square_avg", init="initial_accumulator_value", nonnegative=True),
            State("momentum_buffer", when=lambda o: o["momentum"] > 0),
            State("grad_avg", when=lambda o: o["centered"]),
        ),
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse ``lr_in_momentum`` without momentum, and centering with state of low precision.

        v - a² of rounded averages is negative wherever g hardly varies, and its root NaN.
        """
        super().check(options)
        if options["lr_in_momentum"] and options["momentum"] == 0:
            raise ValueError("lr_in_momentum=True puts η inside the momentum buffer; give momentum > 0 too")
        if options["centered"] and options["state_dtype"]:
            raise ValueError(
                f"state_dtype={options['state_dtype']!r} cannot keep what centered=True subtracts from each other; use "
                f"state_dtype=None or centered=False"
            )
