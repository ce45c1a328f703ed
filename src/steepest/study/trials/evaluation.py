"""Loss and metric of a model over a set of examples, with layers in evaluation mode."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import nn

from steepest.study.data import batches
from steepest.study.data.dataset import Examples
from steepest.study.data.loaders import Loaded
from steepest.study.declaration import Loss, Metric
from steepest.study.errors import UsageError
from steepest.study.trials import forward
from steepest.study.trials.precision import autocast

CHUNK: Final = 500  # examples at once; fixed, because sums in other chunks round differently


class Measured(Protocol):
    """A task with a loss and a metric of outputs and targets."""

    @property
    def loss(self) -> Loss | None:
        """The mean loss; None if the model returns it."""

    @property
    def metric(self) -> Metric:
        """The metric."""


@dataclass(frozen=True)
class Chunk:
    """The outputs of a batch, its targets, its mean loss and the number of its examples."""

    outputs: Any
    targets: Any
    loss: float
    count: int


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples | Loaded, task: Measured, precision: str) -> tuple[float, float]:
    """Return the mean loss and the metric. Batch normalisation uses its running statistics, dropout is off.

    Random numbers of the model or metric come from the stream that the caller made active. The model is left in
    training mode.
    """
    model.eval()
    measured = _over_set if task.metric.over == "set" else _over_examples
    try:
        with closing(_chunks(model, examples, task, precision)) as chunks:
            return measured(chunks, task)
    finally:
        model.train()


def _chunks(
    model: nn.Module, examples: Examples | Loaded, task: Measured, precision: str
) -> Generator[Chunk, None, None]:
    """Yield the model's outputs in chunks of examples."""
    for batch in examples.chunks(CHUNK):
        given, count = forward.given(batch, task.loss), batches.count(batch)
        with autocast(precision, batches.device(batch).type):
            outputs = given.outputs(model)
        outputs = forward.in_floats(outputs)
        yield Chunk(outputs, given.targets, forward.loss_of(task.loss, outputs, given.targets).item(), count)


def _over_examples(chunks: Iterator[Chunk], task: Measured) -> tuple[float, float]:
    total_loss, total_metric, count = 0.0, 0.0, 0
    for chunk in chunks:
        total_loss += chunk.loss * chunk.count
        total_metric += task.metric.total(chunk.outputs, chunk.targets, chunk.loss, chunk.count)
        count += chunk.count
    _check_any(count)
    return total_loss / count, total_metric / count


def _over_set(chunks: Iterator[Chunk], task: Measured) -> tuple[float, float]:
    found = list(chunks)
    count = sum(chunk.count for chunk in found)
    _check_any(count)
    loss = sum(chunk.loss * chunk.count for chunk in found) / count
    outputs, targets = (batches.joined([getattr(chunk, part) for chunk in found]) for part in ("outputs", "targets"))
    return loss, task.metric.of_set(outputs, targets)


def _check_any(count: int) -> None:
    if not count:
        raise UsageError("a set to evaluate on has no examples: its loader yielded no batch")
