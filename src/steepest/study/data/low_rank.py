"""Ratings from a matrix of low rank: random cells of it, with noise. They are generated, not read."""

from typing import Final

import torch

from steepest.study import seeds
from steepest.study.data.dataset import DataSet, Examples

USERS: Final = 1_000
ITEMS: Final = 500
RANK: Final = 4
NOISE: Final = 0.1
TRAIN: Final = 50_000
TEST: Final = 5_000


def load() -> DataSet:
    """Return pairs of user and item (int64, (ratings, 2)) and their ratings (float32, (ratings,)).

    A rating is a product of two normal vectors of length 4, scaled to variance 1, plus noise of variance 0.01: no
    prediction has a mean squared error much under 0.01. No cell occurs twice.
    """
    generator = seeds.generator("split", 5)
    users = torch.randn(USERS, RANK, generator=generator)
    items = torch.randn(ITEMS, RANK, generator=generator) / RANK**0.5
    cells = torch.randperm(USERS * ITEMS, generator=generator)[: TRAIN + TEST]
    pairs = torch.stack([cells // ITEMS, cells % ITEMS], dim=1)
    exact = (users[pairs[:, 0]] * items[pairs[:, 1]]).sum(dim=1)
    ratings = Examples(pairs, exact + NOISE * torch.randn(len(exact), generator=generator))
    return DataSet(
        name="low-rank",
        source=f"drawn: {USERS:,} x {ITEMS} of rank {RANK}, noise {NOISE:g}",
        train=ratings.at(torch.arange(TRAIN)),
        test=ratings.at(torch.arange(TRAIN, TRAIN + TEST)),
        sha256={"low-rank": ratings.fingerprint()},
    )
