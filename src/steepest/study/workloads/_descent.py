"""What the three gradient-descent workloads share: one rule, one network, one data set, three batch sizes."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import digits
from steepest.study.data.splits import Sizes
from steepest.study.workload import ACCURACY, Preset, Workload

TRAIN = 1_137


def model() -> nn.Module:
    """Return a network with one hidden layer and no batch normalisation, which a batch of one example would break."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def workload(name: str, title: str, lesson: str, batch_size: int, **others: Mapping[str, Any]) -> Workload:
    """Return gradient descent on the digits with a batch size; `others` are settings beside plain SGD's."""
    return Workload(
        name=name,
        title=title,
        description=(
            f"{lesson} Scikit-learn's digits, a network with one hidden layer of 32 units, learning rate 0.1. "
            "The workloads full-batch, mini-batch and single-example differ in the batch size alone."
        ),
        load=digits.load,
        network="MLP 64-32-10",
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=batch_size,
        presets={
            "smoke": Preset(Sizes(128, 64, 64), epochs=1, seeds=1),
            "quick": Preset(Sizes(TRAIN, 300, 360), epochs=10, seeds=3),
            "full": Preset(Sizes(TRAIN, 300, 360), epochs=50, seeds=5),
        },
        settings={"sgd": {"lr": 0.1}, **others},
    )
