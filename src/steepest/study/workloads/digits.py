"""Scikit-learn's digits with a tiny convolutional network: seconds per trial, every kind of layer."""

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import digits
from steepest.study.data.splits import Sizes
from steepest.study.workload import ACCURACY, Preset, Workload


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


WORKLOAD = Workload(
    name="digits",
    title="Handwritten digits, small convolutional network",
    description=(
        "1,797 grey images of 8x8 (scikit-learn's digits), classified by one 3x3 convolution with batch normalisation, "
        "2x2 max-pooling, dropout and a linear layer. Small enough to try things out in seconds."
    ),
    load=digits.load,
    network="CNN 8 with batch normalisation and dropout",
    model=model,
    loss=cross_entropy,
    metric=ACCURACY,
    batch_size=64,
    presets={
        "smoke": Preset(Sizes(128, 64, 64), epochs=1, seeds=1),
        "quick": Preset(Sizes(1_137, 300, 360), epochs=10, seeds=3),
        "full": Preset(Sizes(1_137, 300, 360), epochs=40, seeds=5),
    },
    settings={
        "sgd": {"lr": 0.1},
        "momentum": {"lr": 0.01, "momentum": 0.9},
        "rmsprop": {"lr": 0.01},
        "adam": {"lr": 0.01},
    },
)
