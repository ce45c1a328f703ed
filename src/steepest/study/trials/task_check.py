"""Checks of a task before the plan is locked: errors that would stop every trial, or make its numbers wrong."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steepest.study import seeds, user_files
from steepest.study.data.batches import Batch, count, described, detached, device
from steepest.study.data.dataset import Examples
from steepest.study.data.loaders import Loaded
from steepest.study.errors import UsageError
from steepest.study.optimizers import settings
from steepest.study.trials import broadcasts, forward, sharpness
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.precision import autocast
from steepest.study.trials.resume_check import same
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task, initial_model

EXAMPLES: Final = 64
"""The number of examples that are evaluated twice, unless the metric is one of a whole set."""
UNREPEATED: Final = (
    "the training set yields other batches when it is read again from equal seeds, so no trial could be repeated or "
    "paired: let dataset, sampler and transforms draw from the global generators of torch, NumPy or random, which the "
    "study seeds, and begin anew in every pass"
)
"""The mistake of data that remember earlier passes."""
NAMED: Final = 4
"""Maximum number of parameters that a message names."""


def examine(task: Task, pattern: TrialSpec) -> list[str]:
    """Return all mistakes in a task, whatever the optimizer: data, shapes, finiteness, initialisation, evaluation."""
    with settings.kept(), seeds.on(torch.device(pattern.device)):
        try:
            tries, again = (_tries(task, pattern) for _ in range(2))
        except Exception as error:  # whatever the user's code raises
            return [f"the first batch of the training set stopped with {user_files.reason(error)}"]
        if not same(tries, again):
            return [UNREPEATED]
        shapes = next((found for found in (list(_training(task, pattern, batch)) for batch in tries) if found), [])
        return [*_initialisation(task, pattern), *(shapes or [*_evaluation(task, pattern), *_curvature(task, pattern)])]


def _tries(task: Task, pattern: TrialSpec) -> list[Batch]:
    """Return batches that the training may see, with the draws that it would have."""
    with seeds.GlobalStream("transforms", pattern.seed).active():
        return _train(task, pattern).tries(pattern.batch_size)


def _initialisation(task: Task, pattern: TrialSpec) -> Iterator[str]:
    first, second = (_weights(_seeded_model(task, pattern)) for _ in range(2))
    different = [name for name in first | second if not same(first.get(name), second.get(name))]
    if different:
        yield (
            f"model() builds other weights ({listed(different)}) when it is called again from equal seeds, so the "
            "optimizers of a seed would not start alike; draw them from the global generators of torch, NumPy or "
            "random, which the study seeds"
        )


def _seeded_model(task: Task, pattern: TrialSpec) -> nn.Module:
    with seeds.GlobalStream("init", pattern.seed).active():
        return initial_model(task).to(pattern.device)


def _train(task: Task, pattern: TrialSpec) -> Examples | Loaded:
    return task.splits.train.to(torch.device(pattern.device))


def _weights(model: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in model.state_dict().items() if not is_lazy(value)}


def _training(task: Task, pattern: TrialSpec, batch: Batch) -> Iterator[str]:
    """Yield the mistakes in outputs, loss and metric of an untrained model in training."""
    try:
        given, examples, kind = forward.given(batch, task.loss), count(batch), device(batch).type
    except UsageError as error:
        yield str(error)
        return
    shapes = f"a batch of {_in_words(batch)}"
    with seeds.GlobalStream("dropout", pattern.seed).active():
        try:
            model = _seeded_model(task, pattern)
            with autocast(pattern.precision, kind):
                outputs = given.outputs(model)
        except Exception as error:  # whatever the user's code raises
            yield f"the model stopped on {shapes} with {user_files.reason(error)}"
            return
        outputs = forward.in_floats(outputs)
        yield from _loss(task, outputs, given.targets, shapes)
        yield from _metric(task, detached(outputs), given.targets, shapes, examples)


def _in_words(batch: Batch) -> str:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return f"inputs {described(batch[0])} and targets {described(batch[1])}"
    return described(batch)


def _broadcasts_refused(outputs: Any, targets: Any) -> AbstractContextManager[object]:
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
        return broadcasts.refused(outputs, targets)
    return nullcontext()


def _loss(task: Task, outputs: Any, targets: Any, shapes: str) -> Iterator[str]:
    case = f"on outputs {described(outputs)} of {shapes}"
    try:
        with _broadcasts_refused(outputs, targets):
            loss = forward.loss_of(task.loss, outputs, targets)
    except UsageError as error:
        yield str(error)
    except broadcasts.BroadcastError as error:
        yield f"the loss {error}"
    except Exception as error:  # whatever the user's code raises
        yield f"the loss stopped {case} with {user_files.reason(error)}"
    else:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            yield f"the loss must be one number, a scalar tensor; it is {given} {case}: return its mean"
        elif not loss.isfinite():
            yield f"the loss of the untrained model is {loss.item()} {case}; look for such numbers in data and model"
        elif not loss.requires_grad:
            yield f"the loss depends on no parameter {case}: it was cut off from the model, by detach() or no_grad()"


def _metric(task: Task, outputs: Any, targets: Any, shapes: str, examples: int) -> Iterator[str]:
    """Yield the mistakes in a metric. A metric of a whole set may stop on so few examples."""
    case = f"outputs {described(outputs)} of {shapes}"
    whole = task.metric.over == "set"
    try:
        with _broadcasts_refused(outputs, targets):
            task.metric.of_set(outputs, targets) if whole else task.metric.total(outputs, targets, 0.0, examples)
    except broadcasts.BroadcastError as error:
        yield f"metric {task.metric.name!r} {error}"
    except UsageError as error:
        yield str(error)
    except Exception as error:  # whatever the user's code raises
        if not whole:
            yield f"metric {task.metric.name!r} stopped on {case} with {user_files.reason(error)}"


def _evaluation(task: Task, pattern: TrialSpec) -> Iterator[str]:
    """Yield the mistakes in an evaluation: it stops, or gives different results when it is repeated."""
    model = _seeded_model(task, pattern)
    try:
        first, second = (_measured(model, task, pattern) for _ in range(2))
    except UsageError as error:
        yield str(error)
    except Exception as error:  # whatever the user's code raises
        yield f"the evaluation of the untrained model stopped with {user_files.reason(error)}"
    else:
        if not same(first, second):
            yield (
                f"an evaluation gave {first} and then {second} (loss, {task.metric.name}) from equal seeds; "
                "results would depend on what ran before; let model and metric draw from the global generators of "
                "torch, NumPy or random, and change nothing in eval mode"
            )
        elif not math.isfinite(first[0]):
            yield f"the validation loss of the untrained model is {first[0]}; look for such numbers in data and model"


def _measured(model: nn.Module, task: Task, pattern: TrialSpec) -> tuple[float, float]:
    with seeds.GlobalStream("evaluation", pattern.seed, "validation", 0).active():
        return evaluate(model, _looked_at(task).to(torch.device(pattern.device)), task, pattern.precision)


def _curvature(task: Task, pattern: TrialSpec) -> Iterator[str]:
    if pattern.sharpness:
        try:
            sharpness.of_model(_seeded_model(task, pattern), _train(task, pattern), task.loss, pattern.seed)
        except UsageError as error:
            yield str(error)


def _looked_at(task: Task) -> Examples | Loaded:
    examples = task.splits.validation or task.splits.train
    return examples if task.metric.over == "set" else examples.beginning(EXAMPLES)


def listed(names: list[str]) -> str:
    """Return the first of some parameters' names, and the number of the others."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + rest
