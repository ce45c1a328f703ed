"""Gradients of several batches in one step, clipped, under bfloat16 autocast, in a loop over steps."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from steepest import study

PARTS = 3
STEPS = 30


class Stream:
    """An endless stream of batches that knows its place."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            generator = torch.Generator().manual_seed(self.place)
            self.place += 1
            yield sample(generator, 8)

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


def sample(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 6, generator=generator)
    return x, (x[:, 0] * x[:, 1] > 0).long()


def figures(model: nn.Module, seed: int) -> dict[str, float]:
    x, y = sample(torch.Generator().manual_seed(seed), 100)
    with torch.no_grad():
        outputs = model(x)
    return {"accuracy": (outputs.argmax(dim=1) == y).float().mean().item(), "loss": cross_entropy(outputs, y).item()}


@study.experiment(metric=study.Metric("accuracy", "maximize"), target=0.6, margin=0.02)
def signs(run: study.Run) -> None:
    """Accumulated gradients."""
    stream = Stream()
    batches = iter(stream)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
    optimizer = run.optimizer(model)
    for _ in run.steps(STEPS, keep={"model": model, "stream": stream}):
        with run.untimed():
            parts = [next(batches) for _ in range(PARTS)]
        optimizer.zero_grad()
        losses = []
        for x, y in parts:
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(model(x), y)
            (loss / PARTS).backward()
            losses.append(loss.detach())
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.step(torch.stack(losses).mean(), examples=8 * PARTS, gradient_norm=norm.item())
        if run.every(10):
            model.eval()
            with run.evaluating():
                measured = figures(model, 10**6)
            model.train()
            run.validate(**measured)
            run.log(gradient_norm=norm.item())
    model.eval()
    with run.evaluating("test"):
        measured = figures(model, 10**6 + 1)
    run.test(**measured)
