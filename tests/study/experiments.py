"""Training loops as users write them, for the tests of experiments: `experiments.py:NAME`."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from steepest import study

X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] + 0.3 * torch.randn(90, generator=torch.Generator().manual_seed(1)) > 0).long()
ACCURACY = study.Metric("accuracy", "maximize")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        right = (model(inputs).argmax(1) == targets).float().mean().item()
    model.train()
    return right


@study.experiment(metric=ACCURACY, target=0.7)
def by_epochs(run: study.Run) -> None:
    """Points, epoch by epoch.

    A DataLoader draws the order from the run's generator.
    """
    model = net().to(run.device)
    optimizer = run.optimizer(model)
    data = TensorDataset(X[:60], Y[:60])
    loader = DataLoader(data, batch_size=20, shuffle=True, generator=run.generator("order"))
    for _ in run.epochs(4, keep={"model": model, "loader": loader}):
        for inputs, targets in loader:
            with run.autocast():
                loss = cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss, examples=len(targets))
        run.validate(accuracy=accuracy(model, X[60:75], Y[60:75]))
    run.test(accuracy=accuracy(model, X[75:], Y[75:]))


def train_by_steps(run: study.Run, keeps: bool = True, **others: Any) -> None:
    model = net()
    optimizer = run.optimizer(model)
    order = run.generator("order")
    seen = {"examples": 0, "mean": torch.zeros(4)}
    keep = {"model": model, "seen": seen, **others}
    for _ in run.steps(12, keep=keep if keeps else None):
        rows = torch.randint(60, (20,), generator=order)
        loss = cross_entropy(model(X[rows]), Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen["examples"] += len(rows)
        seen["mean"].lerp_(X[rows].mean(0), 0.1)
        run.step(loss, spread=seen["mean"].norm().item())
        if run.every(4):
            with run.evaluating():
                run.validate(accuracy=accuracy(model, X[60:75], Y[60:75]), loss=0.5)
            run.log(seen=seen["examples"])
    with run.evaluating("test"):
        run.test(accuracy=accuracy(model, X[75:], Y[75:]))


@study.experiment(metric=ACCURACY)
def by_steps(run: study.Run) -> None:
    """Points, step by step."""
    train_by_steps(run)


@study.experiment(metric=ACCURACY)
def forgetful(run: study.Run) -> None:
    """Points, and nothing kept."""
    train_by_steps(run, keeps=False)


@study.experiment(metric=ACCURACY)
def incomplete(run: study.Run) -> None:
    """Points, and a part of the state that is not kept."""
    noise = torch.Generator().manual_seed(7)
    model = net()
    optimizer = run.optimizer(model)
    for _ in run.steps(30, keep={"model": model}):
        loss = cross_entropy(model(X[:60] + 0.1 * torch.randn(60, 4, generator=noise)), Y[:60])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step(loss)
        if run.every(5):
            run.validate(accuracy=accuracy(model, X[60:75], Y[60:75]))
    run.test(accuracy=accuracy(model, X[75:], Y[75:]))


@study.experiment(metric=ACCURACY)
def by_closure(run: study.Run) -> None:
    """Points, with a closure, as LBFGS needs it."""
    model = net()
    optimizer = run.optimizer(model)
    for _ in run.steps(6, keep={"model": model}):

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(X[:60]), Y[:60])
            loss.backward()
            return loss

        run.step(optimizer.step(closure))
        run.validate(accuracy=accuracy(model, X[60:75], Y[60:75]))
    run.test(accuracy=accuracy(model, X[75:], Y[75:]))


@study.experiment(metric=ACCURACY)
def visible(run: study.Run) -> None:
    """Points, and the device that the process sees, in its records."""
    model = net()
    optimizer = run.optimizer(model)
    for _ in run.steps(2, keep={"model": model}):
        loss = cross_entropy(model(X[:60]), Y[:60])
        loss.backward()
        optimizer.step()
        run.step(loss)
        run.log(visible=float(os.environ.get("CUDA_VISIBLE_DEVICES", "-1")))
        run.validate(accuracy=0.5)
    run.test(accuracy=0.5)
