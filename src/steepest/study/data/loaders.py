"""Sets that are read batch by batch: from DataLoaders, from datasets that get one, from any iterable of batches."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar, Final

import torch
from torch.utils.data import DataLoader, IterableDataset

from steepest.study import seeds
from steepest.study.data import batches
from steepest.study.data.batches import Batch
from steepest.study.errors import UsageError

CPU: Final = torch.device("cpu")
ENDED: Final = object()
EVALUATED: Final = (0, 0)
"""Seed and epoch whose draws a validation or test set is always read with; no epoch of training is 0."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A set that is read anew in every pass, with draws that depend on nothing but seed and epoch.

    `loader` yields batches, or is a dataset that `batched` puts into a DataLoader. `limit` is the largest number of
    batches of a pass.
    """

    loader: Any
    device: torch.device = CPU
    limit: int | None = None
    images: ClassVar[bool] = False

    @property
    def batch_size(self) -> int | None:
        """Examples of a batch, None where the loader does not say."""
        size = getattr(self.loader, "batch_size", None)
        return size if isinstance(size, int) else None

    @property
    def batches(self) -> int | None:
        """Batches of a pass, None if it has no length."""
        try:
            return len(self.loader)
        except TypeError:
            return None

    def batched(self, size: int | None, *, shuffle: bool) -> "Loaded":
        """Return the set with a DataLoader for its dataset; one that yields batches already stays as it is."""
        if not _is_dataset(self.loader):
            return self
        if size is None:
            raise UsageError(
                f"batch_size of a workload is missing: {type(self.loader).__name__} is a dataset, which needs one; "
                "only DataLoaders have their own"
            )
        in_order = isinstance(self.loader, IterableDataset)
        return replace(self, loader=DataLoader(self.loader, batch_size=size, shuffle=shuffle and not in_order))

    def to(self, device: torch.device) -> "Loaded":
        """Return the set with batches on a device."""
        return replace(self, device=device)

    def beginning(self, examples: int) -> "Loaded":
        """Return a small part of the set: its first batch, however many examples are wanted."""
        del examples
        return replace(self, limit=1)

    def tries(self, size: int | None) -> list[Batch]:
        """Return batches of different sizes that the training will see: the first one."""
        del size
        with closing(self.passed(0, 1)) as found:
            first = next(found, ENDED)
        if first is ENDED:
            raise UsageError(f"the {type(self.loader).__name__} for training yields no batch")
        return [first]

    def chunks(self, size: int) -> Generator[Batch, None, None]:
        """Yield the batches of an evaluation, the same ones every time."""
        del size
        return self.passed(*EVALUATED)

    def passed(self, seed: int, epoch: int, skipped: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of a pass, after some that are left out.

        The loader's generator and those of its samplers are the study's meanwhile, and so are the global ones; worker
        processes take their seeds from the loader's.
        """
        stream, generator = seeds.GlobalStream("transforms", seed, epoch), seeds.generator("order", seed, epoch)
        with _lent(self.loader, stream, generator):
            source = iter(self.loader)

        def read() -> Any:
            with _lent(self.loader, stream, generator):
                return next(source, ENDED)

        for batch in islice(iter(read, ENDED), skipped, None if self.limit is None else skipped + self.limit):
            yield batches.on(self.device, batch)


@contextmanager
def _lent(loader: Any, stream: seeds.GlobalStream, generator: torch.Generator) -> Iterator[None]:
    """Give a loader and its samplers a generator inside the block, and its code the draws of a stream."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners: tuple[Any, ...] = (
        loader,
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
    )
    with stream.active(), ExitStack() as afterwards:
        for owner in owners:
            if hasattr(owner, "generator"):
                afterwards.callback(setattr, owner, "generator", owner.generator)
                owner.generator = generator
        yield


def loaded(source: Any) -> Loaded:
    """Return a set of a DataLoader, of a dataset, or of an iterable of batches.

    Raises:
        UsageError: it is none, or cannot be read again in the same way.
    """
    name = type(source).__name__
    if isinstance(source, torch.Tensor | tuple | list | dict | str | type) or hasattr(source, "__array__"):
        raise UsageError(f"a {name} is no training, validation or test set that is read batch by batch; {_ADVICE}")
    if isinstance(source, DataLoader) and source.persistent_workers:
        raise UsageError(
            "a DataLoader with persistent_workers=True keeps draws in other processes, so that no trial could resume; "
            "leave it out"
        )
    if not _is_dataset(source) and not hasattr(source, "__iter__"):
        raise UsageError(f"{name} has no __iter__ and yields no batches; {_ADVICE}")
    if isinstance(source, Iterator):
        raise UsageError(f"a {name} can be read once only, and every epoch reads it; {_ADVICE}")
    return Loaded(source)


_ADVICE: Final = (
    "give a DataLoader, a torch dataset (map-style or iterable), or an object whose __iter__ yields the batches anew"
)


def is_read_in_batches(source: Any) -> bool:
    """Return whether a source is read batch by batch in any case."""
    return isinstance(source, DataLoader | IterableDataset)


def _is_dataset(source: Any) -> bool:
    if isinstance(source, DataLoader):
        return False
    return isinstance(source, IterableDataset) or (hasattr(source, "__getitem__") and hasattr(source, "__len__"))
