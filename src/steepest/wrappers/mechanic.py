"""Mechanic: a learned scale of any optimizer's updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..sharding import local_part
from ..sums import over_shards
from .base import Closure, Wrapper, own_names, refuse_other_weights, require

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


class Mechanic(Wrapper):
    """Mechanic: θ = θ₀ + sΔ, where Δ is the sum of the base's updates and s a learned scale.

    The scale is the sum of one for each entry of ``betas``, each from the products of Δ and the gradients. It starts at
    0, so the first steps are tiny. A schedule of the base's rate, for warm-up and decay, is still wanted.

    Args:
        base: the optimizer inside. Its rate is the scale of its updates before s.
        s_decay: decay of the weights towards 0, in units of the gradient's norm.
        betas: decay rates of the tuners.
        s_init: first wealth of the tuners.
        eps: number that is added to denominators.
        store_delta: keep Δ, one copy of the weights more; else it is recomputed from θ, θ₀ and s.

    Attributes:
        tuner: the tuners' state, in float32: s, reward, max_product and sum_squared_products.

    Source:
        Cutkosky, Defazio and Mehta 2023, "Mechanic: a learning rate tuner", arXiv:2306.00144.
    Differs:
        Equal to the authors' package mechanic-pytorch 0.0.1, which makes a subclass and puts its state into the base's.
        optax starts s at 1e-6 and clips in other places. Steps without any gradient, where the package fails, do
        nothing. An optimizer that keeps weights of its own (``ema_decay``, Schedule-Free) is refused.
    """

    settings: ClassVar[tuple[str, ...]] = ("s_decay", "betas", "s_init", "eps", "store_delta", "tuner")

    options: ClassVar[Mapping[str, str]] = {
        **own_names("s_decay", "s_init", "store_delta"),
        "mechanic_betas": "betas",
        "mechanic_eps": "eps",
    }

    def __init__(
        self,
        base: torch.optim.Optimizer,
        s_decay: float = 0.01,
        betas: tuple[float, ...] = BETAS,
        s_init: float = 1e-8,
        eps: float = 1e-8,
        store_delta: bool = False,
    ) -> None:
        require("s_decay", s_decay, s_decay >= 0, "a number >= 0")
        require("betas", betas, len(betas) > 0 and all(0 <= b < 1 for b in betas), "one or more numbers >= 0 and < 1")
        require("s_init", s_init, s_init > 0, "a number > 0")
        self.s_decay, self.betas, self.s_init, self.eps = s_decay, tuple(betas), s_init, eps
        self.store_delta = store_delta
        super().__init__(base)
        refuse_other_weights("Mechanic", base)

    def _begin(self) -> None:
        super()._begin()
        tuners = torch.zeros(len(self.betas))
        names = ("s", "reward", "sum_squared_products")
        self.tuner = {**{name: tuners.clone() for name in names}, "max_product": torch.full_like(tuners, 1e-6)}

    @property
    def scale(self) -> float:
        """The scale s of the updates so far."""
        return float(self.tuner["s"].sum())

    def step(self, closure: Closure | None = None) -> Any:
        """Perform one update.

        Args:
            closure: function that re-evaluates the model and returns the loss. The base gets it too, and its first
                call there returns the loss that is known.

        Returns:
            The base's result: the closure's loss, or None.
        """
        again = None if closure is None else _evaluated(closure)
        with torch.no_grad():
            before = {p: (p.detach().clone(), p.grad.clone()) for p in self._parameters() if p.grad is not None}
        loss = self.base.step() if again is None else self.base.step(again)
        if before:
            self._scale_updates(before)
        return loss

    @torch.no_grad()
    def _scale_updates(self, before: dict[Tensor, tuple[Tensor, Tensor]]) -> None:
        """Add the base's updates to Δ, learn s, and put the weights at θ₀ + sΔ."""
        device = next(iter(before)).device
        self.tuner = {name: value.to(device) for name, value in self.tuner.items()}
        for p, (old, _) in before.items():
            if "ref" not in self.own[p]:
                self.own[p].update({"ref": old.clone(), **({"delta": torch.zeros_like(p)} if self.store_delta else {})})
        deltas = {p: self._delta(p, old) for p, (old, _) in before.items()}
        self._learn(self._product(before, deltas).to(device))
        s = self.tuner["s"].sum().clamp(min=0.0)
        for p, (old, _) in before.items():
            deltas[p].add_(p - old)
            p.copy_(self.own[p]["ref"] + deltas[p] * s.to(p.device))

    def _delta(self, p: Tensor, old: Tensor) -> Tensor:
        held = self.own[p]
        return (
            held["delta"] if self.store_delta else (old - held["ref"]) / (self.tuner["s"].sum() + self.eps).to(p.device)
        )

    def _product(self, before: dict[Tensor, tuple[Tensor, Tensor]], deltas: dict[Tensor, Tensor]) -> Tensor:
        """Return h, the product of Δ and the gradient with its decay, over all parameters."""
        home = next(iter(before)).device
        weights, gradients = list(before), [g for _, g in before.values()]
        lengths = _dot(weights, weights, home).sqrt(), _dot(gradients, gradients, home).sqrt()
        pull = torch.tensor(self.s_decay, device=home) * self.tuner["s"].sum()
        decay = pull * lengths[1] / (lengths[0] + self.eps)
        decayed = [g + p * decay.to(p.device, p.dtype) for p, g in zip(weights, gradients, strict=True)]
        return _dot([deltas[p] for p in weights], decayed, home)

    def _learn(self, h: Tensor) -> None:
        """Update the scale of each tuner from the product h."""
        s, reward, squares, largest = (
            self.tuner[name] for name in ("s", "reward", "sum_squared_products", "max_product")
        )
        betas = torch.tensor(self.betas, device=s.device)
        largest.copy_(torch.maximum(betas * largest, h.abs()))
        squares.mul_(betas**2).add_(h.square())
        reward.mul_(betas).sub_(s * h).clamp_(min=0.0)
        wealth = largest * torch.tensor(self.s_init, device=s.device) / len(self.betas) + reward
        s.copy_(wealth / (squares.sqrt() + self.eps))


def _dot(a: list[Tensor], b: list[Tensor], home: torch.device) -> Tensor:
    """Return the inner product of two lists of tensors, over the shards of DTensors too."""
    parts = (map(local_part, pair) for pair in zip(a, b, strict=True))
    products = [torch.dot(x.flatten(), y.flatten()).to(home) for x, y in parts]
    return over_shards(torch.stack(products)[:, None], a).squeeze(0)


def _evaluated(closure: Closure) -> Closure:
    """Call a closure, and return one whose first call returns the loss of that, and later calls evaluate it again."""
    with torch.enable_grad():
        loss = closure()
    known = [loss]

    def again() -> Any:
        return known.pop() if known else closure()

    return again
