"""Fashion-MNIST with a small convolutional network: the reference study."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data import fashion_mnist as data
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Published, Size, Workload, workload


def model() -> nn.Module:
    """Return the reference study's network: 28x28 -> 13 -> 5 -> 1 through unpadded convolutions, 474,670 parameters."""
    return nn.Sequential(
        *_block(1, 72),
        *_block(72, 256),
        *_block(256, 128),
        nn.Flatten(),
        nn.Linear(128, 84),
        nn.BatchNorm1d(84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def _block(channels: int, filters: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, filters, 3), nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)


class SizeAndBatch(Size):
    """A size with a batch size of its own: `quick` takes small batches for more updates."""

    batch_size: int


SIZES: Mapping[str, SizeAndBatch] = {
    "smoke": {"sizes": Sizes(512, 256, 256), "horizon": 1, "seeds": 1, "trials": 0, "batch_size": 256},
    "quick": {"sizes": Sizes(1_200, 400, 1_000), "horizon": 2, "seeds": 9, "trials": 0, "batch_size": 64},
    "full": {"sizes": Sizes(55_000, 5_000, 10_000), "horizon": 5, "seeds": 3, "trials": 0, "batch_size": 256},
}
# Targets: in the reference study's own run (docs/reference-study.md), Adagrad crossed those of `full` after 1, 2 and
# 4 of 5 epochs. The two epochs of `quick`, and the one of `smoke`, show little more than how far they are off.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (0.7, 0.75, 0.8),
    "quick": (0.7, 0.75, 0.8),
    "full": (0.86, 0.88, 0.895),
}


@workload
def fashion_mnist(preset: str) -> Workload:
    """Fashion-MNIST, three-layer convolutional network.

    Ten classes of clothes in 28x28 grey images, classified by three 3x3 convolutions (72, 256 and 128 channels,
    each with batch normalisation, ReLU and 2x2 max-pooling) and two linear layers. Inputs scaled to [0, 1], no
    augmentation, no weight decay, no schedule; learning rate 0.01 for every optimizer but AdaDelta, which has 1.
    AdaGrad, RMSProp and AdaDelta have eps inside the square root, as in the papers.
    """
    return Workload(
        data=data.load,
        network="CNN 72-256-128 with batch normalisation",
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        settings={
            "sgd": {"lr": 0.01},
            "momentum": {"lr": 0.01, "momentum": 0.9},
            "nag": {"lr": 0.01, "momentum": 0.9},
            "adagrad": {"lr": 0.01, "eps_in_sqrt": True},
            "rmsprop": {"lr": 0.01, "alpha": 0.9, "eps_in_sqrt": True},
            "adadelta": {"lr": 1.0, "rho": 0.9},
            "adam": {"lr": 0.01},
            "adamax": {"lr": 0.01},
            "nadam": {"lr": 0.01},
        },
        published=Published.read(Path(__file__).with_suffix(".json")),
        target=TARGETS[preset],
        # half a point: test accuracies of equal runs differ by as much from seed to seed
        margin=0.005,
        **SIZES[preset],
    )
