"""Matrix factorisation: every batch touches a few rows of two large tables. Its gradients are sparse, or dense."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from steepest.study.data import low_rank as data
from steepest.study.data.splits import Sizes
from steepest.study.declaration import Metric, Size, Workload, workload

SCALE: Final = 0.3  # of the initial weights; zero would be a saddle point


class Factorisation(nn.Module):
    """A vector of length 4 for every user and every item, whose product is the rating: 6,000 parameters."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.users = nn.Embedding(data.USERS, data.RANK, sparse=sparse)
        self.items = nn.Embedding(data.ITEMS, data.RANK, sparse=sparse)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=SCALE)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return (pairs,) ratings for (pairs, 2) numbers of user and item."""
        users, items = self.users(pairs[:, 0]), self.items(pairs[:, 1])
        ratings: Tensor = (users * items).sum(dim=1)
        return ratings


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of every rating."""
    return (outputs - targets).square()


SIZES: Mapping[str, Size] = {
    "smoke": {"sizes": Sizes(25_600, 2_000, 2_000), "horizon": 2, "evaluations": 4, "seeds": 2, "trials": 2},
    "quick": {"sizes": Sizes(45_000, 5_000, 5_000), "horizon": 10, "evaluations": 2, "seeds": 10, "trials": 8},
    "full": {"sizes": Sizes(45_000, 5_000, 5_000), "horizon": 40, "seeds": 10, "trials": 16},
}
# Targets: with Adagrad and the tuned studies' schedule, three seeds crossed those of `quick` after 2, 3 and 6 to 7 of
# 10 epochs.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (0.9, 0.8, 0.7),
    "quick": (0.1, 0.02, 0.0125),
    "full": (0.05, 0.015, 0.012),
}


def _factorisation(preset: str, *, sparse: bool, **others: Mapping[str, Any]) -> Workload:
    return Workload(
        data=data.load,
        network="two tables of vectors of length 4",
        model=partial(Factorisation, sparse),
        loss=mse_loss,
        metric=Metric("squared_error", "minimize", squared_error),
        batch_size=64,
        needs=("sparse",) if sparse else (),
        settings={"sgd": {"lr": 5.0}, "adagrad": {"lr": 0.6}, **others},
        target=TARGETS[preset],
        # a twentieth of the noise that nothing can predict
        margin=0.0005,
        **SIZES[preset],
    )


@workload
def matrix_factorisation(preset: str) -> Workload:
    """Matrix factorisation, ratings of rank 4 with noise.

    A tenth of the cells of a 1,000 x 500 matrix, drawn with noise of variance 0.01, is to be completed: one vector for
    every row and column, looked up, so that gradients are sparse. No squared error is much under 0.01.
    """
    return _factorisation(preset, sparse=True, sparseadam={"lr": 0.03})


@workload
def matrix_factorisation_dense(preset: str) -> Workload:
    """Matrix factorisation with dense gradients.

    The task of matrix-factorisation for optimizers of every kind: rows that a batch does not touch have gradients of
    zero, in place of none, so momentum and weight decay move them too.
    """
    return _factorisation(preset, sparse=False, adam={"lr": 0.005}, adamw={"lr": 0.005})
