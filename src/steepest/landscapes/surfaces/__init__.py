"""The surfaces, one file each. A new file in this folder adds a surface."""

import importlib
import pkgutil
from functools import cache

from steepest.landscapes.declaration import Declared


@cache
def surfaces() -> dict[str, Declared]:
    """Return every surface that a module of this package declares, by name."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    declared = [value for module in modules for value in vars(module).values() if isinstance(value, Declared)]
    return {each.name: each for each in sorted(declared, key=lambda each: each.name)}
