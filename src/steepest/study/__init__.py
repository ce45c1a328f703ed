"""Studies: many training runs that together answer which optimizer is better, and how sure that is.

A file with a workload of your own imports from here: `from steepest.study import ACCURACY, Workload, workload`. A file
with a training loop of your own uses `study.experiment`, `study.Metric` and `study.Run`: `from steepest import study`.
`compare` runs a study from Python.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from steepest.param_groups import no_decay as no_decay
    from steepest.study.comparison import compare as compare
    from steepest.study.data.dataset import DataSet as DataSet
    from steepest.study.data.dataset import Examples as Examples
    from steepest.study.data.splits import Sizes as Sizes
    from steepest.study.declaration import ACCURACY as ACCURACY
    from steepest.study.declaration import LOSS as LOSS
    from steepest.study.declaration import Experiment as Experiment
    from steepest.study.declaration import Metric as Metric
    from steepest.study.declaration import Published as Published
    from steepest.study.declaration import Workload as Workload
    from steepest.study.declaration import experiment as experiment
    from steepest.study.declaration import workload as workload
    from steepest.study.report.answer import Answer as Answer
    from steepest.study.trials.run import Run as Run

STUDY_PACKAGES: Final = ("typer", "rich", "numpy", "scipy", "sklearn", "matplotlib", "plotly", "jinja2")
"""The packages that the extra `steepest[study]` installs, by the names that are imported."""

_HOMES: Final = {
    ".param_groups": ("no_decay",),
    "comparison": ("compare",),
    "declaration": ("ACCURACY", "LOSS", "Experiment", "Metric", "Published", "Workload", "experiment", "workload"),
    "data.dataset": ("DataSet", "Examples"),
    "data.splits": ("Sizes",),
    "report.answer": ("Answer",),
    "trials.run": ("Run",),
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the statistics and the report, which live in this package too, do without torch.
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
            f'studies need {error.name}, which is not installed: pip install "steepest[study]"', name=error.name
        ) from error
