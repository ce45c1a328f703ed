"""Steepest: every optimizer as one readable update rule, and honest studies that compare them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fields import Field, State
from .optimizer import Optimizer
from .rule import Rule

__version__ = "0.1.0"

if TYPE_CHECKING:  # a list for type checkers; a test holds it equal to what is found
    from .drivers.lbfgs import LBFGS as LBFGS
    from .drivers.steepest_descent import SteepestDescent as SteepestDescent
    from .rules.adadelta import Adadelta as Adadelta
    from .rules.adafactor import Adafactor as Adafactor
    from .rules.adagrad import Adagrad as Adagrad
    from .rules.adam import Adam as Adam
    from .rules.adam import AdamW as AdamW
    from .rules.adamax import Adamax as Adamax
    from .rules.asgd import ASGD as ASGD
    from .rules.momentum import NAG as NAG
    from .rules.momentum import Momentum as Momentum
    from .rules.muon import Muon as Muon
    from .rules.nadam import NAdam as NAdam
    from .rules.novograd import NovoGrad as NovoGrad
    from .rules.radam import RAdam as RAdam
    from .rules.rmsprop import RMSprop as RMSprop
    from .rules.rprop import Rprop as Rprop
    from .rules.sgd import SGD as SGD
    from .rules.sparse_adam import SparseAdam as SparseAdam

__all__ = [
    "ASGD",
    "LBFGS",
    "NAG",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Field",
    "Momentum",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Rule",
    "SparseAdam",
    "State",
    "SteepestDescent",
    "__version__",
]


if not TYPE_CHECKING:  # with it every name would be right to a type checker

    def __getattr__(name: str) -> Any:
        """Find an optimizer's class, in rules/ and drivers/, when it is first asked for."""
        registry = import_module("steepest.registry")
        if name not in __all__:
            hint = "" if name.startswith("_") else registry.suggest(name, __all__)
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        found = registry.find(name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
