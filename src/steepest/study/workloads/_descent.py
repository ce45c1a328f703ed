"""What the three gradient-descent workloads share: one rule, one network, one data set, three batch sizes."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import digits
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Workload

TRAIN = 1_137


def model() -> nn.Module:
    """Return a network with one hidden layer and no batch normalisation, which a batch of one example would break."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"sizes": Sizes(128, 64, 64), "horizon": 1, "seeds": 1, "trials": 0},
    "quick": {"sizes": Sizes(TRAIN, 300, 360), "horizon": 10, "seeds": 3, "trials": 0},
    "full": {"sizes": Sizes(TRAIN, 300, 360), "horizon": 50, "seeds": 5, "trials": 0},
}


def descent(preset: str, batch_size: int, **others: Mapping[str, Any]) -> Workload:
    """Return gradient descent on the digits with a batch size; `others` are settings beside plain SGD's."""
    return Workload(
        data=digits.load,
        network="MLP 64-32-10",
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=batch_size,
        settings={"sgd": {"lr": 0.1}, **others},
        **SIZES[preset],
    )
