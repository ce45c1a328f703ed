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
    from .rules.adabelief import AdaBelief as AdaBelief
    from .rules.adadelta import Adadelta as Adadelta
    from .rules.adafactor import Adafactor as Adafactor
    from .rules.adagrad import Adagrad as Adagrad
    from .rules.adam import Adam as Adam
    from .rules.adam import AdamW as AdamW
    from .rules.adam_atan2 import AdamAtan2 as AdamAtan2
    from .rules.adamax import Adamax as Adamax
    from .rules.adan import Adan as Adan
    from .rules.ademamix import AdEMAMix as AdEMAMix
    from .rules.ademamix import SimplifiedAdEMAMix as SimplifiedAdEMAMix
    from .rules.adopt import ADOPT as ADOPT
    from .rules.aggmo import AggMo as AggMo
    from .rules.asgd import ASGD as ASGD
    from .rules.laprop import LaProp as LaProp
    from .rules.lion import Lion as Lion
    from .rules.momentum import NAG as NAG
    from .rules.momentum import Momentum as Momentum
    from .rules.muon import Muon as Muon
    from .rules.nadam import NAdam as NAdam
    from .rules.novograd import NovoGrad as NovoGrad
    from .rules.qhm import QHM as QHM
    from .rules.qhm import QHAdam as QHAdam
    from .rules.radam import RAdam as RAdam
    from .rules.rmsprop import RMSprop as RMSprop
    from .rules.rprop import Rprop as Rprop
    from .rules.sgd import SGD as SGD
    from .rules.signum import Signum as Signum
    from .rules.sparse_adam import SparseAdam as SparseAdam
    from .rules.yogi import Yogi as Yogi

__all__ = [
    "ADOPT",
    "ASGD",
    "LBFGS",
    "NAG",
    "QHM",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamAtan2",
    "AdamW",
    "Adamax",
    "Adan",
    "AggMo",
    "Field",
    "LaProp",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "NovoGrad",
    "Optimizer",
    "QHAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Rule",
    "Signum",
    "SimplifiedAdEMAMix",
    "SparseAdam",
    "State",
    "SteepestDescent",
    "Yogi",
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
