"""Loss and metric of a model over a set of examples, with layers in evaluation mode."""

from collections.abc import Iterator
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from steepest.study.data.dataset import Examples
from steepest.study.declaration import Loss, Metric
from steepest.study.trials.precision import autocast

CHUNK: Final = 500  # examples at once; fixed, because sums in other chunks round differently


class Measured(Protocol):
    """A task with a loss and a metric of outputs and targets."""

    @property
    def loss(self) -> Loss:
        """The mean loss."""

    @property
    def metric(self) -> Metric:
        """The metric."""


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, task: Measured, precision: str) -> tuple[float, float]:
    """Return the mean loss and the metric. Batch normalisation uses its running statistics, dropout is off.

    Random numbers of the model or metric come from the stream that the caller made active. The model is left in
    training mode.
    """
    model.eval()
    measured = _over_set if task.metric.over == "set" else _over_examples
    try:
        return measured(_chunks(model, examples, precision), task, len(examples))
    finally:
        model.train()


Chunks = Iterator[tuple[Tensor, Tensor]]


def _chunks(model: nn.Module, examples: Examples, precision: str) -> Chunks:
    """Yield outputs and targets in chunks of examples."""
    for start in range(0, len(examples), CHUNK):
        inputs, targets = examples.batch(slice(start, start + CHUNK))
        with autocast(precision, inputs.device.type):
            outputs = model(inputs)
        yield outputs.float(), targets


def _over_examples(chunks: Chunks, task: Measured, count: int) -> tuple[float, float]:
    total_loss, total_metric = 0.0, 0.0
    for outputs, targets in chunks:
        loss = task.loss(outputs, targets).item()
        total_loss += loss * len(targets)
        total_metric += task.metric.total(outputs, targets, loss)
    return total_loss / count, total_metric / count


def _over_set(chunks: Chunks, task: Measured, count: int) -> tuple[float, float]:
    pairs = list(chunks)
    loss = sum(task.loss(outputs, targets).item() * len(targets) for outputs, targets in pairs) / count
    outputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return loss, task.metric.of_set(outputs, targets)
