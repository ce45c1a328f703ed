"""Optimizers whose step takes two gradients: at the weights, and at weights that the first gradient has moved."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import Closure, Wrapper, asks_for_gradients

HOW = (
    "give step() a closure that does zero_grad, forward and backward and returns the loss; or call first_step() after "
    "the first backward pass and second_step() after the second"
)


class TwoGradients(Wrapper):
    """Base of optimizers that step by the gradient at other weights than their own.

    ``step(closure)`` calls one closure twice, and returns the first loss. The closure does ``zero_grad``, forward and
    backward. The alternative is ``first_step()`` after the first backward pass and ``second_step()``, or ``step()``,
    after the second. The weights come back from a copy, bit by bit, also where the second pass raises.

    With a `torch.amp.GradScaler` the second call is ``scaler.step(optimizer)``. A non-finite gradient in either pass
    leaves out the step, and the weights come back. The first gradient needs no unscaling.

    Attributes:
        model: the model whose running statistics are kept as they are after the first pass, or None.
        same_dropout: whether the second pass draws the same random numbers as the first.
        is_displaced: True between the two passes.
    """

    settings: ClassVar[tuple[str, ...]] = ("is_displaced",)
    options: ClassVar[Mapping[str, str]] = {"same_dropout": "same_dropout"}
    usual_base = "sgd"
    is_scale_free: ClassVar[bool] = True
    """True if the move does not change where the gradient is multiplied by a number, as a scaler does."""

    def __init__(self, base: torch.optim.Optimizer, model: nn.Module | None = None, same_dropout: bool = False) -> None:
        self.model = model
        self.same_dropout = same_dropout
        self.is_displaced = False
        self._was_finite = True
        self._statistics: list[tuple[Tensor, Tensor]] = []
        super().__init__(base)
        if asks_for_gradients(base):
            raise ValueError(
                f"{type(self).__name__} asks for two gradients and hands on one, and {type(base).__name__} asks for "
                "gradients itself; take another optimizer inside"
            )

    def _begin(self) -> None:
        super()._begin()
        self.is_displaced = False

    @abstractmethod
    def _moves(self, params: list[Tensor]) -> Iterable[Tensor] | None:
        """Return a move of each parameter, from its gradient; None if a gradient is not finite."""

    def _combine(self) -> None:
        """Change the second gradient before the step. Most wrappers leave it."""

    @property
    def needs_gradients(self) -> bool:
        """True: a step takes two gradients."""
        return True

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """True, so that a scaler calls ``step`` also where it has found a gradient that is not finite."""
        return True

    def step(self, closure: Closure | None = None) -> Any:
        """Perform one update.

        Args:
            closure: function that does ``zero_grad``, forward and backward, and returns the loss or None. It is called
                twice. Without it, this is the second of two calls; see `first_step`.

        Returns:
            The closure's first loss.

        Raises:
            TypeError: a closure is missing, and `first_step` was not called.
            RuntimeError: there is a closure after `first_step`, or under a GradScaler.
        """
        if closure is None:
            if not self.is_displaced:
                raise TypeError(f"{type(self).__name__} needs the gradient twice: {HOW}")
            return self._second_pass_done()
        if self.is_displaced:
            raise RuntimeError("step(closure) after first_step() would begin anew; call second_step(), or step()")
        if self._is_scaled:
            raise RuntimeError(
                "a GradScaler does not see the gradients that a closure makes; call optimizer.first_step() after the "
                "first backward pass and scaler.step(optimizer) after the second"
            )
        return self._step_by(closure)

    def _step_by(self, closure: Closure) -> Any:
        with torch.enable_grad(), torch.random.fork_rng(**self._drawn_from()):
            loss = closure()
        self._first_pass_done()
        try:
            with torch.enable_grad():
                closure()
        except BaseException:
            self._restore()
            raise
        self._second_pass_done()
        return loss

    def first_step(self, zero_grad: bool = False, *, scaler: torch.amp.GradScaler | None = None) -> None:
        """Move the weights by the gradient that is there, for a second pass.

        Args:
            zero_grad: whether to reset the gradients afterwards.
            scaler: the scaler, if its ``unscale_`` was called for the first gradient, which is not needed. It then
                begins anew, so that it unscales the second gradient too.

        Raises:
            RuntimeError: it was called already, or ``same_dropout`` is set.
        """
        if self.is_displaced:
            raise RuntimeError("first_step() was called twice; call second_step(), or step(), after the second pass")
        if self.same_dropout:
            raise RuntimeError("same_dropout=True must see the first pass begin; call step(closure)")
        self._first_pass_done()
        if scaler is not None and scaler.is_enabled():
            scaler.update(scaler.get_scale())
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Put the weights back, and let the optimizer inside step by the gradient that is there.

        Args:
            zero_grad: whether to reset the gradients afterwards.
        """
        if not self.is_displaced:
            raise RuntimeError("second_step() follows first_step(), which was not called")
        self.step()  # with its hooks, and what schedules have put around it
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def _first_pass_done(self) -> None:
        params = [p for p in self._parameters() if p.grad is not None]
        for p in params:
            if p.grad is not None and p.grad.is_sparse:
                raise ValueError(f"{type(self).__name__} takes dense gradients; build the embedding with sparse=False")
        self._statistics = [(buffer, buffer.clone()) for buffer in running_statistics(self.model)]
        moves = self._moves(params)
        self._was_finite = moves is not None
        self.is_displaced = True
        for p, move in zip(params, moves or (), strict=moves is not None):
            self.own[p]["old_p"] = p.detach().clone()
            p.add_(move)

    @torch.no_grad()
    def _second_pass_done(self) -> None:
        self._restore()
        if self._is_scaled:
            if bool(self.found_inf) or not self._was_finite:
                return
            self._unscale()
        self._combine()
        self.base.step()

    @torch.no_grad()
    def _restore(self) -> None:
        self.is_displaced = False
        for p, held in self.own.items():
            if "old_p" in held:
                p.copy_(held.pop("old_p"))
        for buffer, value in self._statistics:
            buffer.copy_(value)
        self._statistics = []

    @property
    def _is_scaled(self) -> bool:
        """True inside a scaler's step."""
        return "found_inf" in vars(self)

    def _unscale(self) -> None:
        """Divide the second gradient by its scale, if the scaler has not done it before."""
        if not self.is_scale_free:
            raise RuntimeError(
                f"{type(self).__name__} moves by the gradient itself, which a GradScaler has multiplied; train in "
                "bfloat16, or without the scaler"
            )
        scale = vars(self).get("grad_scale")
        if scale is not None:
            for p in self._parameters():
                if p.grad is not None:
                    p.grad.div_(scale.to(p.grad.device))

    def _drawn_from(self) -> dict[str, Any]:
        """Return the arguments of ``fork_rng``: the generators that the first pass draws from."""
        devices = {p.device for p in self._parameters() if p.device.type not in ("cpu", "meta")}
        kind = {"device_type": next(iter(devices)).type} if devices else {}
        return {"devices": [d.index for d in devices], "enabled": self.same_dropout, **kind}


def running_statistics(model: nn.Module | None) -> Iterator[Tensor]:
    """Yield the running statistics of a model's normalisations, with their counts."""
    for module in () if model is None else model.modules():
        if getattr(module, "track_running_stats", False):
            yield from module.buffers(recurse=False)
