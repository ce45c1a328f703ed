"""Common parts of the three gradient-descent workloads: rule, network and data set. They differ in the batch size."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import digits
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Size, Workload

TRAIN = 1_137


def model() -> nn.Module:
    """Return a network with one hidden layer and no batch normalisation, which a batch of one example would break."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(128, 64, 64), "horizon": 1, "seeds": 1, "trials": 0},
    "quick": {"sizes": Sizes(TRAIN, 300, 360), "horizon": 10, "seeds": 3, "trials": 0},
    "full": {"sizes": Sizes(TRAIN, 300, 360), "horizon": 50, "seeds": 5, "trials": 0},
}
# Targets, the same for the three, so that their times can be compared: those of `quick` were crossed after 4, 5 and 7
# of 10 epochs by steepest descent on full batches, 2, 3 and 4 on batches of 32, and within the first on single
# examples.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (0.5, 0.7, 0.8),
    "quick": (0.5, 0.7, 0.8),
    "full": (0.8, 0.9, 0.92),
}


def descent(preset: str, batch_size: int, **others: Mapping[str, Any]) -> Workload:
    """Return gradient descent on the digits with a batch size; `others` are settings in addition to plain SGD's."""
    return Workload(
        data=digits.load,
        network="MLP 64-32-10",
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=batch_size,
        settings={"sgd": {"lr": 0.1}, **others},
        target=TARGETS[preset],
        # three of the 300 validation images
        margin=0.01,
        **SIZES[preset],
    )
