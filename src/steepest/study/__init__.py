"""Studies: many training runs that together answer which optimizer is better, and how sure that is.

A file with a workload of your own imports from here: `from steepest.study import ACCURACY, Workload, workload`. A file
with a training loop of your own uses `study.experiment`, `study.Metric` and `study.Run`: `from steepest import study`.
`compare` runs a study from Python.
"""

from typing import TYPE_CHECKING, Final

from steepest.study.lazy import STUDY_PACKAGES as STUDY_PACKAGES
from steepest.study.lazy import loader

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
    from steepest.study.report.loggers.base import LoggedTrial as LoggedTrial
    from steepest.study.report.loggers.base import Logger as Logger
    from steepest.study.report.loggers.log import log_study as log_study
    from steepest.study.trials.run import Run as Run
    from steepest.study.trials.sharpness import sharpness as sharpness

_HOMES: Final = {
    ".param_groups": ("no_decay",),
    "comparison": ("compare",),
    "declaration": ("ACCURACY", "LOSS", "Experiment", "Metric", "Published", "Workload", "experiment", "workload"),
    "data.dataset": ("DataSet", "Examples"),
    "data.splits": ("Sizes",),
    "report.answer": ("Answer",),
    "report.loggers.base": ("LoggedTrial", "Logger"),
    "report.loggers.log": ("log_study",),
    "trials.run": ("Run",),
    "trials.sharpness": ("sharpness",),
}

# Loaded when asked for: the statistics and the report, which live in this package too, do without torch.
__getattr__ = loader(__name__, "studies", _HOMES)
