"""The workloads, one file each; dropping a file in here is all that adding one takes.

Modules whose names begin with an underscore hold what several workloads share.
"""

import importlib
import pkgutil
from functools import cache

from steepest.study.errors import UsageError
from steepest.study.suggest import choices
from steepest.study.workload import Workload


@cache
def workloads() -> dict[str, Workload]:
    """Return every workload that a module of this package declares as `WORKLOAD`, by name."""
    modules = (importlib.import_module(f"{__name__}.{module}") for module in _modules())
    found: list[Workload] = [module.WORKLOAD for module in modules]
    return {workload.name: workload for workload in sorted(found, key=lambda workload: workload.name)}


def find(name: str) -> Workload:
    """Return the workload of this name, or say which one may have been meant."""
    try:
        return workloads()[name.lower()]
    except KeyError:
        raise UsageError(choices("workload", name, workloads())) from None


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
