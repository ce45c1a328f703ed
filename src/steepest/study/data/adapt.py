"""Data in the forms that people have them in, brought into the one form that studies use."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.errors import UsageError

Source = Any
"""See `Workload.data` for the forms."""

TEST_SHARE = 6  # one in so many examples is kept for the test where the data come undivided
FORMS = (
    "a DataSet, (inputs, targets), ((inputs, targets), (test inputs, test targets)), map-style torch datasets in their "
    "place, or a function that returns one of these"
)


def load(source: Source, data_dir: Path | None = None) -> DataSet:
    """Return the data set that a workload's `data` stands for. A function is called with the folder if it takes one."""
    if callable(source) and not hasattr(source, "__getitem__"):
        source = source(data_dir) if inspect.signature(source).parameters else source()
    if isinstance(source, DataSet):
        return source
    parts = _parts(source)
    train, test = parts if len(parts) == 2 else _divided(parts[0])
    fingerprints = {"train": train.fingerprint(), "test": test.fingerprint()}
    return DataSet(name="your data", source="given", train=train, test=test, sha256=fingerprints)


def _parts(source: Source) -> list[Examples]:
    if isinstance(source, tuple | list) and len(source) == 2 and not all(isinstance(one, Tensor) for one in source):
        return [_examples(part) for part in source]
    return [_examples(source)]


def _examples(source: Source) -> Examples:
    if isinstance(source, Examples):
        return source
    if isinstance(source, tuple | list) and len(source) == 2 and all(isinstance(one, Tensor) for one in source):
        inputs, targets = source
        if len(inputs) != len(targets):
            raise UsageError(f"there are {len(inputs)} inputs and {len(targets)} targets; every input needs its target")
        return Examples(inputs, targets)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__") and len(source):
        return _gathered([source[index] for index in range(len(source))])
    raise UsageError(f"data must be {FORMS}; a {type(source).__name__} is none of these")


def _gathered(items: Sequence[Any]) -> Examples:
    if any(not isinstance(item, tuple | list) or len(item) != 2 for item in items):
        raise UsageError("every item of a dataset must be a pair of input and target")
    inputs, targets = (torch.stack([torch.as_tensor(part) for part in column]) for column in zip(*items, strict=True))
    return Examples(inputs, targets)


def _divided(everything: Examples) -> tuple[Examples, Examples]:
    order = torch.randperm(len(everything), generator=seeds.generator("split", 4))
    tests = max(1, len(everything) // TEST_SHARE)
    return everything.at(order[tests:].sort().values), everything.at(order[:tests].sort().values)
