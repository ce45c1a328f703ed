"""Sophia: momentum divided by an estimate of the Hessian's diagonal, and clipped entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from typing import Any

import torch
from torch import Tensor

from .. import fields, storage
from ..fields import Search, State
from ..group import GroupSpec
from ..optimizer import Optimizer
from ..rule import Rule
from ..sharding import whole
from ..vocabulary import absolute, lerp, maximum, minimum, sign


def sophia(p, g, m, h, *, lr, beta1, rho, batch_size):
    """p, g, m, h: same shape. Returns new (p, m, h); h changes between steps, in `Sophia.update_hessian`."""
    m = lerp(m, g, 1 - beta1)
    u = sign(m) * minimum(absolute(m) / (rho * batch_size * maximum(h, 0) + 1e-15), 1)
    return p - lr * u, m, h


HESSIAN = State("hessian")

UNFED = (
    "Sophia has made {} steps (hessian_interval) without an estimate of the Hessian's diagonal, and is Signum so far. "
    "Feed one every few steps. Estimator G: draw labels from the model's own output, run backward on their loss, then "
    "optimizer.update_hessian() and optimizer.zero_grad(). Others: optimizer.update_hessian(estimates), one tensor per "
    "parameter"
)
"""Message for a user who feeds no estimates."""


class Sophia(Optimizer):
    """Sophia: each entry of the momentum is divided by the curvature in its direction, and moves by η at most.

    The curvature is an average of estimates of the Hessian's diagonal, which you feed every ``hessian_interval`` steps:
    see `update_hessian`. Until the first estimate every entry moves by η, as in Signum.

    Source:
        Liu et al. 2023, "Sophia: a scalable stochastic second-order optimizer", arXiv:2305.14342, Algorithm 3.
    Differs:
        torch has none. Defaults and the form |m| / (ρ·batch_size·h + 1e-15) are the authors' code for the estimator G;
        the paper's γ is ρ·batch_size. A negative h counts as 0. m is not corrected, unlike in optax. Squares of the
        gradient of the true labels (the empirical Fisher) are not Sophia-G.
    Use:
        Choose it over AdamW if a second backward pass every ten steps is affordable. Start from 0.5 to 1 times AdamW's
        η; search ρ until 10 to 50 % of the entries move by less than η.
    Caveats:
        It falls behind in long runs of language models (arXiv:2509.01440). ``batch_size`` is the number of items, or of
        tokens, that the mean loss averages (Sophia #27).
    """

    lr: fields.Rate = fields.lr(1e-4, 1e-5, 1e-2)
    betas: tuple[float, float] = fields.betas((0.965, 0.99), "decay rates of the averages of g and of the estimates")
    rho: float = fields.hyper(
        0.04, "how much curvature shortens a step, so that about half are clipped", low=0.0, search=Search(0.01, 0.1)
    )
    weight_decay: float = fields.weight_decay(0.1, fields.OF_WEIGHTS)
    _: KW_ONLY
    batch_size: float = fields.hyper(1.0, "examples (tokens) that the mean loss averages, for estimator G", low=0.0)
    hessian_interval: int = fields.hyper(
        10, "steps after which a missing first estimate is an error", low=1, integer=True
    )
    maximize: bool = fields.maximize()
    foreach: bool | None = fields.foreach()
    fused: bool | None = fields.fused()
    decoupled_weight_decay: bool = fields.decoupled_weight_decay(default=True)
    lr_in_decay: bool = fields.lr_in_decay()

    rule = Rule(sophia, "pointwise", (State("exp_avg"), HESSIAN))

    takes_estimates = True
    _steps_unfed: float = 0
    """Steps before the first estimate; minus infinity after it."""

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """Perform one update; see `Optimizer.step`.

        Raises:
            RuntimeError: ``hessian_interval`` steps have been made without any estimate.
        """
        interval = self.param_groups[0]["hessian_interval"]
        if self._steps_unfed >= interval:
            if not self._has_estimates():
                raise RuntimeError(UNFED.format(interval))
            self._steps_unfed = -math.inf
        self._steps_unfed += 1
        return super().step(closure, loss=loss)

    def _has_estimates(self) -> bool:
        """Return whether some state has an estimate, for example from a checkpoint."""
        params = (p for group in self.param_groups for p in group["params"] if p in self.state)
        held = (storage.read(HESSIAN, self.state[p]) for p in params)
        return any(h is not None and bool(whole(h.any())) for h in held)

    @torch.no_grad()
    def update_hessian(self, estimates: Sequence[Tensor | None] | None = None) -> None:
        """Average a new estimate of the Hessian's diagonal into the state: h ← β2·h + (1 - β2)·ĥ.

        Args:
            estimates: one tensor for each parameter of all groups, in their order, of the parameter's shape; None for a
                parameter without an estimate. Without ``estimates`` they are the squares of ``.grad`` (estimator G):
                call it after a backward pass of the loss of labels that were drawn from the model's own output.

        Raises:
            ValueError: the estimates do not fit the parameters.
            RuntimeError: no estimates are given, and no parameter has a gradient.
        """
        places = [(group, p) for group in self.param_groups for p in group["params"]]
        given = [_square(p.grad) for _, p in places] if estimates is None else list(estimates)
        _check([p for _, p in places], given)
        for (group, p), estimate in zip(places, given, strict=True):
            if estimate is not None:
                self._average(group, p, estimate)
        self._steps_unfed = -math.inf
        self._dispatch.forget_buckets()

    def _average(self, group: dict[str, Any], p: Tensor, estimate: Tensor) -> None:
        spec = GroupSpec.of(type(self), group, p)
        spec.create_state(self.state, p)
        held = self.state[p]
        h = storage.read(HESSIAN, held)
        assert h is not None
        new = torch.lerp(h, estimate.to(h), 1 - float(group["betas"][1]))
        held.update(storage.kept(HESSIAN, spec.codecs(p).get(HESSIAN.name), new, p))


def _square(grad: Tensor | None) -> Tensor | None:
    """Return the squares of a gradient's entries; of both parts of a complex one, as its step has them."""
    if grad is None or not grad.is_complex():
        return None if grad is None else grad * grad
    return torch.view_as_complex(torch.view_as_real(grad) ** 2)


def _check(params: Sequence[Tensor], estimates: Sequence[Tensor | None]) -> None:
    if len(estimates) != len(params):
        raise ValueError(
            f"update_hessian takes one estimate, or None, for each of {len(params)} parameters, not {len(estimates)}"
        )
    if all(estimate is None for estimate in estimates):
        raise RuntimeError("update_hessian() squares gradients, and no parameter has one; run backward before it")
    for index, (p, estimate) in enumerate(zip(params, estimates, strict=True)):
        if estimate is not None and estimate.shape != p.shape:
            raise ValueError(
                f"estimate {index} has shape {tuple(estimate.shape)}, and its parameter {tuple(p.shape)}; give one of "
                "the parameter's shape"
            )
