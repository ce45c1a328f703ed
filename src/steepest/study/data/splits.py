"""Division of a data set into training, validation and test sets. It is the same in every study."""

from dataclasses import dataclass

import torch

from steepest.study import seeds
from steepest.study.data.dataset import DataSet, Examples, Splits
from steepest.study.errors import UsageError


@dataclass(frozen=True)
class Sizes:
    """The number of examples in each set."""

    train: int
    validation: int
    test: int

    def fitted(self, data: DataSet) -> "Sizes":
        """Return these sizes, reduced in proportion if the data set stands in for a larger one."""
        _check_divisible(data)
        available, tests = len(data.train), len(data.test)
        wanted = self.train + self.validation
        if wanted <= available and self.test <= tests:
            return self
        if data.fallback is None:
            raise UsageError(
                f"{data.name} has {available} training and {tests} test examples; "
                f"{self.train} + {self.validation} and {self.test} were asked for"
            )
        validation = available * self.validation // wanted
        return Sizes(available - validation, validation, min(self.test, tests))

    @classmethod
    def usual(cls, data: DataSet) -> "Sizes":
        """Return the usual sizes: a tenth of the training examples for validation, all others for training."""
        _check_divisible(data)
        validation = max(1, len(data.train) // 10)
        return cls(len(data.train) - validation, validation, len(data.test))

    @classmethod
    def everything(cls, data: DataSet) -> "Sizes":
        """Return the sizes that train on all training examples and leave none for validation."""
        _check_divisible(data)
        return cls(len(data.train), 0, len(data.test))


def split(data: DataSet, sizes: Sizes) -> Splits:
    """Draw the three sets. The draw depends only on the data set's size, so every trial of every study shares it.

    Validation examples come first in the draw: with a smaller training set they stay the same examples. Data in order
    are not drawn but taken from their end: the validation examples follow the training examples.
    """
    taken = _from_the_end if data.in_order else _shuffled
    order = taken(len(data.train), draw=0)
    chosen = order[sizes.validation : sizes.validation + sizes.train]
    return Splits(
        train=_pick(data.train, chosen),
        validation=_pick(data.train, order[: sizes.validation]),
        test=_pick(data.test, taken(len(data.test), draw=1)[: sizes.test]),
    )


def _check_divisible(data: DataSet) -> None:
    if data.loaders is not None:
        raise UsageError(
            "training, validation and test set are read batch by batch as they are, so they have no sizes to choose "
            "(sizes=, --all-train) and no range of learning rates is tried on them; give tensors or one dataset for "
            "that"
        )


def _shuffled(count: int, draw: int) -> torch.Tensor:
    return torch.randperm(count, generator=seeds.generator("split", draw))


def _from_the_end(count: int, draw: int) -> torch.Tensor:
    del draw
    return torch.arange(count - 1, -1, -1)


def _pick(examples: Examples, indices: torch.Tensor) -> Examples:
    # Sorted indices keep the memory in file order; the order of training is drawn anew every epoch anyway.
    return examples.at(indices.sort().values)
