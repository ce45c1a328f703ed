"""Base of optimizers around another optimizer, which they use by its public interface."""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checkpoint import arranged
from ..fields import Search
from ..optimizer import Optimizer
from ..transforms.average import KEEPING

LEVEL = "wrapper"
"""Key in a state dict of the part that is the wrapper's own."""

FORWARDED = frozenset(
    {
        "averaged",
        "averaged_state_dict",
        "eval",
        "executor",
        "explain",
        "first_step",
        "keeps_averages",
        "train",
        "update_hessian",
    }
)
"""Methods and properties that a wrapper lends from the optimizer inside, if that has them."""

NOT_COPIED = frozenset({"_zero_grad_profile_name", "step", "grad_scale", "found_inf"})
"""Attributes that pickle and deepcopy leave out: what torch, schedules and scalers put into an optimizer."""

Closure = Callable[[], Any]


class Wrapper(torch.optim.Optimizer):
    """Base of optimizers around another one.

    Groups, state and defaults are those of the optimizer inside, so schedules and loggers see and set its rates. Hooks
    are the wrapper's own. A state dict has the inner optimizer's two entries, which the plain optimizer loads too, and
    a third with the wrapper's settings and state. A state dict of the plain optimizer begins a new wrapper's state.

    Attributes:
        base: the optimizer inside.
        own: the wrapper's state of each parameter. It is apart from the base's, whose step may look for an empty one.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that are saved with the state."""
    options: ClassVar[Mapping[str, str]] = {}
    """The constructor's arguments by the names that they have next to the options of the optimizer inside."""
    search: ClassVar[Mapping[str, Search]] = {}
    """Ranges that a study searches, by the names in `options`."""
    usual_base: ClassVar[str] = "adamw"
    """The library's optimizer inside, where none is named."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        _check_optimizer(type(self).__name__, base)
        self.base = base
        self.own: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        super().__setstate__({})  # torch's own way to an optimizer with hooks, without groups of its own
        self._begin()

    @classmethod
    def parted(cls, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments of the wrapper among ``options``, and the others, which are for the optimizer inside."""
        own = {cls.options[name]: value for name, value in options.items() if name in cls.options}
        return own, {name: value for name, value in options.items() if name not in cls.options}

    @classmethod
    def usual(cls) -> dict[str, Any]:
        """Return the default of every option."""
        arguments = inspect.signature(cls).parameters
        return {name: arguments[argument].default for name, argument in cls.options.items()}

    def _begin(self) -> None:
        """Begin the wrapper's own state, at construction and after a plain optimizer's state was loaded."""
        self.own.clear()

    # -- what is the base's ------------------------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer inside."""
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.base.param_groups = groups

    @property
    def state(self) -> Any:
        """The state of the optimizer inside."""
        return self.base.state

    @state.setter
    def state(self, state: Any) -> None:
        self.base.state = state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """A copy of the defaults of the optimizer inside."""
        return dict(self.base.defaults)

    @property
    def needs_gradients(self) -> bool:
        """True if a step asks for new gradients, so that it needs a closure."""
        return asks_for_gradients(self.base)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the optimizer inside."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, as in torch."""
        self.base.zero_grad(set_to_none=set_to_none)

    def __getattr__(self, name: str) -> Any:
        """Lend the methods in `FORWARDED` from the optimizer inside."""
        if name in FORWARDED and "base" in vars(self):
            return getattr(self.base, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        """Return the wrapper with its settings, around the optimizer inside."""
        shown = ", ".join(f"{name}={value!r}" for name in self.settings if _is_plain(value := getattr(self, name)))
        return f"{type(self).__name__}({shown}) around {self.base!r}"

    # -- state dicts, pickle, deepcopy -------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that pickle and deepcopy keep: all but hooks, as in torch."""
        kept = vars(self).items()
        return {name: value for name, value in kept if not (name.startswith("_optimizer_") or name in NOT_COPIED)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the optimizer inside, with the wrapper's own part under ``"wrapper"``."""

        def both(_: Any, made: dict[str, Any]) -> dict[str, Any]:
            return self._both_levels()

        hook = self.register_state_dict_post_hook(both, prepend=True)  # before anybody else's
        try:
            return super().state_dict()
        finally:
            hook.remove()

    def _both_levels(self) -> dict[str, Any]:
        saved = self.base.state_dict()
        ids = [i for group in saved["param_groups"] for i in group["params"]]
        state = {i: dict(self.own[p]) for i, p in zip(ids, self._parameters(), strict=True) if self.own.get(p)}
        settings = {name: getattr(self, name) for name in self.settings}
        own = {"class": type(self).__name__, "settings": settings, "state": state, "base": saved.get(LEVEL)}
        return {**saved, LEVEL: own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict of this class around such an optimizer, or one of the optimizer inside.

        Raises:
            ValueError: the state dict is another wrapper's, or the groups differ.
        """
        given = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, given)
            given = given if changed is None else changed
        own = given.get(LEVEL)
        if own is not None and own["class"] != type(self).__name__:
            raise ValueError(
                f"the state dict is that of {own['class']}, and this optimizer is {type(self).__name__}; load it into "
                "the wrapper that it was saved from"
            )
        inside = {name: value for name, value in given.items() if name != LEVEL}
        self._load(inside if own is None or own["base"] is None else {**inside, LEVEL: own["base"]}, own)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _load(self, inside: dict[str, Any], own: Mapping[str, Any] | None) -> None:
        saved = inside["param_groups"]
        groups = arranged(self.param_groups, saved) if isinstance(innermost(self), Optimizer) else saved
        self.base.load_state_dict(inside)
        self._begin()
        if own is None:
            return
        ids = [i for group in groups for i in group["params"]]
        for i, p in zip(ids, self._parameters(), strict=True):
            held = own["state"].get(i, {})
            self.own[p] = {name: value.to(device=p.device, dtype=p.dtype, copy=True) for name, value in held.items()}
        for name, value in own["settings"].items():
            setattr(self, name, copy.deepcopy(value))

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer inside all wrappers."""
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.base
    return optimizer


def asks_for_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a step needs a closure: an optimizer of ours declares it, or the signature requires it."""
    if isinstance(optimizer, Optimizer):
        return optimizer.needs_closure(optimizer.param_groups[0])
    if isinstance(optimizer, Wrapper):
        return optimizer.needs_gradients
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def refuse_other_weights(name: str, base: torch.optim.Optimizer) -> None:
    """Raise `ValueError` for an optimizer that keeps weights which a wrapper would leave behind as it moves others."""
    kept = [o for group in base.param_groups for o in KEEPING if group.get(o) is not None]
    if kept or callable(getattr(base, "eval", None)):
        other = f"{kept[0]}=" if kept else f"{type(base).__name__}, which evaluates other weights than it trains,"
        raise ValueError(
            f"{name} moves the weights after the optimizer inside, so {other} would keep weights that nobody trains; "
            "leave it out"
        )


def own_names(*arguments: str) -> Mapping[str, str]:
    """Return arguments as options of the same names; see `Wrapper.options`."""
    return {name: name for name in arguments}


def require(name: str, value: Any, holds: bool, allowed: str) -> None:
    """Raise `ValueError` for an argument out of bounds."""
    if not holds:
        raise ValueError(f"Invalid {name} value: {value!r} ({name} must be {allowed})")


def _check_optimizer(name: str, base: Any) -> None:
    if not isinstance(base, torch.optim.Optimizer):
        kind = f"the class {base.__name__}" if isinstance(base, type) else f"a {type(base).__name__}"
        raise TypeError(f"{name} is built around an optimizer, not {kind}: {name}(AdamW(model.parameters()))")
    if isinstance(base, Optimizer) and base.needs_loss(base.param_groups[0]):
        raise ValueError(
            f"{type(base).__name__} steps by the loss of its own weights, which {name} does not hand on; take another "
            "optimizer inside"
        )


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str | tuple) or value is None
