"""A stream of random numbers for every purpose, so that no purpose disturbs another.

The optimizer is no part of any stream: all optimizers of a seed start from the same weights, see the same batches in
the same order and drop the same units. Nothing here leaves torch's global generator changed.

>>> derive("init", 0) == derive("init", 0)
True
>>> derive("init", 0) == derive("order", 0)
False
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

PURPOSES: Final = {
    "init": "the model's initial weights; one stream per seed",
    "order": "the order of the training examples in every epoch; one stream per seed",
    "dropout": "random layers during training; one stream per seed",
    "search": "the points of the search space; one stream for all optimizers",
    "split": "which examples are for training, validation and test; one stream for all seeds",
}


def derive(purpose: str, seed: int) -> int:
    """Return the 63-bit number that starts the stream of a purpose; equal on every machine."""
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; the purposes are {', '.join(PURPOSES)}")
    digest = hashlib.sha256(f"steepest/{purpose}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(purpose: str, seed: int) -> torch.Generator:
    """Return a fresh generator at the start of the purpose's stream."""
    return torch.Generator().manual_seed(derive(purpose, seed))


class GlobalStream:
    """A stream for code that draws from torch's global generator: layers' initial weights, dropout.

    Inside `with stream.active():` the global generator continues this stream; outside it is as it was.
    """

    def __init__(self, purpose: str, seed: int) -> None:
        self.state = generator(purpose, seed).get_state()
        """Where the stream stands, as torch tells and takes it."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Lend the global generator to this stream."""
        outside = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(outside)

    def rewind(self) -> None:
        """Inside `active`: go back to where the block began, to evaluate the same random function once more."""
        torch.set_rng_state(self.state)
