"""Data as people have them: what is taken, what becomes of it, and what is said about the rest."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from steepest.study.data import adapt
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.splits import Sizes, split
from steepest.study.errors import DataError, StudyError, UsageError
from steepest.study.running.store import StudyFolder

from .small import planned, small
from .support import dropped, evaluations, events_of, record_bytes, run_with_checkpoints

COUNT = 60
X = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Pairs(Dataset[Any]):
    """A map-style dataset of anything."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield X[0], Y[0]


class Noisy(Dataset[Any]):
    """A random transform."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return X[index] + torch.rand(4), int(Y[index])


class Series:
    """What pandas has: no tensor and no array, but made into one."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: str) -> None:
        raise KeyError(key)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values.double().numpy()


def read_only() -> Any:
    array = X.numpy().copy()
    array.flags.writeable = False
    return array


class Augmented(Noisy):
    """Random transforms of every kind that a study can seed."""

    def __getitem__(self, index: int) -> Any:
        noise = torch.rand(4) + float(np.random.rand()) + random.random()
        return X[index] + noise, int(Y[index])


class SeededByItem(Noisy):
    """It draws, and always the same."""

    def __getitem__(self, index: int) -> Any:
        torch.manual_seed(index)
        return super().__getitem__(index)


class OwnStream(Noisy):
    """Its transforms draw from a generator of their own."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        return X[index] + float(self._generator.random()), int(Y[index])


class Counting(Noisy):
    """It changes from one reading to the next without drawing anything."""

    readings = 0

    def __getitem__(self, index: int) -> Any:
        self.readings += 1
        return X[index] + self.readings, int(Y[index])


UNDIVIDED = {
    "tensors": (X, Y),
    "a list of two tensors": [X, Y],
    "arrays": (X.numpy(), Y.numpy()),
    "arrays of doubles": (X.numpy().astype(np.float64), Y.numpy().astype(np.int32)),
    "an array that must not be written to": (read_only(), Y),
    "series": (Series(X), Series(Y)),
    "a tensor and an array": (X, Y.numpy()),
    "doubles": (X.double(), Y),
    "with a gradient": (X.clone().requires_grad_(), Y),
    "strided": (X.t().contiguous().t(), Y),
    "a TensorDataset": TensorDataset(X, Y),
    "a Subset": Subset(TensorDataset(X, Y), range(COUNT)),
    "integers as targets": Pairs(*((x, int(y)) for x, y in zip(X, Y, strict=True))),
    "lists and numpy integers": Pairs(*([x.tolist(), np.int64(y)] for x, y in zip(X, Y, strict=True))),
    "a function": lambda: (X, Y),
    "a function of the folder": lambda folder: (X, Y),
    "a function of another argument with a default": lambda count=60: (X[:count], Y[:count]),
}


@pytest.mark.parametrize("source", UNDIVIDED.values(), ids=UNDIVIDED)
def test_undivided_data_are_divided_always_alike(source: Any) -> None:
    found, usual = adapt.load(source), adapt.load((X, Y))
    assert (len(found.train), len(found.test)) == (50, 10)
    for mine, theirs in ((found.train, usual.train), (found.test, usual.test)):
        if source is not UNDIVIDED["series"]:  # whose targets are doubles
            assert torch.equal(mine.targets, theirs.targets)
            assert mine.targets.dtype == torch.int64
        torch.testing.assert_close(mine.inputs, theirs.inputs, rtol=1e-7, atol=0)
        assert (mine.inputs.dtype, mine.inputs.requires_grad) == (torch.float32, False)
    together = torch.cat([found.train.inputs, found.test.inputs])
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, X.tolist()))  # every example is once in one set
    assert not torch.equal(found.test.inputs, X[-10:])  # and the test set is no mere end of the file


@pytest.mark.parametrize(
    "source",
    [
        ((X, Y), (X[:7], Y[:7])),
        [(X, Y), (X[:7].numpy(), Y[:7].numpy())],
        (TensorDataset(X, Y), TensorDataset(X[:7], Y[:7])),
        lambda: (TensorDataset(X, Y), (X[:7], Y[:7])),
        (Examples(X, Y), Examples(X[:7], Y[:7])),
    ],
)
def test_divided_data_stay_divided(source: Any) -> None:
    found = adapt.load(source)
    assert torch.equal(found.train.inputs, X)
    assert torch.equal(found.test.targets, Y[:7])
    assert len(found.sha256["train"]) == len(found.sha256["test"]) == 64
    assert found.fallback is None


def test_a_data_set_is_taken_as_it_is() -> None:
    data = DataSet("mine", "nowhere", Examples(X, Y), Examples(X, Y))
    assert adapt.load(data) is data
    assert adapt.load(lambda: data) is data


def test_only_a_function_that_asks_for_the_folder_is_told_it() -> None:
    told: list[Any] = []

    def required(folder: Path) -> Any:
        told.append(folder)
        return X, Y

    def named(count: int = 60, *, data_dir: Path | None = None) -> Any:
        told.append(data_dir)
        return X[:count], Y[:count]

    def positional(folder: Path, /, **others: Any) -> Any:
        told.append(folder)
        return X, Y

    for function in (required, named, positional):
        assert len(adapt.load(function, Path("folder")).train) == 50
    assert told == [Path("folder")] * 3


@pytest.mark.parametrize(
    ("inputs", "batch"),
    [
        (
            torch.full((COUNT, 1, 2, 2), 200, dtype=torch.uint8),
            torch.float32,
        ),  # bytes of images: kept, floats in a batch
        (torch.full((COUNT, 3), 200, dtype=torch.int64), torch.int64),  # indices of tokens: as they are
        (torch.full((COUNT, 3), 200.0, dtype=torch.float64), torch.float32),
        (torch.full((COUNT, 3), 200.0, dtype=torch.float16), torch.float32),
        (torch.full((COUNT, 3), 200.0, dtype=torch.bfloat16), torch.float32),
    ],
)
def test_dtypes_of_inputs(inputs: Tensor, batch: torch.dtype) -> None:
    found, _ = adapt.load((inputs, Y)).train.batch(slice(0, 5))
    assert found.dtype == batch
    assert found.unique().tolist() == [200]  # without a divisor nothing is scaled


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        (X[:, :1].double(), torch.float32),  # a loss between float32 outputs and float64 targets has no backward pass
        (X[:, :1].half(), torch.float32),
        (Y.int(), torch.int64),
        (Y.to(torch.uint8), torch.int64),
        (Y.bool(), torch.bool),
    ],
)
def test_dtypes_of_targets(targets: Tensor, dtype: torch.dtype) -> None:
    assert adapt.load((X, targets)).train.batch(slice(0, 5))[1].dtype == dtype


def test_a_user_s_tensors_are_left_alone() -> None:
    inputs, targets = X.clone(), Y.clone()
    data = adapt.load((inputs, targets))
    data.train.inputs.zero_()
    assert torch.equal(inputs, X)
    assert torch.equal(targets, Y)


def test_a_random_transform_is_drawn_once_and_always_alike() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = adapt.load(Noisy())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert adapt.load(Noisy()).sha256 == first.sha256
    assert (
        adapt.load(lambda: (X + torch.rand(COUNT, 4), Y)).sha256
        == adapt.load(lambda: (X + torch.rand(COUNT, 4), Y)).sha256
    )


REFUSED = {
    "nothing": (
        None,
        "a NoneType is no data of a workload; give a DataSet, (inputs, targets), ((inputs, targets), (test",
    ),
    "a text": ("data.csv", "a str is no data of a workload"),
    "a path": (Path("data.csv"), "Path is no data of a workload"),
    "a dictionary": ({"x": X, "y": Y}, "a dict is no data of a workload"),
    "one tensor": (X, "a Tensor is no data of a workload"),
    "three tensors": ((X, Y, X), "a tuple of Tensor, Tensor, Tensor is no data of a workload"),
    "three sets": (((X, Y), (X, Y), (X, Y)), "a tuple of tuple, tuple, tuple is no data of a workload"),
    "an empty tuple": ((), "a tuple of nothing is no data of a workload"),
    "lists of numbers": ((X.tolist(), Y.tolist()), "a list of list, list, list, list is no data of a workload"),
    "a class": (Noisy, "the class Noisy is no data of a workload"),
    "a loader": (DataLoader(TensorDataset(X, Y)), "DataLoader is read batch by batch and cannot be divided"),
    "a stream": (
        Stream(),
        "Stream is read batch by batch and cannot be divided: give three, (training, validation, test)",
    ),
    "two streams": ((Stream(), Stream()), "Stream is read batch by batch"),
    "dictionaries": (Pairs({"x": X[0]}), "every item of Pairs must be a pair (input, target); item 0 is a dict"),
    "triples": (Pairs((1, 2), (1, 2, 3)), "item 1 is a tuple of int, int, int"),
    "a ragged dataset": (
        Pairs((X[0], 0), (X[0, :3], 0)),
        "all inputs of Pairs must have one shape, not (4,) first and (3,) in",
    ),
    "objects": (Pairs((object(), 0)), "input of item 0 of Pairs of type object cannot become a tensor"),
    "texts as targets": (Pairs((X[0], "cat")), "target of item 0 of Pairs of type str cannot become a tensor"),
    "an empty dataset": (Pairs(), "Pairs has no examples"),
    "an array of objects": ((np.array([None] * 5), Y[:5]), "inputs of type ndarray cannot become a tensor"),
    "more inputs": ((X, Y[:50]), "inputs and targets must be equally many; there are 60 and 50"),
    "more test targets": (((X, Y), (X[:3], Y)), "inputs and targets must be equally many; there are 3 and 60"),
    "numbers": ((torch.tensor(1.0), torch.tensor(1)), "there are a single number and a single number"),
    "sparse tensors": (
        (X.to_sparse(), Y),
        "inputs must be a dense tensor of real numbers, not torch.sparse_coo of torch.float",
    ),
    "complex numbers": (
        (X.to(torch.complex64), Y),
        "inputs must be a dense tensor of real numbers, not torch.strided of tor",
    ),
    "ambiguous integers": (
        (X.int(), Y),
        "inputs of dtype torch.int32 can mean two things; give indices (tokens) as torch.int64",
    ),
    "other features": (
        ((X, Y), (X[:, :3], Y)),
        "inputs of an example are torch.float32 (4,) for training and torch.float32 (3,)",
    ),
    "other targets": (
        ((X, Y), (X, Y.float())),
        "targets of an example are torch.int64 () for training and torch.float32 ()",
    ),
    "no examples": (
        (X[:0], Y[:0]),
        "there are 0 examples for training and validation and 0 for the test; give at least one",
    ),
    "two examples": ((X[:2], Y[:2]), "there are 1 examples for training and validation and 1 for the test"),
    "no test examples": (
        ((X, Y), (X[:0], Y[:0])),
        "there are 60 examples for training and validation and 0 for the test",
    ),
    "two arguments": (
        lambda train, test: (X, Y),
        "data must be a function of the data folder or of nothing; this one needs",
    ),
    "a function of nothing": (lambda: None, "a NoneType is no data of a workload"),
}


@pytest.mark.parametrize(("source", "told"), REFUSED.values(), ids=REFUSED)
def test_other_data_are_refused_and_told(source: Any, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        adapt.load(source)


def test_trouble_in_the_user_s_code_is_a_failure_and_no_usage_error() -> None:
    class Torn(Noisy):
        def __getitem__(self, index: int) -> Any:
            raise OSError("image 3 is truncated")

    def missing() -> Any:
        return np.load("nowhere.npy")

    for source, told in (
        (Torn(), "item 0 of Torn could not be loaded: OSError: image 3 is truncated"),
        (missing, "the workload's data could not be loaded: FileNotFoundError: .*nowhere.npy"),
    ):
        with pytest.raises(DataError, match=told):
            adapt.load(source)


def test_a_word_of_ours_from_the_user_s_code_comes_through() -> None:
    def refused() -> Any:
        raise StudyError("fetch it first")

    with pytest.raises(StudyError, match=r"^fetch it first$"):
        adapt.load(refused)


def test_three_examples_are_enough_for_three_sets() -> None:
    data = adapt.load((X[:3], Y[:3]))
    parts = split(data, Sizes.usual(data))
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [1, 1, 1]
    rows = [tuple(part.inputs[0].tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sorted(rows) == sorted(map(tuple, X[:3].tolist()))


def test_random_transforms_are_read_anew_for_every_epoch_and_seed() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate()
    train = split(adapt.load(Augmented()), Sizes(30, 10, 10)).train
    readings = {place: train.drawn(*place).inputs for place in [(0, 1), (0, 2), (1, 1)]}
    for inputs in readings.values():
        assert not torch.equal(inputs, train.inputs)
        assert (inputs - train.inputs).abs().max() < 3  # the same examples in the same places
    assert len({tuple(inputs.flatten().tolist()) for inputs in readings.values()}) == 3
    assert torch.equal(train.drawn(0, 2).inputs, readings[0, 2])
    assert torch.equal(train.drawn(0, 2).targets, train.targets)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_the_same_data_come_out_of_every_loading_of_random_transforms() -> None:
    one, two = adapt.load(Augmented()), adapt.load(Augmented())
    assert one.sha256 == two.sha256
    assert torch.equal(one.train.inputs, two.train.inputs)


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), SeededByItem(), Subset(TensorDataset(X, Y), range(COUNT))])
def test_a_dataset_without_random_transforms_is_read_once(dataset: Any) -> None:
    train = adapt.load(dataset).train
    assert train.drawn(0, 1) is train


@pytest.mark.parametrize("dataset", [OwnStream(), Counting()])
def test_what_cannot_be_seeded_is_refused(dataset: Any) -> None:
    with pytest.raises(UsageError, match=r"gives other examples when it is read again from equal seeds.* global gen"):
        adapt.load(dataset)


def test_trials_on_random_transforms_are_paired_resumed_and_repeated_and_see_all_of_them(tmp_path: Path) -> None:
    made = planned(small(data=Augmented()), "sgd[lr=0]", "adam[lr=0]", epochs_wanted=3)
    one, other = evaluations(made)
    records = [[event.record for event in events_of(spec, made.task)][1:] for spec in (one, other)]
    assert records[0] == records[1]
    epochs = [record for record in records[0] if record["kind"] == "epoch"]
    assert len({record["validation_loss"] for record in epochs}) == 1  # read once
    assert len({record["train_loss"] for record in epochs[1:]}) == 3
    folder = StudyFolder(tmp_path / "study")
    with folder.writing():
        dropped(one, made.task, folder, 5)
        run_with_checkpoints(one, made.task, folder)
    assert record_bytes(folder, one) == record_bytes(events_of(one, made.task))
