"""Conversion of the usual forms of data into the one form that studies use."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from steepest.study import seeds
from steepest.study.data.dataset import NONE, DataSet, Examples, Transformed
from steepest.study.data.loaders import is_read_in_batches, loaded
from steepest.study.errors import DataError, StudyError, UsageError

Source = Any
"""The allowed forms of data; see `Workload.data`."""

PROBES: Final = 8  # items that are read twice, to see whether equal seeds give equal items
TEST_SHARE: Final = 6  # one in so many examples is kept for the test where the data come undivided
FORMS: Final = (
    "a DataSet, (inputs, targets), ((inputs, targets), (test inputs, test targets)), map-style torch datasets in their "
    "place, three DataLoaders or datasets (training, validation, test), or a function that returns one of these; "
    "inputs and targets are tensors or arrays"
)


def load(source: Source, data_dir: Path | None = None) -> DataSet:
    """Return the data set that a workload's `data` stands for.

    A function is called with the folder if it has an argument `data_dir`, or one without a default. Numbers become
    float32, targets that are whole numbers int64; inputs of dtype int64 stay indices and bytes stay bytes. Random
    numbers that are drawn here are the same in every process. A dataset with random transforms is read anew for every
    epoch of training; its validation and test examples are read once and stay as they came out. Three loaders or
    datasets are not read here but batch by batch, see `steepest.study.data.loaders`.

    Raises:
        UsageError: the data have none of the forms, or are too few for a training, a validation and a test set.
        DataError: the function, or a dataset's item, raised an exception.
    """
    with seeds.GlobalStream("split", 5).active():
        if callable(source) and not hasattr(source, "__getitem__"):
            source = _called(source, data_dir)
        if isinstance(source, DataSet):
            return source
        if _is_three_sets(source):
            sets = loaded(source[0]), loaded(source[1]), loaded(source[2])
            return DataSet("your data", "the workload itself", NONE, NONE, loaders=sets)
        parts = _parts(source)
    train, test = parts if len(parts) == 2 else _divided(parts[0])
    _check(train, test)
    fingerprints = {"train": train.fingerprint(), "test": test.fingerprint()}
    return DataSet(name="your data", source="the workload itself", train=train, test=test, sha256=fingerprints)


def takes_folder(source: Source) -> bool:
    """Return whether the data are a function of the folder that holds the data files."""
    return callable(source) and not hasattr(source, "__getitem__") and _folder_of(source) is not None


def _folder_of(function: Callable[..., Any]) -> inspect.Parameter | None:
    """Return the parameter that takes the data folder: `data_dir`, or one without a default."""
    parameters = inspect.signature(function).parameters.values()
    by_name = [
        parameter for parameter in parameters if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    required = [parameter for parameter in by_name if parameter.default is parameter.empty]
    if len(required) > 1:
        names = ", ".join(parameter.name for parameter in required)
        raise UsageError(f"data must be a function of the data folder or of nothing; this one needs {names}")
    return next((parameter for parameter in by_name if parameter in required or parameter.name == "data_dir"), None)


def _called(function: Callable[..., Any], data_dir: Path | None) -> Any:
    folder = _folder_of(function)
    try:
        if folder is None:
            return function()
        return function(data_dir) if folder.kind is folder.POSITIONAL_ONLY else function(**{folder.name: data_dir})
    except StudyError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise DataError(f"the workload's data could not be loaded: {type(error).__name__}: {error}") from error


def _is_three_sets(source: Source) -> bool:
    """Return whether these are three loaders or datasets, and not tensors or pairs of them."""
    if not isinstance(source, tuple | list) or len(source) != 3:
        return False
    return not any(isinstance(part, tuple | list) or _is_array(part) for part in source)


def _parts(source: Source) -> list[Examples]:
    if isinstance(source, tuple | list) and len(source) == 2 and not all(map(_is_array, source)):
        return [_examples(part) for part in source]
    return [_examples(source)]


def _examples(source: Source) -> Examples:
    if isinstance(source, Examples):
        return source
    if isinstance(source, tuple | list) and len(source) == 2 and all(map(_is_array, source)):
        return Examples(_inputs(_tensor("inputs", source[0])), _targets(_tensor("targets", source[1])))
    if not isinstance(source, tuple | list | str | Mapping | type) and not _is_array(source):
        if is_read_in_batches(source):
            raise UsageError(
                f"{type(source).__name__} is read batch by batch and cannot be divided: give three, (training, "
                f"validation, test). Data are {FORMS}"
            )
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            return _gathered(source)
    given = f"the class {source.__name__}" if isinstance(source, type) else _described(source)
    raise UsageError(f"{given} is no data of a workload; give {FORMS}")


def _described(source: Source) -> str:
    if isinstance(source, tuple | list):
        return f"a {type(source).__name__} of {', '.join(type(entry).__name__ for entry in source[:4]) or 'nothing'}"
    return f"a {type(source).__name__}"


def _gathered(dataset: Any) -> Examples:
    """Return all items of a map-style dataset. A dataset with random transforms is read anew in every epoch."""
    if not len(dataset):
        raise UsageError(f"{type(dataset).__name__} has no examples")
    read, places = partial(_read, dataset), torch.arange(len(dataset))
    start = seeds.GlobalStream("split", 6)
    with start.active():
        first, moved = read(places), not _alike(start.position, seeds.GlobalStream("split", 6).position)
    _check_repeats(dataset, first, places[:PROBES])
    if not moved or _same_under(7, read, places, first):
        return first
    return Transformed(inputs=first.inputs, targets=first.targets, read=read, places=places)


def _check_repeats(dataset: Any, first: Examples, places: Tensor) -> None:
    """Raise UsageError if the items of a dataset differ although the global generators are in the same state."""
    if not _same_under(6, partial(_read, dataset), places, first.at(places)):
        raise UsageError(
            f"{type(dataset).__name__} gives other examples when it is read again from equal seeds, so no trial could "
            "be repeated or paired: let its transforms draw from the global generators of torch, NumPy or random, "
            "which the study seeds, and keep nothing that changes from one reading to the next"
        )


def _same_under(draw: int, read: Callable[[Tensor], Examples], places: Tensor, expected: Examples) -> bool:
    with seeds.GlobalStream("split", draw).active():
        again = read(places)
    pairs = ((again.inputs, expected.inputs), (again.targets, expected.targets))
    return all(torch.equal(_comparable(left), _comparable(right)) for left, right in pairs)


def _comparable(tensor: Tensor) -> Tensor:
    return tensor.nan_to_num() if tensor.is_floating_point() else tensor


def _alike(left: seeds.Position, right: seeds.Position) -> bool:
    """Return whether two states of the generators are equal."""
    arrays = (left["torch"], right["torch"]), (left["numpy"][1], right["numpy"][1])
    plain = [(position["numpy"][:1], position["numpy"][2:], position["python"]) for position in (left, right)]
    return plain[0] == plain[1] and all(torch.equal(*pair) for pair in arrays)


def _read(dataset: Any, places: Tensor) -> Examples:
    """Return the items of a map-style dataset at the given indices."""
    name = type(dataset).__name__
    columns: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index in places.tolist():
        try:
            item = dataset[index]
        except Exception as error:  # whatever the user's code raises
            raise DataError(f"item {index} of {name} could not be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"every item of {name} must be a pair (input, target); item {index} is {_described(item)}")
        for what, part, column in zip(("input", "target"), item, columns, strict=True):
            column.append(_tensor(f"{what} of item {index} of {name}", part))
            if column[0].shape != column[-1].shape:
                shapes = f"{tuple(column[0].shape)} first and {tuple(column[-1].shape)} in item {index}"
                raise UsageError(f"all {what}s of {name} must have one shape, not {shapes}; pad or crop them")
    return Examples(_inputs(torch.stack(columns[0])), _targets(torch.stack(columns[1])))


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and not isinstance(value, type))


def _tensor(what: str, value: Any) -> Tensor:
    try:
        # An array is copied: torch warns of those that must not be written to.
        plain = np.array(value) if _is_array(value) and not isinstance(value, Tensor) else value
        tensor = torch.as_tensor(plain).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{what} of type {type(value).__name__} cannot become a tensor ({error}); give tensors, arrays or numbers"
        ) from error
    if tensor.layout != torch.strided or tensor.is_complex():
        raise UsageError(f"{what} must be a dense tensor of real numbers, not {tensor.layout} of {tensor.dtype}")
    return tensor.to("cpu", torch.float32) if tensor.is_floating_point() else tensor.cpu()


def _inputs(tensor: Tensor) -> Tensor:
    if tensor.dtype in (torch.float32, torch.uint8, torch.int64, torch.bool):
        return tensor
    advice = "give indices (tokens) as torch.int64, measured numbers as torch.float32"
    raise UsageError(f"inputs of dtype {tensor.dtype} can mean two things; {advice}")


def _targets(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.bool) else tensor.long()


def _divided(everything: Examples) -> tuple[Examples, Examples]:
    _check_pair(everything)
    order = torch.randperm(len(everything), generator=seeds.generator("split", 4))
    tests = max(1, len(everything) // TEST_SHARE)
    return everything.at(order[tests:].sort().values), everything.at(order[:tests].sort().values)


def _check(train: Examples, test: Examples) -> None:
    for part in (train, test):
        _check_pair(part)
    if len(train) < 2 or not len(test):
        raise UsageError(
            f"there are {len(train)} examples for training and validation and {len(test)} for the test; "
            "give at least one for each of the three"
        )
    for what in ("inputs", "targets"):
        train_form, test_form = [
            f"{part.dtype} {tuple(part.shape[1:])}" for part in (getattr(train, what), getattr(test, what))
        ]
        if train_form != test_form:
            raise UsageError(
                f"{what} of an example are {train_form} for training and {test_form} for the test; make them alike"
            )


def _check_pair(examples: Examples) -> None:
    lengths = [len(part) if part.dim() else None for part in (examples.inputs, examples.targets)]
    if None in lengths or lengths[0] != lengths[1]:
        given = " and ".join("a single number" if length is None else str(length) for length in lengths)
        raise UsageError(f"inputs and targets must be equally many; there are {given}")
