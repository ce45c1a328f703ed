"""Unscaling of gradients, for mixed precision with `torch.amp.GradScaler`. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

from ..fields import Options
from ..rule import Rule, Update, Values, Wrapper
from ..vocabulary import rescaled
from .base import Transform

GRAD_SCALE = "grad_scale"
"""Name of the number by which gradients are still multiplied, in torch's word."""

FOUND_INF = "found_inf"
"""Name of the number that is not 0 where the step is left out, in torch's word. A step has it among its numbers only if
executors read it on the device.
"""


def unscaled(update: Update) -> Update:
    """Let the rule see ``g / grad_scale``."""

    def unscale(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, 1 / scalars[GRAD_SCALE]), state, scalars)

    return unscale


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return unscaled if GRAD_SCALE in options else None


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    return {name: shared[name] for name in (GRAD_SCALE, FOUND_INF) if name in shared}


UNSCALE = Transform(_wrapper, numbers=_numbers)


class GradScaling:
    """The part of an optimizer that `torch.amp.GradScaler` knows.

    A scaler sets ``grad_scale`` (None once the gradients are unscaled) and ``found_inf`` during a step.
    """

    param_groups: list[dict[str, Any]]

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """True for a step that unscales, as in torch where ``fused=True`` was asked for.

        Otherwise GradScaler unscales before the step.
        """
        return all(group.get("fused") for group in self.param_groups)

    def _grad_scale(self) -> Any:
        return getattr(self, "grad_scale", None)

    def _forget_scale(self) -> None:
        """Forget the scaler's numbers after a step that raised.

        The scaler does not take them back then, and they would spoil the next plain step.
        """
        vars(self).pop("grad_scale", None)
        vars(self).pop("found_inf", None)

    def _found_inf(self) -> Any:
        return getattr(self, FOUND_INF, None)

    def _has_found_inf(self) -> bool:
        found = self._found_inf()
        return found is not None and bool(found)
