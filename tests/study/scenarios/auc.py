"""Rare positives: the figure is of the whole set, the area under the receiver operating characteristic."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from steepest import study


def patients(seed: int, count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=generator)
    return TensorDataset(x, (x[:, 0] + 0.5 * torch.randn(count, generator=generator) > 1.2).float())


def auc(scores: Tensor, positive: Tensor) -> float:
    """Return the share of pairs in which the positive has the higher score; half for ties."""
    differences = scores[positive > 0][:, None] - scores[positive == 0][None]
    return ((differences > 0).double() + (differences == 0).double() / 2).mean().item()


def measured(model: nn.Module, part: TensorDataset) -> float:
    with torch.no_grad():
        scores = torch.cat([model(x).squeeze(1) for x, _ in DataLoader(part, batch_size=32)])
    return auc(scores, part.tensors[1])


@study.experiment(metric=study.Metric("auc", "maximize"), target=(0.7, 0.85), margin=0.01)
def rare(run: study.Run) -> None:
    """Rare positives, by AUC."""
    train, validation, test = (patients(seed, 200) for seed in range(3))
    weights = (1 + 4 * train.tensors[1]).tolist()
    sampler = WeightedRandomSampler(weights, 100, generator=run.generator("order"))
    loader = DataLoader(train, batch_size=20, sampler=sampler)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = run.optimizer(model)
    for _ in run.epochs(4, keep={"model": model, "loader": loader}):
        for x, y in loader:
            loss = binary_cross_entropy_with_logits(model(x).squeeze(1), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss)
        with run.evaluating():
            reached = measured(model, validation)
        run.validate(auc=reached)
    with run.evaluating("test"):
        reached = measured(model, test)
    run.test(auc=reached)
