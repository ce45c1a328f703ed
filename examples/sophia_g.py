"""Feed Sophia: an estimate of the curvature every ten steps, from labels that the model itself draws (Sophia-G).

    python examples/sophia_g.py

The squares of this gradient estimate the diagonal of the Gauss-Newton matrix. Squares of the gradient of the true
labels would not: they shrink as the training loss does.
"""

import torch
from torch.nn.functional import cross_entropy

import steepest

EVERY = 10
"""Steps between two estimates."""


def estimate_curvature(model: torch.nn.Module, inputs: torch.Tensor, optimizer: steepest.Sophia) -> None:
    """Average the estimate G of a batch into the optimizer's state; the gradients are gone afterwards."""
    outputs = model(inputs)
    labels = torch.distributions.Categorical(logits=outputs.detach()).sample()
    optimizer.zero_grad()
    cross_entropy(outputs, labels).backward()
    optimizer.update_hessian()
    optimizer.zero_grad()


def main() -> None:
    """Train a small classifier of two moons and print its accuracy."""
    torch.manual_seed(0)
    side = torch.arange(512) % 2
    angle = torch.rand(512) * torch.pi
    points = torch.stack([angle.cos() + side, angle.sin() * (1 - 2 * side) + 0.5 * side], dim=1)
    points += 0.1 * torch.randn(512, 2)
    model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = steepest.Sophia(model.parameters(), lr=1e-2, batch_size=64, weight_decay=0.0)
    for step in range(300):
        batch = torch.randint(512, (64,))
        if step % EVERY == 0:
            estimate_curvature(model, points[batch], optimizer)
        optimizer.zero_grad()
        cross_entropy(model(points[batch]), side[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        correct = (model(points).argmax(dim=1) == side).float().mean().item()
    curvature = torch.cat([optimizer.state[p]["hessian"].flatten() for p in model.parameters()])
    print(f"accuracy {correct:.3f}; curvature from {curvature.min().item():.1e} to {curvature.max().item():.1e}")


if __name__ == "__main__":
    main()
