"""Extragradient: step by the gradient where plain descent would have gone."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .two_gradients import TwoGradients


class Extragradient(TwoGradients):
    """Extragradient: the base's step by the gradient at θ - ηg. A step takes two gradients.

    It converges on min-max problems such as xy, where simultaneous descent and ascent spiral outwards. Give the
    parameters that are maximized to a group with ``maximize=True``.

    Args:
        base: the optimizer inside; η is the rate of its groups.
        model: a model whose running statistics (BatchNorm) shall be those of the first pass only.
        same_dropout: draw the same random numbers in both passes; for ``step(closure)``.

    Source:
        Korpelevich 1976, "The extragradient method for finding saddle points and other problems".
    Differs:
        torch has none. The extrapolation is plain descent, whatever the base is. It does not take a GradScaler.
    """

    is_scale_free = False

    def _moves(self, params: list[Tensor]) -> Iterable[Tensor] | None:
        rates = {
            p: group["lr"] * (1 if group.get("maximize") else -1)
            for group in self.param_groups
            for p in group["params"]
        }
        return (rates[p] * p.grad for p in params if p.grad is not None)
