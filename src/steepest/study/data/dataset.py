"""Examples in memory, and the three sets of a trial."""

import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from steepest.study import seeds
from steepest.study.data.loaders import Loaded


@dataclass(frozen=True)
class Examples:
    """Inputs and targets in parallel; stored compactly, converted to floats one batch at a time.

    `divisor` is the number that a stored input is divided by: 255 turns the bytes of an image into [0, 1].
    """

    inputs: Tensor
    targets: Tensor
    divisor: float = 1.0

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, indices: Tensor) -> "Examples":
        """Return the examples with these indices, in this order."""
        return replace(self, inputs=self.inputs[indices], targets=self.targets[indices])

    def to(self, device: torch.device) -> "Examples":
        """Return the examples on a device. They are moved once per process."""
        return self if self.inputs.device.type == device.type else _moved(self, device)

    def drawn(self, seed: int, epoch: int) -> "Examples":
        """Return the examples for a seed and an epoch. Here they are always the same."""
        del seed, epoch
        return self

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a batch: floats, or 64-bit integers where they are indices.

        Images come out channels_last, which suits convolutions on CPU.
        """
        inputs = self.inputs[indices]
        if inputs.dtype != torch.int64:
            inputs = inputs.to(torch.float32)
        if self.divisor != 1.0:
            inputs = inputs / self.divisor  # not in place: a slice of stored floats is the store itself
        if self.images:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, self.targets[indices]

    def chunks(self, size: int) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield all examples in order, so many at once."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def beginning(self, examples: int) -> "Examples":
        """Return the first examples."""
        return self.at(torch.arange(min(examples, len(self))))

    def tries(self, size: int | None) -> list[tuple[Tensor, Tensor]]:
        """Return the first batch of a training in batches of this size, and one of the size of an epoch's last.

        The first has two examples at least: a single one hides a broadcast.
        """
        size = size or 1
        return [self.batch(slice(0, max(2, size))), self.batch(slice(0, len(self) % size or size))]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the stored inputs and targets, for data that do not come from files."""
        parts = (self.inputs.contiguous().numpy().tobytes(), self.targets.contiguous().numpy().tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def images(self) -> bool:
        """True if the inputs are images: batch, channel, height, width."""
        return self.inputs.dim() == 4


@dataclass(frozen=True, kw_only=True)
class Transformed(Examples):
    """Examples of a dataset with random transforms. `inputs` and `targets` are one reading; every epoch takes another.

    `read` returns the examples at the given indices of the dataset; `places` are the indices of these examples.
    """

    read: Callable[[Tensor], Examples]
    places: Tensor

    def at(self, indices: Tensor) -> "Transformed":
        """Return the examples with these indices, in this order."""
        chosen = {name: getattr(self, name)[indices] for name in ("inputs", "targets", "places")}
        return replace(self, **chosen)

    def drawn(self, seed: int, epoch: int) -> Examples:
        """Return another reading, whose transforms draw from the stream of this seed and epoch."""
        with seeds.GlobalStream("transforms", seed, epoch).active():
            return self.read(self.places.cpu()).to(self.inputs.device)


NONE = Examples(torch.empty(0), torch.empty(0))


_ON_DEVICES = WeakTensorKeyDictionary()


def _moved(examples: Examples, device: torch.device) -> Examples:
    """Return the examples on a device, the same ones as long as their inputs live."""
    known = _ON_DEVICES.get(examples.inputs, None)  # type: ignore[no-untyped-call]
    if known is None or known[0] != device.type:
        tensors: dict[str, Any] = {
            name: part.to(device) for name, part in vars(examples).items() if isinstance(part, Tensor)
        }
        known = _ON_DEVICES[examples.inputs] = device.type, replace(examples, **tensors)
    moved: Examples = known[1]
    return moved


@dataclass(frozen=True)
class DataSet:
    """A whole data set as its publisher divided it, with its origin and the expected digests.

    `loaders` are training, validation and test set where all three are read batch by batch, and nothing is divided;
    `train` and `test` are empty then.
    """

    name: str
    source: str
    train: Examples
    test: Examples
    sha256: Mapping[str, str] = field(default_factory=dict)
    fallback: str | None = None  # a sentence when this stands in for the data that was asked for
    in_order: bool = False  # neighbours belong together (text, time): sets are cut from it whole, not drawn
    loaders: tuple[Loaded, Loaded, Loaded] | None = None


@dataclass(frozen=True)
class Splits:
    """Training, validation and test examples of one trial; no example is in two of them."""

    train: Examples | Loaded
    validation: Examples | Loaded
    test: Examples | Loaded
