"""Landscapes: the paths of optimizers on surfaces of a few numbers, drawn so that they can be compared.

`trace("rosenbrock", ["adam", "sgd"]).figure()` draws the paths of two optimizers. A surface of your own is a function
of a tensor of two numbers; with options of its own it stands under `@surface`.
"""

from typing import TYPE_CHECKING, Final

from steepest.study.lazy import loader

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

# Loaded when asked for: the package needs what the extra `study` installs.
__getattr__ = loader(__name__, "landscapes", _HOMES)
