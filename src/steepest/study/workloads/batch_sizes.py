"""The reference study's network with three batch sizes: all examples, 256, two."""

from collections.abc import Mapping

from torch.nn.functional import cross_entropy

from steepest.study.data import fashion_mnist as data
from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Size, Workload, workload
from steepest.study.workloads import fashion_mnist as reference

# A full batch of this network takes 1.2 MB of activations per image: 2,000 images stay under 3 GB.
SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(48, 48, 48), "horizon": 5, "seeds": 2, "trials": 2},
    "quick": {"sizes": Sizes(288, 150, 200), "horizon": 12, "seeds": 6, "trials": 4},
    "full": {"sizes": Sizes(2_000, 1_000, 2_000), "horizon": 40, "seeds": 10, "trials": 16},
}
# Targets: passed in single runs with the settings below; after how many epochs was not measured.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (0.2, 0.35, 0.45),
    "quick": (0.2, 0.35, 0.45),
    "full": (0.5, 0.6, 0.7),
}


def _reference(preset: str, batch_size: int) -> Workload:
    return Workload(
        data=data.load,
        network="CNN 72-256-128 with batch normalisation",
        model=reference.model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=batch_size,
        settings={
            "sgd": {"lr": 0.1},
            "nag": {"lr": 0.01, "momentum": 0.9},
            "adagrad": {"lr": 0.01, "eps_in_sqrt": True},
            "adam": {"lr": 0.01},
        },
        target=TARGETS[preset],
        # a fiftieth of all images
        margin=0.02,
        **SIZES[preset],
    )


@workload
def fashion_mnist_full_batch(preset: str) -> Workload:
    """Fashion-MNIST, the reference network on full batches.

    Every update uses the gradient over all training images, one update per epoch. Batch normalisation's running
    statistics take some ten updates to settle, and cost accuracy until then. Its siblings batch-256 and batch-2 differ
    only in the batch size.
    """
    return _reference(preset, SIZES[preset]["sizes"].train)


@workload
def fashion_mnist_batch_256(preset: str) -> Workload:
    """Fashion-MNIST, the reference network on batches of 256.

    The batch size of the reference study, on the small training set of its siblings full-batch and batch-2.
    """
    return _reference(preset, 256)


@workload
def fashion_mnist_batch_2(preset: str) -> Workload:
    """Fashion-MNIST, the reference network on batches of two.

    Very noisy updates, and batch normalisation over two images, whose statistics differ much from those that the
    network is evaluated with. Its siblings full-batch and batch-256 differ only in the batch size.
    """
    return _reference(preset, 2)
