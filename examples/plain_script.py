"""A plain training script, which experiment_existing_script.py turns into an experiment.

python examples/plain_script.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split


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


def main() -> None:
    """Train a network with two hidden layers."""
    train, validation, test = random_split(spirals(), [400, 100, 100], torch.Generator().manual_seed(0))
    loader = DataLoader(train, batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(5):
        for x, y in loader:
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: accuracy {accuracy(model, validation):.3f}")
    print(f"test: accuracy {accuracy(model, test):.3f}")


if __name__ == "__main__":
    main()
