"""Scikit-learn's digits with a tiny convolutional network: seconds per trial, every kind of layer."""

from collections.abc import Mapping

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import digits as data
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Size, Workload, workload


def model() -> nn.Module:
    """Return one convolution with batch normalisation, dropout and a linear layer: 890 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * 3 * 3, 10),
    )


SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(128, 64, 64), "horizon": 1, "seeds": 1, "trials": 0},
    "quick": {"sizes": Sizes(1_137, 300, 360), "horizon": 10, "seeds": 3, "trials": 0},
    "full": {"sizes": Sizes(1_137, 300, 360), "horizon": 40, "seeds": 5, "trials": 0},
}
# Targets: with the settings below, three seeds crossed those of `quick` after 1 to 3, 2 to 5 and 4 to 8 of 10 epochs.
# A smoke study is too short for any; it has those of `quick`.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (0.85, 0.92, 0.95),
    "quick": (0.85, 0.92, 0.95),
    "full": (0.92, 0.95, 0.97),
}


@workload
def digits(preset: str) -> Workload:
    """Handwritten digits, small convolutional network.

    1,797 grey images of 8x8 (scikit-learn's digits), classified by one 3x3 convolution with batch normalisation,
    2x2 max-pooling, dropout and a linear layer. Small enough to try things out in seconds.
    """
    return Workload(
        data=data.load,
        network="CNN 8 with batch normalisation and dropout",
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=64,
        settings={
            "sgd": {"lr": 0.1},
            "momentum": {"lr": 0.01, "momentum": 0.9},
            "rmsprop": {"lr": 0.01},
            "adam": {"lr": 0.01},
        },
        target=TARGETS[preset],
        # three of the 300 validation images
        margin=0.01,
        **SIZES[preset],
    )
