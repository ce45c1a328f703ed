"""Independent float64 references of every optimizer, from the papers, with torch's conventions: numpy, no torch.

`ORACLES[name](theta0, grads, **hyperparameters)` takes a list of arrays, for each step a list of gradients (None: this
tensor has no gradient at this step) and hyperparameters named as the class's arguments. It returns for each tensor the
final "param" and its state under torch's names: arrays, and floats for the step count and other numbers. `lr` may be a
list with one rate per step.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from steepest import registry

from .averaging import weight_average
from .common import Array, Result
from .momentum import nag_lookahead
from .problems import problem, without
from .quadratic import steepest_descent


def _discovered() -> dict[str, Callable[..., list[Result]]]:
    """Every function of this package that is named like a class of the library, in lower case without underscores."""
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("test_")
    )
    functions = {
        name.replace("_", ""): function
        for module in modules
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
    }
    known = registry.optimizers().items()
    return {name: functions[name] for name, cls in known if cls.rule.kind != "driver" and name in functions}


ORACLES = _discovered()
"""The reference of each class, found by its name: one that is added needs no line here."""

__all__ = ["ORACLES", "Array", "Result", "nag_lookahead", "problem", "steepest_descent", "weight_average", "without"]
