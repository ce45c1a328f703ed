"""The convex workload: its optimum is the optimum, by sklearn, by hand, and by an optimizer that is run long enough."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn

import steepest
from steepest.study.data import digits
from steepest.study.trials.task import Task, task_of
from steepest.study.workloads.logistic_regression import PENALTY, Optimum, logistic_regression, optimum


@pytest.fixture(scope="module")
def task() -> Task:
    """The smoke preset on digits, which every machine has."""
    workload = logistic_regression("smoke")
    data = digits.stand_in("Fashion-MNIST", 28, "")
    assert workload.sizes is not None
    return task_of(workload, data, workload.sizes.fitted(data))


@pytest.fixture(scope="module")
def best(task: Task) -> Optimum:
    return optimum(task.model, task.loss, task.splits)


def plain(task: Task) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = task.splits.train.batch(slice(None))
    images = inputs.flatten(1).double().numpy()
    return np.hstack([images, np.ones((len(images), 1))]), targets.numpy()


def by_hand(weights: np.ndarray, x: np.ndarray, classes: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and gradient in closed form; weights (10, 785), the bias last."""
    scores = x @ weights.T
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    loss = -np.log(chances[np.arange(len(x)), classes]).mean() + PENALTY / 2 * (weights**2).sum()
    return loss, (chances - np.eye(10)[classes]).T @ x / len(x) + PENALTY * weights


def joined(weights: torch.Tensor) -> np.ndarray:
    return np.hstack([weights[:7840].view(10, 784).numpy(), weights[7840:].view(10, 1).numpy()])


def test_the_loss_and_its_gradient_vanish_where_the_closed_form_says(task: Task, best: Optimum) -> None:
    loss, gradient = by_hand(joined(best.weights), *plain(task))
    assert loss == pytest.approx(best.loss, rel=1e-12)
    assert (gradient**2).sum() / (2 * PENALTY) == pytest.approx(best.gap, rel=1e-3)
    assert best.gap < 1e-9


def test_sklearn_finds_the_same_optimum(task: Task, best: Optimum) -> None:
    x, classes = plain(task)
    # sklearn minimises C * (sum of losses) + ||w||^2 / 2 and leaves its own intercept unpenalised
    other = Sklearn(C=1 / (PENALTY * len(x)), fit_intercept=False, tol=1e-6, max_iter=5_000).fit(x, classes)
    loss, _ = by_hand(other.coef_, x, classes)
    assert loss == pytest.approx(best.loss, rel=1e-7)


@pytest.mark.slow
def test_an_optimizer_that_is_run_long_enough_reaches_the_optimum(task: Task, best: Optimum) -> None:
    inputs, targets = task.splits.train.batch(slice(None))
    inputs, model = inputs.double(), task.model().double()
    optimizer = steepest.NAG(model.parameters(), lr=0.02, momentum=0.97)
    for _ in range(700):
        optimizer.zero_grad()
        loss = task.loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    assert best.loss - 1e-12 <= loss.item() <= best.loss * (1 + 1e-6)


def test_the_optimum_depends_on_neither_seed_nor_start(task: Task, best: Optimum) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    again = optimum(task.model, task.loss, task.splits)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.loss == best.loss
    assert torch.equal(again.weights, best.weights)
