"""Sharpness-aware minimization: step by the gradient at the worst point nearby."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from ..fields import Search
from ..norms import norm_over_ranks, total_norm
from ..sharding import whole
from ..sums import added, group_name, nothing, over_ranks
from .base import own_names, require
from .two_gradients import TwoGradients

EPS = 1e-12
"""Number that is added to the norm of the gradient."""

Base = torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] | None


class SAM(TwoGradients):
    """Sharpness-aware minimization: the base's step by the gradient at θ + ρg/‖g‖. A step takes two gradients.

    The norm is of all groups together. A group with a ``rho`` of its own is moved by that, unless the base has an
    option of this name (Adadelta). A group with ``adaptive=False`` is moved along its gradient in ASAM too.

    Example:
        >>> from steepest import SGD
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = SAM(SGD([w], lr=0.1), rho=0.05)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = w.square().sum()
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure).item()
        2.0

    Args:
        params: an optimizer, or parameters for ``base``.
        base: the class of the optimizer inside, where the first argument has parameters.
        rho: radius of the neighbourhood.
        adaptive: scale the neighbourhood of each weight by abs(θ) + ``eta``, as ASAM does.
        eta: see ``adaptive``.
        model: a model whose running statistics (BatchNorm) shall be those of the first pass only.
        same_dropout: draw the same random numbers in both passes; for ``step(closure)``.
        norm_group: process group, its name or ``"WORLD"``, over whose ranks the norm is added up; for sharded
            parameters.
        options: options of ``base``.

    Source:
        Foret et al. 2021, "Sharpness-aware minimization for efficiently improving generalization", arXiv:2010.01412.
    Differs:
        The weights come back from a copy; the paper's p + e - e rounds. In the davda54 package and pytorch_optimizer
        ``step(closure)`` presumes gradients and calls the closure once; here it does both passes, as torch's contract
        has it. Their ``first_step`` and ``second_step`` are here too. They have no answer to a GradScaler. BatchNorm's
        statistics are updated in both passes unless ``model`` is given, as there. Without an all-reduce in the first
        pass (DDP's ``no_sync``) each rank moves by its own gradient, which is the paper's default.
    """

    settings: ClassVar[tuple[str, ...]] = ("rho", "adaptive", "eta", "is_displaced")
    options: ClassVar[Mapping[str, str]] = own_names("rho", "adaptive", "eta", "same_dropout")
    search: ClassVar[Mapping[str, Search]] = {"rho": Search(0.02, 0.2)}

    def __init__(
        self,
        params: ParamsT | torch.optim.Optimizer,
        base: Base = None,
        rho: float = 0.05,
        adaptive: bool = False,
        *,
        eta: float = 0.0,
        model: nn.Module | None = None,
        same_dropout: bool = False,
        norm_group: Any = None,
        **options: Any,
    ) -> None:
        require("rho", rho, rho >= 0, "a number >= 0")
        require("eta", eta, eta >= 0, "a number >= 0")
        self.rho = rho
        self.adaptive = adaptive
        self.eta = eta
        self.norm_group = None if norm_group is None else group_name(norm_group)
        super().__init__(inside(type(self).__name__, params, base, options), model, same_dropout)

    def _moves(self, params: list[Tensor]) -> Iterable[Tensor] | None:
        groups = {p: group for group in self.param_groups for p in group["params"]}
        norm = self._norm([self._weighed(groups[p], p, _wide(p.grad)) for p in params])
        if not math.isfinite(norm):
            return None
        return (self._move(groups[p], p, norm) for p in params)

    def _move(self, group: dict[str, Any], p: Tensor, norm: float) -> Tensor:
        g = self._weighed(group, p, self._weighed(group, p, _wide(p.grad)))
        return g * (self._rho_of(group) / (norm + EPS))

    def _weighed(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        """Return T g: the gradient, or where the neighbourhood is adaptive, scaled by the weights."""
        return (p.abs() + self.eta) * g if self.adaptive and group.get("adaptive", True) else g

    def _rho_of(self, group: dict[str, Any]) -> float:
        own: float = self.rho if "rho" in self.base.defaults else group.get("rho", self.rho)
        return own

    def _norm(self, gradients: list[Tensor]) -> float:
        norm = total_norm(gradients) if gradients else nothing(self._parameters())
        return norm_over_ranks(norm, self.norm_group).item()


class ASAM(SAM):
    """Adaptive SAM: the gradient at θ + ρT²g/‖Tg‖, T = abs(θ) + η, so that rescaled weights have the same sharpness.

    See `SAM` for the arguments.

    Source:
        Kwon et al. 2021, "ASAM: adaptive sharpness-aware minimization for scale-invariant learning of deep neural
        networks", arXiv:2102.11600.
    Differs:
        The authors' code has T = 1 for parameters without "weight" in their name: give such a group ``adaptive=False``.
        The davda54 package and pytorch_optimizer have η = 0, as here ``SAM(..., adaptive=True)``: a weight of 0 then
        never moves.
    """

    search: ClassVar[Mapping[str, Search]] = {"rho": Search(0.2, 2.0)}

    def __init__(
        self,
        params: ParamsT | torch.optim.Optimizer,
        base: Base = None,
        rho: float = 0.5,
        adaptive: bool = True,
        *,
        eta: float = 0.01,
        model: nn.Module | None = None,
        same_dropout: bool = False,
        norm_group: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(
            params,
            base,
            rho,
            adaptive,
            eta=eta,
            model=model,
            same_dropout=same_dropout,
            norm_group=norm_group,
            **options,
        )


class GSAM(SAM):
    """Surrogate-gap SAM: the part of the gradient at θ that is orthogonal to SAM's is climbed, α of it.

    ρ follows the learning rate of each group: from ``rho_min`` at ``lr_min`` to ``rho_max`` at ``lr_max``.

    Args:
        params: an optimizer, or parameters for ``base``.
        base: the class of the optimizer inside, where the first argument has parameters.
        rho_max: radius at the largest rate.
        rho_min: radius at the smallest rate.
        alpha: part of the orthogonal gradient.
        lr_max: the largest rate; None: that of the first group at construction, before any schedule.
        lr_min: the smallest rate.
        model: see `SAM`.
        same_dropout: see `SAM`.
        norm_group: see `SAM`.
        options: options of ``base``.

    Source:
        Zhuang et al. 2022, "Surrogate gap minimization improves sharpness-aware training", arXiv:2203.08065.
    Differs:
        pytorch_optimizer's takes the schedule of ρ as an object and the batch by ``set_closure``; here ρ is read off
        the rate, within its bounds. ``.grad`` holds the combined gradient after the step.
    """

    settings: ClassVar[tuple[str, ...]] = ("rho_max", "rho_min", "alpha", "lr_max", "lr_min", "is_displaced")
    options: ClassVar[Mapping[str, str]] = own_names("rho_max", "rho_min", "alpha", "lr_max", "lr_min", "same_dropout")
    search: ClassVar[Mapping[str, Search]] = {"rho_max": Search(0.02, 0.2), "alpha": Search(0.2, 0.7, "linear")}

    def __init__(
        self,
        params: ParamsT | torch.optim.Optimizer,
        base: Base = None,
        rho_max: float = 0.05,
        rho_min: float = 0.0,
        alpha: float = 0.4,
        *,
        lr_max: float | None = None,
        lr_min: float = 0.0,
        model: nn.Module | None = None,
        same_dropout: bool = False,
        norm_group: Any = None,
        **options: Any,
    ) -> None:
        require("rho_min", rho_min, 0 <= rho_min <= rho_max, f"a number >= 0 and <= rho_max={rho_max}")
        require("alpha", alpha, alpha >= 0, "a number >= 0")
        super().__init__(
            params, base, rho_max, model=model, same_dropout=same_dropout, norm_group=norm_group, **options
        )
        first = self.param_groups[0]
        self.rho_max, self.rho_min, self.alpha = rho_max, rho_min, alpha
        self._first: dict[Tensor, Tensor] = {}
        self.lr_max = float(first.get("initial_lr", first["lr"])) if lr_max is None else lr_max
        self.lr_min = lr_min
        require("lr_min", lr_min, 0 <= lr_min <= self.lr_max, f"a number >= 0 and <= lr_max={self.lr_max}")

    def _rho_of(self, group: dict[str, Any]) -> float:
        span = self.lr_max - self.lr_min
        share = (float(group["lr"]) - self.lr_min) / span if span else 1.0
        return self.rho_min + (self.rho_max - self.rho_min) * min(max(share, 0.0), 1.0)

    def _moves(self, params: list[Tensor]) -> Iterable[Tensor] | None:
        moves = super()._moves(params)
        for p in params if moves is not None else ():
            self.own[p]["old_g"] = p.grad.detach().clone()  # type: ignore[union-attr]
        return moves

    def _restore(self) -> None:
        super()._restore()
        self._first = {p: held.pop("old_g") for p, held in self.own.items() if "old_g" in held}

    def _unscale(self) -> None:
        scale = vars(self).get("grad_scale")
        if scale is None:
            raise RuntimeError(
                "GSAM combines two gradients of one scale, and scaler.unscale_ has changed the second; leave it to "
                "scaler.step(optimizer)"
            )
        super()._unscale()
        self._first = {p: g.div_(scale.to(g.device)) for p, g in self._first.items()}

    def _combine(self) -> None:
        """Put g̃ - α (g - cos(g, g̃) ‖g‖ g̃/‖g̃‖) into ``.grad``."""
        pairs = [(g, p.grad) for p, g in self._first.items() if p.grad is not None]
        self._first = {}
        second = self._norm([_wide(p.grad) for p in self._parameters() if p.grad is not None])
        share = self._product(pairs) / second**2 if second else 0.0
        for g, h in pairs:
            h.sub_(g - share * h, alpha=self.alpha)

    def _product(self, pairs: list[tuple[Tensor, Tensor]]) -> float:
        """Return the inner product of the two gradients, over all parameters and ranks."""
        products = [whole((_wide(g) * _wide(h).conj()).sum()).real.double() for g, h in pairs]
        return over_ranks(added(products or [nothing(self._parameters())]), self.norm_group).item()


def inside(
    name: str, given: ParamsT | torch.optim.Optimizer, base: Base, options: dict[str, Any]
) -> torch.optim.Optimizer:
    """Return the optimizer that a wrapper was given, or build it from parameters, its class and its options.

    Raises:
        TypeError: there are parameters and no class, or an optimizer and options for it.
    """
    if isinstance(given, torch.optim.Optimizer):
        if base is not None or options:
            told = ", ".join(options) or "a class"
            raise TypeError(f"{name} was given an optimizer that is built already, and {told}; give these to it")
        return given
    if base is None or isinstance(base, torch.optim.Optimizer):
        raise TypeError(
            f"{name} takes an optimizer, {name}(SGD(params, lr=0.1)), or parameters and a class with its options, "
            f"{name}(params, SGD, lr=0.1)"
        )
    return base(given, **options)


def _wide(g: Tensor | None) -> Tensor:
    """Return a gradient in at least float32."""
    assert g is not None
    return g.to(torch.promote_types(g.dtype, torch.float32))
