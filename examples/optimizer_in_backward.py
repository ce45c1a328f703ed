"""Step inside the backward pass: each gradient is used and freed as soon as it is there.

    python examples/optimizer_in_backward.py

One optimizer per parameter steps in a hook that autograd calls once its gradient is complete. The gradients of a
model then never exist all at once: the peak is one gradient, not one per parameter.
"""

import torch

import steepest


def step_in_backward(
    model: torch.nn.Module, make: type[steepest.Optimizer], **options: object
) -> dict[torch.Tensor, steepest.Optimizer]:
    """Give every parameter of ``model`` an optimizer of its own, which steps as soon as its gradient is complete."""
    optimizers = {p: make([p], **options) for p in model.parameters()}

    def step(p: torch.Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in optimizers:
        p.register_post_accumulate_grad_hook(step)
    return optimizers


def main() -> None:
    """Train a small model and print its loss; no gradient is left after a backward pass."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    optimizers = step_in_backward(model, steepest.AdamW, lr=1e-2)
    x = torch.randn(256, 8)
    y = x[:, :1] * x[:, 1:2]
    for epoch in range(101):
        loss = (model(x) - y).square().mean()
        loss.backward()
        if epoch % 25 == 0:
            print(f"step {epoch}: loss {loss.item():.4f}")
    left = sum(p.grad is not None for p in model.parameters())
    print(f"{len(optimizers)} optimizers, {left} gradients left")


if __name__ == "__main__":
    main()
