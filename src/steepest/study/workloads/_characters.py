"""Common parts of the workloads that predict the next character: text, loss, metric, sizes."""

import math
from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy

from steepest.study.data.splits import Sizes
from steepest.study.declaration import Metric, Size


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats; outputs are (windows, characters, symbols)."""
    return cross_entropy(outputs.flatten(0, 1), targets.flatten())


def bits_per_character(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over the characters of every window, in bits."""
    nats = cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view_as(targets).mean(dim=1) / math.log(2)


BITS = Metric("bits_per_character", "minimize", bits_per_character)

SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(128, 64, 64), "horizon": 4, "evaluations": 2, "seeds": 2, "trials": 2},
    "quick": {"sizes": Sizes(1_024, 256, 256), "horizon": 8, "evaluations": 2, "seeds": 6, "trials": 4},
    "full": {"sizes": Sizes(4_608, 512, 512), "horizon": 20, "seeds": 10, "trials": 16},
}
