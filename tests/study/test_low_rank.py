"""The ratings are what they say: cells of a matrix of rank 4 with noise of variance 0.01."""

import torch
from torch import Tensor

from steepest.study.data import low_rank
from steepest.study.data.dataset import Examples


def solved(rows: Tensor, columns: Tensor, ratings: Tensor, fixed: Tensor, count: int) -> Tensor:
    """Return the least-squares vector of every row, given the columns' (one half of alternating least squares)."""
    known = fixed[columns]
    gram = torch.zeros(count, low_rank.RANK, low_rank.RANK, dtype=torch.float64)
    right = torch.zeros(count, low_rank.RANK, dtype=torch.float64)
    gram.index_add_(0, rows, known[:, :, None] * known[:, None, :])
    right.index_add_(0, rows, known * ratings[:, None])
    return torch.linalg.solve(gram + 1e-6 * torch.eye(low_rank.RANK, dtype=torch.float64), right)


def squared_error(examples: Examples, users: Tensor, items: Tensor) -> float:
    predicted = (users[examples.inputs[:, 0]] * items[examples.inputs[:, 1]]).sum(dim=1)
    return (predicted - examples.targets).square().mean().item()


def test_alternating_least_squares_explains_all_but_the_noise() -> None:
    data = low_rank.load()
    rows, columns = data.train.inputs.T
    ratings = data.train.targets.double()
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(low_rank.ITEMS, low_rank.RANK, dtype=torch.float64, generator=generator)
    for _ in range(15):
        users = solved(rows, columns, ratings, items, low_rank.USERS)
        items = solved(columns, rows, ratings, users, low_rank.ITEMS)
    # 6,000 numbers less the 16 of a change of basis are fitted to 50,000 ratings: the training error falls short by
    # their share of the noise. 3 % is three standard deviations of a mean of 5,000 squares, and a half.
    free = 6_000 - low_rank.RANK**2
    noise = low_rank.NOISE**2
    assert abs(squared_error(data.train, users, items) / (noise * (1 - free / low_rank.TRAIN)) - 1) < 0.03
    assert noise < squared_error(data.test, users, items) < 1.3 * noise


def test_ratings_have_variance_one_and_no_cell_occurs_twice() -> None:
    data = low_rank.load()
    pairs = torch.cat([data.train.inputs, data.test.inputs])
    assert pairs.dtype == torch.int64
    assert pairs.min(dim=0).values.tolist() == [0, 0]
    assert pairs.max(dim=0).values.tolist() == [low_rank.USERS - 1, low_rank.ITEMS - 1]
    assert len(pairs.unique(dim=0)) == len(pairs) == 55_000
    assert abs(data.train.targets.var().item() - 1.01) < 0.1
    assert low_rank.load().sha256 == data.sha256
