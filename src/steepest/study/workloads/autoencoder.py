"""A deep autoencoder on Fashion-MNIST: the classic hard case for plain gradient descent."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from steepest.study.data import fashion_mnist
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.splits import Sizes
from steepest.study.declaration import Metric, Size, Workload, workload

WIDTHS: Final = (784, 256, 64, 16)


def load(data_dir: Path | None = None) -> DataSet:
    """Return Fashion-MNIST with the images as targets. They stay bytes, because floats would be four times larger."""
    data = fashion_mnist.load(data_dir)
    return replace(data, train=_itself(data.train), test=_itself(data.test))


def _itself(images: Examples) -> Examples:
    return Examples(images.inputs, images.inputs, images.divisor)


def model() -> nn.Module:
    """Return an encoder 784-256-64-16 and its mirror image, with ReLU inside and a sigmoid at the end."""
    layers: list[nn.Module] = [nn.Flatten()]
    widths = (*WIDTHS, *WIDTHS[-2::-1])
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared distance to the image, summed over its pixels in [0, 1], for every example."""
    return (outputs - targets.flatten(1).float() / 255).square().sum(dim=1)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of an image."""
    return squared_error(outputs, targets).mean()


SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(512, 256, 256), "horizon": 6, "evaluations": 2, "seeds": 2, "trials": 2},
    "quick": {"sizes": Sizes(6_000, 1_000, 1_000), "horizon": 10, "evaluations": 2, "seeds": 6, "trials": 8},
    "full": {"sizes": Sizes(55_000, 5_000, 10_000), "horizon": 20, "seeds": 10, "trials": 16},
}
# Targets: passed in single runs with the settings below; after how many epochs was not measured.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (90.0, 70.0, 50.0),
    "quick": (30.0, 22.0, 18.0),
    "full": (15.0, 12.0, 10.0),
}


@workload
def autoencoder(preset: str) -> Workload:
    """Fashion-MNIST, deep autoencoder.

    Images pass through 16 numbers and are to come out as they went in; six linear layers, the squared error. Plain
    gradient descent lingers on the plateaus of such networks, which made them the test of second-order methods.
    """
    return Workload(
        data=load,
        network="MLP 784-256-64-16-64-256-784",
        model=model,
        loss=loss,
        metric=Metric("squared_error", "minimize", squared_error),
        batch_size=128,
        settings={
            "sgd": {"lr": 0.03},
            "nag": {"lr": 0.01, "momentum": 0.9},
            "rmsprop": {"lr": 0.001},
            "adam": {"lr": 0.01},
            "nadam": {"lr": 0.003},
        },
        target=TARGETS[preset],
        # a fiftieth of the last target of `full`
        margin=0.2,
        **SIZES[preset],
    )
