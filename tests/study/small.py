"""Workloads of twenty lines, as users write them, and the plans of studies on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.declaration import ACCURACY, Declared, Workload
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request

COUNT = 90
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
CLASSES = (X[:, 0] > 0).long()
NUMBERS = X.sum(dim=1)


def net(outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


def small(**changes: Any) -> Workload:
    """Return points of two classes and a network for them; everything may be another one."""
    usual: dict[str, Any] = {"data": (X, CLASSES), "model": net, "loss": cross_entropy, "metric": ACCURACY}
    return Workload(**{**usual, "batch_size": 16, "horizon": 2, "seeds": 1, "trials": 0, **changes})


def fitted(model: Callable[[], nn.Module], loss: Callable[[Tensor, Tensor], Tensor], **changes: Any) -> Workload:
    """Return numbers to be predicted."""
    return small(data=(X, NUMBERS), model=model, loss=loss, **changes)


def planned(workload: Workload, *optimizers: str, **wanted: Any) -> Plan:
    declared = Declared("small", lambda: workload, "small", workload.model)
    request = Request(declared, "smoke", optimizers or ("sgd",), **{"timing_rounds": 0, **wanted})
    return make_plan(request, adapt.load(workload.data), "command")


def planned_experiment(path: Path | str, *optimizers: str, **wanted: Any) -> Plan:
    """Plan a study of an experiment, `FILE.py` or `FILE.py:NAME`, at its smallest size."""
    usual = {"trials_wanted": 0, "timing_rounds": 0, "threads": 1}
    request = Request(workloads.find(str(path)), "smoke", optimizers, **{**usual, **wanted})
    return make_plan(request, None, "command")
