"""Loss and metric of a model over a set of examples, with layers in evaluation mode."""

from typing import Final

import torch
from torch import nn

from steepest.study.data.dataset import Examples
from steepest.study.precision import autocast
from steepest.study.task import Task

CHUNK: Final = 500  # examples at once; fixed, because sums in other chunks round differently


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, task: Task, precision: str) -> tuple[float, float]:
    """Return the mean loss and the mean metric; batch normalisation uses its running statistics, dropout is off.

    The model is left in training mode.
    """
    model.eval()
    total_loss, total_metric = 0.0, 0.0
    for start in range(0, len(examples), CHUNK):
        inputs, targets = examples.batch(slice(start, start + CHUNK))
        with autocast(precision):
            outputs = model(inputs)
        outputs = outputs.float()
        loss = task.loss(outputs, targets).item()
        total_loss += loss * len(targets)
        total_metric += task.merit(outputs, targets, loss)
    model.train()
    return total_loss / len(examples), total_metric / len(examples)
