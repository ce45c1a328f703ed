"""Steepest: every optimizer as one readable update rule, and honest studies that compare them."""

from typing import TYPE_CHECKING, Any

from . import registry as _registry
from .fields import Field, State
from .optimizer import Optimizer
from .rule import Rule

__version__ = "0.1.0"

_found = {_class.__name__: _class for _class in _registry.optimizers().values()}
globals().update(_found)
__all__ = ["Field", "Optimizer", "Rule", "State", "__version__", *sorted(_found)]

if TYPE_CHECKING:
    # The classes are found, not listed; a type checker sees their signatures in steepest.rules.adam and so on.
    def __getattr__(name: str) -> Any: ...
