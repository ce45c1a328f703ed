"""The workloads, one file each; dropping a file in here is all that adding one takes.

Modules whose names begin with an underscore hold what several workloads share.
"""

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from steepest.study import user_files
from steepest.study.declaration import Declared
from steepest.study.errors import UsageError
from steepest.study.suggest import choices


@cache
def workloads() -> dict[str, Declared]:
    """Return every workload that a module of this package declares, by name."""
    modules = (importlib.import_module(f"{__name__}.{module}") for module in _modules())
    found = [declared for module in modules for declared in _declared(module)]
    return {declared.name: declared for declared in sorted(found, key=lambda declared: declared.name)}


def find(text: str) -> Declared:
    """Return the workload of this name, or of a file: `FILE.py`, or `FILE.py:FUNCTION` where it declares several."""
    file, _, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    if file.endswith(".py"):
        return _in_file(file, function)
    try:
        return workloads()[text.lower()]
    except KeyError:
        raise UsageError(choices("workload", text, workloads()) + " Or give a file: my_task.py") from None


def _in_file(file: str, function: str) -> Declared:
    module, file = user_files.load(file), str(Path(file))
    own = (declared for declared in _declared(module) if declared.build.__module__ == module.__name__)
    found = {declared.build.__name__: declared for declared in own}
    if not found:
        raise UsageError(f"{file} declares no workload; put @steepest.study.workload above a function")
    if not function and len(found) > 1:
        names = ", ".join(f"{file}:{name}" for name in found)
        raise UsageError(f"{file} declares several workloads; name one: {names}")
    name = function or next(iter(found))
    if name not in found:
        raise UsageError(choices(f"workload of {file}", name, found))
    return replace(found[name], source=f"{file}:{name}")


def _declared(module: ModuleType) -> list[Declared]:
    return [value for value in vars(module).values() if isinstance(value, Declared)]


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
