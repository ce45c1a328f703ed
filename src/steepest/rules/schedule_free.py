"""Schedule-Free: averages of the weights in place of a schedule of the rate, in SGD, AdamW and RAdam."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

from .. import fields
from ..fields import Options, Search, State
from ..rule import Rule, Shared
from ..vocabulary import lerp, sqrt, where
from ..weights import TwoWeights


def averaged(y, z, d, beta1, scheduled_lr, ckp1):
    """y, z, d: same shape. Returns new (y, z): a step of z along -d, and y = β1·x + (1 - β1)·z for the average x."""
    return lerp(y, z, ckp1) + scheduled_lr * (beta1 * (1 - ckp1) - 1) * d, z - scheduled_lr * d


def sgd(y, g, z, *, momentum, weight_decay, scheduled_lr, ckp1):
    """y, g, z: same shape. Returns new (y, z)."""
    return averaged(y, z, g + weight_decay * y, momentum, scheduled_lr, ckp1)


def adamw(y, g, z, v, *, beta1, beta2, eps, weight_decay, k, scheduled_lr, ckp1):
    """y, g, z, v: same shape. Returns new (y, z, v)."""
    v = beta2 * v + (1 - beta2) * g * g
    d = g / (sqrt(v / (1 - beta2**k)) + eps) + weight_decay * y
    return *averaged(y, z, d, beta1, scheduled_lr, ckp1), v


def radam(y, g, z, v, *, beta1, beta2, eps, weight_decay, k, scheduled_lr, ckp1):
    """y, g, z, v: same shape. Returns new (y, z, v)."""
    v = beta2 * v + (1 - beta2) * g * g
    u = where(length(k, beta2) > 4, g / (sqrt(v / (1 - beta2**k)) + eps), g)
    return *averaged(y, z, u + weight_decay * y, beta1, scheduled_lr, ckp1), v


def length(t, beta2):
    """Return ρ, the number of gradients that v averages over at step t."""
    return 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t)


def weighed(*, lr, warmup_steps, r, weight_lr_power, k, weight_sum, largest_lr):
    """Return the rate of step k + 1, warmed up, and the weight of its z in the average."""
    scheduled = lr * (min(1.0, (k + 1) / warmup_steps) if warmup_steps else 1.0)
    return _weighed(scheduled, r, weight_lr_power, k, weight_sum, largest_lr)


def rectified(*, lr, beta2, silent_sgd_phase, r, weight_lr_power, k, weight_sum, largest_lr):
    """Return the rate of step k + 1, rectified, and the weight of its z in the average."""
    rho, most = length(k + 1, beta2), 2 / (1 - beta2) - 1
    if rho > 4:
        rect = ((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) ** 0.5
    else:
        rect = 0.0 if silent_sgd_phase else 1.0
    return _weighed(lr * rect, r, weight_lr_power, k, weight_sum, largest_lr)


def _weighed(scheduled_lr, r, weight_lr_power, k, weight_sum, largest_lr):
    largest_lr = max(scheduled_lr, largest_lr)
    weight = (k + 1) ** r * largest_lr**weight_lr_power
    weight_sum += weight
    ckp1 = weight / weight_sum if weight_sum else 0.0  # while every rate was 0
    kept = {"k": k + 1, "weight_sum": weight_sum, "largest_lr": largest_lr, "scheduled_lr": scheduled_lr}
    return {**kept, "ckp1": ckp1}


KEPT = {"k": 0, "weight_sum": 0.0, "largest_lr": -1.0, "scheduled_lr": 0.0}
"""Numbers that a group keeps, by the names of the authors' package, which has lr_max for largest_lr."""


def x_of(y, z, *_, beta1):
    """Return the average x."""
    return y + (1 - 1 / beta1) * (z - y)


def y_of(x, z, *_, beta1):
    """Return y, at which gradients are taken."""
    return x + (1 - beta1) * (z - x)


def x_under_momentum(y, z, *, momentum):
    """Return the average x."""
    return x_of(y, z, beta1=momentum)


def y_under_momentum(x, z, *, momentum):
    """Return y, at which gradients are taken."""
    return y_of(x, z, beta1=momentum)


def warmup_steps() -> Any:
    """Declare ``warmup_steps``."""
    return fields.hyper(0, "steps in which the rate rises to lr", low=0, integer=True)


def power() -> Any:
    """Declare ``r``."""
    return fields.hyper(0.0, "power of the step count in the weights of the average", low=0.0)


def weight_lr_power() -> Any:
    """Declare ``weight_lr_power``."""
    return fields.hyper(2.0, "power of the largest rate so far in the weights of the average", low=0.0)


def weight_decay() -> Any:
    """Declare ``weight_decay``."""
    return fields.weight_decay(0.0, "decay λ of the weights, λy added to the update")


def check_interpolation(name: str, beta: float) -> None:
    """Raise `ValueError` for an interpolation of 0, from which the average cannot be told."""
    if beta == 0:
        raise ValueError(f"{name}=0 puts y on z, so that the average x is lost; {name} must be more than 0, as 0.9")


Z = State("z", init="param", exact=True)


class SGDScheduleFree(TwoWeights):
    """Schedule-Free SGD: an average of the weights takes the place of momentum and of a schedule.

    The parameters are y, at which gradients are taken, in train mode, and the average x in eval mode.

    Source:
        Defazio et al. 2024, "The road less scheduled", arXiv:2405.15682, Algorithm 1.
    Differs:
        schedulefree: same numbers; a new optimizer is in train mode, where theirs raises until ``train()`` is called.
        ``eval()`` and ``train()`` keep y and restore its bits, where theirs interpolate in place, which drifts in half
        precision. Gradients stay as they are. A step in which every rate so far was 0 weighs nothing.
    Use:
        Choose it over SGD with momentum where the length of training is open, with 10 to 50 times its rate and no
        schedule but a warm-up. Call ``optimizer.eval()`` before evaluation, ``optimizer.train()`` before training;
        recompute the statistics of BatchNorm with ``steepest.update_bn``.
    """

    lr: fields.Rate = fields.lr(1.0, 1e-3, 30)
    momentum: float = fields.hyper(
        0.9,
        "weight β of the average x in y, at which gradients are taken",
        low=0.0,
        high=1.0,
        search=Search(0.02, 0.3, complement=True),
    )
    weight_decay: float = weight_decay()
    warmup_steps: int = warmup_steps()
    r: float = power()
    weight_lr_power: float = weight_lr_power()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    usual_schedule = "constant"
    rule = Rule(
        sgd,
        "pointwise",
        (Z,),
        shared=Shared(weighed, KEPT, made=("ckp1",)),
        evaluated=x_under_momentum,
        trained=y_under_momentum,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse an interpolation of 0."""
        check_interpolation("momentum", options["momentum"])


class AdamWScheduleFree(TwoWeights):
    """Schedule-Free AdamW: an average of the weights takes the place of Adam's first moment and of a schedule.

    The parameters are y, at which gradients are taken, in train mode, and the average x in eval mode.

    Source:
        Defazio et al. 2024, "The road less scheduled", arXiv:2405.15682, section 4.
    Differs:
        schedulefree: same numbers, and see `SGDScheduleFree`. The paper's Algorithm scales the rate by √(1 - β2^t) in
        place of correcting v, so that ε has another size. optax's warm-up is a schedule with an offset of its own.
    Use:
        Choose it over `AdamW` where the length of training is open; it won the self-tuning track of AlgoPerf 2024. Its
        rate is 1 to 10 times that of AdamW. Call ``optimizer.eval()`` before evaluation and ``optimizer.train()``
        before training.
    Caveats:
        Long runs need a β1 of 0.95 to 0.98 (arXiv:2405.15682).
    """

    lr: fields.Rate = fields.lr(0.0025, 1e-4, 1e-1)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "weight β1 of the average x in y; decay rate β2 of v")
    eps: float = fields.eps(1e-8)
    weight_decay: float = weight_decay()
    warmup_steps: int = warmup_steps()
    r: float = power()
    weight_lr_power: float = weight_lr_power()
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    usual_schedule = "constant"
    rule = Rule(
        adamw,
        "pointwise",
        (Z, State("exp_avg_sq", nonnegative=True)),
        shared=Shared(weighed, KEPT, made=("ckp1",)),
        evaluated=x_of,
        trained=y_of,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse an interpolation of 0."""
        check_interpolation("betas[0]", options["betas"][0])


class RAdamScheduleFree(TwoWeights):
    """Schedule-Free RAdam: as AdamWScheduleFree, with the rectified rate of RAdam in place of a warm-up.

    The parameters are y, at which gradients are taken, in train mode, and the average x in eval mode.

    Source:
        Defazio et al. 2024, "The road less scheduled", arXiv:2405.15682; Liu et al. 2020, arXiv:1908.03265.
    Differs:
        schedulefree: same numbers, and see `SGDScheduleFree`. While v averages over four gradients or less, nothing
        moves; with ``silent_sgd_phase=False`` z moves along the gradient itself.
    Use:
        Choose it over `AdamWScheduleFree` where no warm-up can be tuned.
    """

    lr: fields.Rate = fields.lr(0.0025, 1e-4, 1e-1)
    betas: tuple[float, float] = fields.betas((0.9, 0.999), "weight β1 of the average x in y; decay rate β2 of v")
    eps: float = fields.eps(1e-8)
    weight_decay: float = weight_decay()
    r: float = power()
    weight_lr_power: float = weight_lr_power()
    silent_sgd_phase: bool = fields.hyper(True, "rest while v averages over too few gradients")
    _: KW_ONLY
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    maximize: bool = fields.maximize()

    usual_schedule = "constant"
    rule = Rule(
        radam,
        "pointwise",
        (Z, State("exp_avg_sq", nonnegative=True)),
        shared=Shared(rectified, KEPT, made=("ckp1",)),
        evaluated=x_of,
        trained=y_of,
    )

    @classmethod
    def check(cls, options: Options) -> None:
        """Refuse an interpolation of 0."""
        check_interpolation("betas[0]", options["betas"][0])
