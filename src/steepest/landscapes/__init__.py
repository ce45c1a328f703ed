"""Landscapes: the paths of optimizers on surfaces of a few numbers, drawn so that they can be compared.

`trace("rosenbrock", ["adam", "sgd"]).figure()` draws the paths of two optimizers. A surface of your own is a function
of a tensor of two numbers; with options of its own it stands under `@surface`.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from steepest.study import STUDY_PACKAGES

if TYPE_CHECKING:
    from steepest.landscapes.atlas import Basins as Basins
    from steepest.landscapes.atlas import Speeds as Speeds
    from steepest.landscapes.atlas import basins as basins
    from steepest.landscapes.atlas import speeds as speeds
    from steepest.landscapes.declaration import Draw as Draw
    from steepest.landscapes.declaration import Option as Option
    from steepest.landscapes.declaration import Surface as Surface
    from steepest.landscapes.declaration import surface as surface
    from steepest.landscapes.explaining import Explanation as Explanation
    from steepest.landscapes.explaining import explain as explain
    from steepest.landscapes.records import Path as Path
    from steepest.landscapes.traced import Traced as Traced
    from steepest.landscapes.tracing import trace as trace
    from steepest.landscapes.training import trace_training as trace_training

_HOMES: Final = {
    "atlas": ("Basins", "Speeds", "basins", "speeds"),
    "declaration": ("Draw", "Option", "Surface", "surface"),
    "explaining": ("Explanation", "explain"),
    "records": ("Path",),
    "traced": ("Traced",),
    "tracing": ("trace",),
    "training": ("trace_training",),
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for, as in steepest.study: the package needs what the extra `study` installs.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(_loaded(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _loaded(home: str) -> Any:
    try:
        return importlib.import_module(f".{home}", __name__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in STUDY_PACKAGES:
            raise
        raise ModuleNotFoundError(
            f'landscapes need {error.name}, which is not installed: pip install "steepest[study]"', name=error.name
        ) from error
