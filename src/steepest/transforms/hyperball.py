"""Matrices of constant norm: the update turns a matrix, and never makes it longer or shorter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..fields import Options, State, hyper
from ..matrices import is_matrix
from ..orthogonal import matrix_norm
from ..rule import Rule, Update, Values, Wrapper
from ..sharding import whole
from ..vocabulary import maximum, norm, where
from .base import Transform

TINY = 1e-30
"""Divisor in place of a norm of 0."""


def _is_on(options: Options) -> bool:
    return bool(options["hyperball"])


RADIUS = "init_norm"


def _radius(kind: str) -> State:
    return State(RADIUS, kind, when=_is_on, where=is_matrix)


def on_hyperball(length: Callable[[Any], Any]) -> Wrapper:
    """Return the step from θ along u = (θ - θ')/η, and back to the norm R that θ had at first.

    θ' is the result of the rule. The step is q = θ - ηR u/‖u‖, then θ ← R q/‖q‖. A parameter without the state R is
    left to the rule.

    Source: Wen et al. 2026, "Hyperball optimization", arXiv:2606.16899.
    """

    def wrap(update: Update) -> Update:
        def turned(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            new_p, new_state = update(p, g, state, scalars)
            if new_p is p or RADIUS not in state:
                return new_p, new_state
            radius = where(state[RADIUS] > 0, state[RADIUS], length(p))
            moved = p - new_p
            size = length(moved)
            q = p - (scalars["lr"] * radius / maximum(size, TINY)) * moved
            back = q * (radius / maximum(length(q), TINY))
            return where(size <= 0, p, back), {**new_state, RADIUS: radius}

        return turned

    return wrap


OF_TENSORS, OF_MATRICES = on_hyperball(norm), on_hyperball(matrix_norm)
"""The wrappers, made once: equal programs have the same ones."""


def _wrapper(rule: Rule, options: Options) -> Wrapper | None:
    if not options.get("hyperball"):
        return None
    return OF_MATRICES if rule.kind == "matrix" else OF_TENSORS


def _check(rule: Rule, options: Options) -> None:
    if not _is_on(options):
        return
    if rule.kind == "driver" or "lr" not in options:
        raise ValueError(
            f"hyperball=True turns by the angle lr, and {rule.fn.__name__} finds its steps itself; leave it"
        )
    if rule.evaluated is not None:
        raise ValueError(
            f"hyperball=True keeps the norms of the weights that are trained, and {rule.fn.__name__} evaluates others; "
            "leave it out"
        )
    decay = options.get("weight_decay")
    if isinstance(decay, Tensor) or decay:
        raise ValueError(
            f"hyperball=True keeps norms as they are, and weight_decay={decay!r} changes them; give it as 0"
        )
    for p in options.get("params", ()):
        if is_matrix(p) and p.numel() and not p.is_meta and not bool(whole(p.detach().any())):
            raise ValueError(
                f"hyperball=True keeps the norm of every matrix, and one of shape {tuple(p.shape)} is zero, so that it "
                "would stay zero; initialise it with other numbers, or give it to a group with hyperball=False"
            )


HYPERBALL = Transform(
    _wrapper,
    {"hyperball": hyper(False, "turn matrices by an angle of about η and keep their norms; vectors move as they do")},
    (_radius("tensor_scalar"),),
    of_matrices=(_radius("matrix_scalar"),),
    takes_elements=False,
    kind="per_tensor",
    check=_check,
)
