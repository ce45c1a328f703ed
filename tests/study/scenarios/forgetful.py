"""A loop whose loss depends on an average that it does not name in `keep`."""

import torch
from torch import nn

from steepest import study


@study.experiment(metric=study.Metric("loss", "minimize"))
def forgotten(run: study.Run) -> None:
    """Something forgotten."""
    model = nn.Linear(3, 1)
    optimizer = run.optimizer(model)
    average = torch.tensor(0.0)
    for _ in run.steps(30, keep={"model": model}):
        loss = (model(torch.randn(8, 3)) - 1).square().mean() + (model.bias * average).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average = 0.9 * average + loss.detach()
        run.step(loss)
        if run.every(15):
            run.validate(loss=loss.item())
    run.test(loss=loss.item())
