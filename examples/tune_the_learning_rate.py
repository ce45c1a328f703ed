"""A learning rate that finds itself: the loss after a few steps is differentiated by the rate that took them.

    python examples/tune_the_learning_rate.py

`steepest.functional.pair` gives an optimizer as two pure functions. Ten steps on a small regression are then one
function of the learning rate, and its derivative (the hypergradient) says which way the rate should go: rates that are
too small and rates that are too large come to the same one.
"""

import torch

import steepest
from steepest.functional import pair

STEPS = 10


def loss(w: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the linear model ``w``."""
    return (x @ w - y).square().mean()


def loss_after_training(log_lr: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss after `STEPS` steps of gradient descent with the rate exp(log_lr), from the same start each time."""
    init, step = pair(steepest.SGD)
    params = {"w": torch.zeros(x.shape[1], dtype=x.dtype)}
    state = init(params)
    for _ in range(STEPS):
        grads = {"w": torch.func.grad(loss)(params["w"], x, y)}
        params, state = step(params, grads, state, lr=log_lr.exp())
    return loss(params["w"], x, y)


def tuned(start: float, x: torch.Tensor, y: torch.Tensor, rounds: int = 100) -> float:
    """The rate that gradient descent on its logarithm finds from ``start``."""
    log_lr = torch.tensor(start, dtype=x.dtype).log().requires_grad_()
    tuner = steepest.Adam([log_lr], lr=0.1)
    for _ in range(rounds):
        tuner.zero_grad()
        loss_after_training(log_lr, x, y).log().backward()
        tuner.step()
    return float(log_lr.detach().exp())


def main() -> None:
    """Print what each rate reaches, and the rate that two tunings find."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=source, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    rates = torch.logspace(-3, -0.3, 6, dtype=torch.float64)
    losses = torch.vmap(lambda rate: loss_after_training(rate.log(), x, y))(rates)  # all rates in one go
    for rate, value in zip(rates.tolist(), losses.tolist(), strict=True):
        print(f"lr {rate:.4f}: loss after {STEPS} steps {value:.3g}")
    for start in (0.001, 0.5):
        print(f"tuned from {start}: lr {tuned(start, x, y):.4f}")


if __name__ == "__main__":
    main()
