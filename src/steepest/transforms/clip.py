"""Clipping of the gradient by its norm over all groups that ask for it. ``.grad`` stays as it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..fields import Options, hyper
from ..rule import Rule, Update, Values, Wrapper
from ..sums import group_name
from ..vocabulary import rescaled
from .base import Transform


def clipped(update: Update) -> Update:
    """Let the rule see ``clip * g``, where ``clip`` is `clip_factor` of the global norm."""

    def clip(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        return update(p, rescaled(g, scalars["clip"]), state, scalars)

    return clip


def _is_on(options: Options) -> bool:
    return options["max_norm"] is not None


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    return clipped if _is_on(options) else None


def _numbers(options: Options, shared: Values) -> dict[str, Any]:
    if not _is_on(options):
        return {}
    return {"clip": clip_factor(options["max_norm"], shared["norm"]) if "norm" in shared else 1.0}


def clip_factor(max_norm: float, norm: Tensor) -> Tensor:
    """Return the factor for the gradients, as in ``torch.nn.utils.clip_grad_norm_``.

    It is NaN for a norm that is NaN.
    """
    factor: Tensor = (max_norm / (norm + 1e-6)).clip(max=1.0)  # a method that arrays of NumPy and JAX have too
    return factor


CLIP = Transform(
    _wrapper,
    {
        "max_norm": hyper(
            None,
            "largest norm of the gradient, over all groups that set it, as torch's clip_grad_norm_ has it; None: any",
            low=0.0,
        ),
        "norm_group": hyper(
            None,
            "process group, or its name, over whose ranks norms and sums add up; 'WORLD': all; None: this process",
            convert=group_name,
            words="a process group, its name or None",
        ),
    },
    numbers=_numbers,
    reads_norm=_is_on,
    takes_elements=False,
    is_global=True,
)
