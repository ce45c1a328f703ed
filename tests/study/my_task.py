"""A task of the user's, small and quick to load: worker processes need no further package for it."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from steepest.study.data.splits import Sizes
from steepest.study.declaration import ACCURACY, Workload, workload


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Return points whose class is the largest of their first numbers."""
    inputs = torch.randn(300, 8, generator=torch.Generator().manual_seed(3))
    return inputs, inputs[:, :4].argmax(dim=1)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4))


@workload
def points() -> Workload:
    """Points in eight dimensions."""
    return Workload(
        data=data,
        model=model,
        loss=cross_entropy,
        metric=ACCURACY,
        batch_size=64,
        horizon=1,
        sizes=Sizes(128, 64, 50),
        seeds=1,
        trials=0,
    )
