import pytest
import torch

from steepest.study.data import digits
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.splits import Sizes, split
from steepest.study.errors import UsageError


def numbered(train: int, test: int, fallback: str | None = None) -> DataSet:
    """Return data whose inputs are their own numbers, so that every example can be recognised."""
    numbers = torch.arange(train + test)
    everything = Examples(numbers, numbers)
    return DataSet("numbers", "here", everything.at(numbers[:train]), everything.at(numbers[train:]), {}, fallback)


def test_the_sets_are_disjoint_and_from_the_right_side() -> None:
    parts = split(numbered(100, 50), Sizes(70, 20, 30))
    train, validation, test = (set(part.inputs.tolist()) for part in (parts.train, parts.validation, parts.test))
    assert (len(train), len(validation), len(test)) == (70, 20, 30)
    assert not train & validation
    assert train | validation <= set(range(100))
    assert test <= set(range(100, 150))


def test_the_draw_is_always_the_same_and_mixed() -> None:
    once, again = (split(numbered(1000, 100), Sizes(600, 100, 50)) for _ in range(2))
    assert torch.equal(once.train.inputs, again.train.inputs)
    assert torch.equal(once.validation.inputs, again.validation.inputs)
    assert once.train.inputs.tolist() != list(range(600))


def test_a_smaller_training_set_keeps_the_validation_set() -> None:
    large, small = (split(numbered(1000, 100), Sizes(train, 100, 50)) for train in (900, 300))
    assert torch.equal(large.validation.inputs, small.validation.inputs)
    assert set(small.train.inputs.tolist()) <= set(large.train.inputs.tolist())


def test_all_train_leaves_no_validation_set_and_a_whole_test_set() -> None:
    data = numbered(100, 50)
    parts = split(data, Sizes.everything(data))
    assert sorted(parts.train.inputs.tolist()) == list(range(100))
    assert len(parts.validation) == 0
    assert len(parts.test) == 50


def test_a_stand_in_takes_what_there_is_in_proportion() -> None:
    sizes = Sizes(6000, 1000, 2000).fitted(numbered(700, 90, "a stand-in"))
    assert sizes == Sizes(600, 100, 90)


def test_real_data_are_never_shrunk_quietly() -> None:
    with pytest.raises(UsageError, match=r"700 training and 90 test examples; 6000 \+ 1000 and 2000 were asked for"):
        Sizes(6000, 1000, 2000).fitted(numbered(700, 90))


def test_images_are_bytes_in_memory_and_zero_to_one_in_a_batch() -> None:
    data = digits.load()
    assert data.train.inputs.dtype == torch.uint8
    inputs, targets = data.train.batch(slice(0, 50))
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)
    assert torch.equal(inputs, data.train.inputs[:50].float() / 255)


def test_images_come_out_channels_last() -> None:
    colour = Examples(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4), 255.0)
    inputs, _ = colour.batch(torch.tensor([2, 0]))
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_the_digits_are_divided_without_overlap() -> None:
    data = digits.load()
    assert len(data.train) + len(data.test) == 1797
    assert len(data.test) == digits.TEST_EXAMPLES
