"""A plain training script, plain_script.py, turned into an experiment.

steepest study examples/experiment_existing_script.py -o adamw -o lion --trials 8 --seeds 10
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from steepest import study


def spirals() -> TensorDataset:
    """Return points on two noisy spirals."""
    generator = torch.Generator().manual_seed(0)
    side = torch.arange(600) % 2
    turns = torch.rand(600, generator=generator)
    angle = torch.pi * (2 * turns + side)
    points = torch.stack([turns * angle.cos(), turns * angle.sin()], dim=1)
    return TensorDataset(points + 0.03 * torch.randn(points.shape, generator=generator), side)


def accuracy(model: nn.Module, part: torch.utils.data.Subset) -> float:
    """Return the share of points that the model puts on their own spiral."""
    x, y = part[:]
    with torch.no_grad():
        return (model(x).argmax(dim=1) == y).float().mean().item()


@study.experiment(metric=study.Metric("accuracy", "maximize"))
def main(run: study.Run) -> None:
    """Train a network with two hidden layers."""
    train, validation, test = random_split(spirals(), [400, 100, 100], torch.Generator().manual_seed(0))
    loader = DataLoader(train, batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = run.optimizer(model)
    for _ in run.epochs(5, keep={"model": model, "loader": loader}):
        for x, y in loader:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss)
        run.validate(accuracy=accuracy(model, validation))
    run.test(accuracy=accuracy(model, test))
