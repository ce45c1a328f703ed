"""The implementations that are timed: our executors, torch's class of the same name, other libraries' classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch

from ..fields import STORAGE_OPTIONS
from ..registry import Recipe
from .peers import PEERS, Peer

MODES: Final[dict[str, dict[str, bool]]] = {
    "default": {},
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""The switches of each mode, ours and torch's alike."""
SWITCHED: Final = tuple(mode for mode, switches in MODES.items() if switches)
"""The modes that need a switch. A class without any switch is in the mode ``default`` only."""
OWN: Final = "steepest"
TORCH: Final = "torch"
SHARE_OF_RATE: Final = 1e-3
"""Part of a rule's usual learning rate that it is timed with.

It is small enough that the parameters stay where they are, and large enough that a step visibly changes them."""

Build = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
Constructor = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True, eq=False)
class Implementation:
    """One way to run a rule.

    Attributes:
        source: ``steepest``, ``torch`` or a peer's package.
        mode: the mode; for a peer its class, whose name may differ from ours.
        build: constructs the optimizer, ready to step.
    """

    source: str
    mode: str
    build: Build

    @property
    def name(self) -> str:
        """The implementation's name in tables."""
        return f"{self.source} {self.mode}"


def implementations(
    recipe: Recipe, modes: Iterable[str] = tuple(MODES), peers: bool = True, torchs: Iterable[str] = SWITCHED
) -> list[Implementation]:
    """Return every implementation of the rule of ``recipe``.

    Args:
        recipe: an optimizer and its options; a learning rate that it does not give is `slow_rate`.
        modes: which of our own modes take part.
        peers: whether installed libraries take part.
        torchs: which of torch's modes take part, of those that its class has; by default all that need a switch, since
            the ratio to its best needs them and its default is one of them.
    """
    slow = recipe.with_defaults({"lr": slow_rate(recipe)})
    ours = [Implementation(OWN, mode, partial(_build_own, slow, MODES[mode])) for mode in modes]
    return ours + _torchs(slow, torchs) + (_peers(slow) if peers else [])


def slow_rate(recipe: Recipe) -> float:
    """Return the learning rate that a rule is timed with."""
    return float(SHARE_OF_RATE * recipe.optimizer.fields["lr"].default)


def _build_own(recipe: Recipe, switches: Mapping[str, bool], params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return recipe.optimizer(params, **{**recipe.options, **switches})


def _torchs(recipe: Recipe, modes: Iterable[str]) -> list[Implementation]:
    """Return torch's class of the same name in every one of ``modes`` that it has, or in its default if it has none."""
    cls = getattr(torch.optim, recipe.optimizer.__name__, None)
    if cls is None:
        return []
    accepted = inspect.signature(cls).parameters.keys()
    available = {mode: MODES[mode] for mode in modes if MODES[mode].keys() <= accepted}
    return [
        Implementation(TORCH, mode, partial(_build_torchs, recipe, cls, switches))
        for mode, switches in (available or {"default": {}}).items()
    ]


def _build_torchs(
    recipe: Recipe, cls: Constructor, switches: Mapping[str, bool], params: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    return cls(params, **arguments(recipe, cls), **switches)


def _peers(recipe: Recipe) -> list[Implementation]:
    name = recipe.optimizer.__name__
    here = [peer for peer in PEERS if name in peer.classes and peer.version is not None]
    return [Implementation(peer.package, peer.classes[name], partial(_build_peers, recipe, peer)) for peer in here]


def _build_peers(recipe: Recipe, peer: Peer, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    cls = peer.optimizer(recipe.optimizer.__name__)
    optimizer = cls(params, **arguments(recipe, cls, peer.renamed), **peer.extra)
    if peer.made_ready_by:
        getattr(optimizer, peer.made_ready_by)()
    return optimizer


def arguments(recipe: Recipe, cls: Constructor, renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the recipe's hyperparameters under the names of another library's constructor.

    Options that choose how our state is stored are left out. Coded state is compared with plain state.

    Raises:
        ValueError: an option was given that the constructor lacks, so it cannot run the same rule.
    """
    accepted = inspect.signature(cls).parameters.keys()
    passed = {}
    for name, value in recipe.resolved().items():
        argument = (renamed or {}).get(name, name)
        if argument in accepted and value is not None and recipe.optimizer.fields[name].is_hyperparameter:
            passed[argument] = value
        elif name in recipe.options.keys() - STORAGE_OPTIONS and argument not in accepted:
            raise ValueError(f"{getattr(cls, '__name__', cls)} has no option {argument!r}")
    return passed
