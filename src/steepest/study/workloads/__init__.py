"""The workloads, one file each. A new file in this folder adds a workload.

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
    declarations = [declared for module in modules for declared in _declared(module)]
    return {declared.name: declared for declared in sorted(declarations, key=lambda declared: declared.name)}


def find(text: str) -> Declared:
    """Return the workload of this name, or of a file: `FILE.py`, or `FILE.py:FUNCTION` if it declares several."""
    file, _, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    if file.endswith(".py"):
        return _in_file(file, function)
    try:
        return workloads()[text.lower()]
    except KeyError:
        raise UsageError(choices("workload", text, workloads()) + " Or give a file: my_task.py") from None


def _in_file(file: str, function: str) -> Declared:
    module, file = user_files.load(file), str(Path(file))
    declarations = (declared for declared in _declared(module) if declared.function.__module__ == module.__name__)
    by_name = {declared.function.__name__: declared for declared in declarations}
    if not by_name:
        raise UsageError(
            f"{file} declares no workload and no experiment; put @steepest.study.workload above a function, or "
            "@steepest.study.experiment above a training loop"
        )
    if not function and len(by_name) > 1:
        names = ", ".join(f"{file}:{name}" for name in by_name)
        raise UsageError(f"{file} declares several workloads and experiments; name one: {names}")
    name = function or next(iter(by_name))
    if name not in by_name:
        raise UsageError(choices(f"workload of {file}", name, by_name))
    return replace(by_name[name], source=f"{file}:{name}")


def _declared(module: ModuleType) -> list[Declared]:
    return [value for value in vars(module).values() if isinstance(value, Declared)]


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
