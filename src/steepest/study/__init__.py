"""Studies that compare optimizers: workloads, trials, records on disk, and the report made from them.

    from steepest.study import ACCURACY, Workload, compare, workload

`workload` declares a task for the command line, `compare` runs a study from Python.
"""

from steepest.study.comparison import Answer, compare
from steepest.study.declaration import ACCURACY, LOSS, Metric, Published, Workload, workload

__all__ = ["ACCURACY", "LOSS", "Answer", "Metric", "Published", "Workload", "compare", "workload"]
