"""A stream of random numbers for every purpose, so that no purpose disturbs another.

No stream depends on the optimizer: all optimizers of a seed start from the same weights, see the same batches in
the same order, drop the same units and are measured with the same draws. Nothing here leaves a global generator
changed.

>>> derive("init", 0) == derive("init", 0)
True
>>> derive("init", 0) == derive("order", 0)
False
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import numpy as np
import torch

PURPOSES: Final = {
    "init": "the model's initial weights, and all else before training begins; one stream per seed",
    "optimizer": "the optimizer's own draws while it is built; one stream per seed and optimizer of a run",
    "order": "the order of the training examples in every epoch; one stream per seed, of a loader per seed and epoch",
    "transforms": "random transforms of the training examples; one stream per seed and epoch",
    "dropout": "random layers during training; one stream per seed",
    "noise": "the optimizer's own draws from torch's generator; one stream per seed",
    "generator": "generators that a training function asks for; one stream per seed and name",
    "evaluation": "random layers and metrics during evaluation; one stream per seed, set and step",
    "search": "the points of the search space; one stream for all optimizers",
    "split": "which examples are for training, validation and test; one stream for all seeds",
}

Position = dict[str, Any]
"""A state of the generators of torch, NumPy and Python's `random`, as tensors, numbers and tuples."""
_DEVICE: Final = "device"


def derive(purpose: str, seed: int, *parts: int | str) -> int:
    """Return the 63-bit number that starts the stream of a purpose. It is equal on every machine."""
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; the purposes are {', '.join(PURPOSES)}")
    name = "/".join(map(str, ("steepest", purpose, seed, *parts)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(purpose: str, seed: int, *parts: int | str) -> torch.Generator:
    """Return a fresh generator at the start of the purpose's stream."""
    return torch.Generator().manual_seed(derive(purpose, seed, *parts))


def start(purpose: str, seed: int, *parts: int | str) -> Position:
    """Return the position at the start of the purpose's stream, for `GlobalStream.position`."""
    return _start(derive(purpose, seed, *parts))


class GlobalStream:
    """A stream for code that draws from the global generators of torch, NumPy and `random`: layers, transforms.

    Inside `with stream.active():` the global generators continue this stream; after it they are as they were. Blocks of
    one stream may be nested, and the inner ones cost nothing.
    """

    _current: ClassVar["GlobalStream | None"] = None

    def __init__(self, purpose: str, seed: int, *parts: int | str) -> None:
        self._position = start(purpose, seed, *parts)

    @property
    def position(self) -> Position:
        """The state of the stream. Assign a state to continue from it."""
        return _read() if GlobalStream._current is self else self._position

    @position.setter
    def position(self, position: Position) -> None:
        if GlobalStream._current is self:
            _write(position)
        self._position = position

    @contextmanager
    def active(self) -> Iterator[None]:
        """Lend the global generators to this stream."""
        before = GlobalStream._current
        if before is self:
            yield
            return
        outside = _read()
        _write(self._position)
        GlobalStream._current = self
        try:
            yield
        finally:
            self._position = _read()
            _write(outside)
            GlobalStream._current = before


class Noise:
    """A stream for an optimizer that draws random numbers itself, so that its draws move no other stream.

    It is entered and left in every step, so it covers only torch's generator, which costs microseconds.
    """

    def __init__(self, seed: int) -> None:
        self.state = {name: state for name, state in start("noise", seed).items() if name in ("torch", _DEVICE)}
        """Its state while it is not active."""
        self._outside = self.state

    def begin(self) -> None:
        """Lend torch's global generator to the optimizer."""
        self._outside = _of_torch()
        _set_torch(self.state)

    def end(self) -> None:
        """Take the generator back."""
        self.state = _of_torch()
        _set_torch(self._outside)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Give torch's generator back for a while between `begin` and `end`, to evaluate the loss."""
        self.end()
        try:
            yield
        finally:
            self.begin()


_devices: list[torch.device] = []
"""The accelerators whose generators belong to every stream, innermost last; empty on a CPU."""


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Let all streams of the block hold the generator of a device too."""
    if device.type == "cpu":
        yield
        return
    _devices.append(device)
    try:
        yield
    finally:
        _devices.pop()


def _start(seed: int) -> Position:
    return {
        **({_DEVICE: torch.Generator(_devices[-1]).manual_seed(seed).get_state()} if _devices else {}),
        "torch": torch.Generator().manual_seed(seed).get_state(),
        "numpy": _plain(np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32]).get_state()),
        "python": random.Random(seed).getstate(),
    }


def _read() -> Position:
    return {
        **_of_torch(),
        "numpy": _plain(np.random.get_state()),
        "python": random.getstate(),
    }


def _of_torch() -> Position:
    """Return the states of torch's generators."""
    return {
        "torch": torch.get_rng_state(),
        **({_DEVICE: torch.get_device_module(_devices[-1]).get_rng_state()} if _devices else {}),
    }


def _set_torch(position: Position) -> None:
    torch.set_rng_state(position["torch"])
    if _devices:
        torch.get_device_module(_devices[-1]).set_rng_state(position[_DEVICE])


def _write(position: Position) -> None:
    name, keys, *rest = position["numpy"]
    _set_torch(position)
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(position["python"])


def _plain(state: Any) -> tuple[Any, ...]:
    """Return NumPy's state with a tensor for its array, which a checkpoint can hold."""
    name, keys, *rest = state
    return (name, torch.from_numpy(keys.astype(np.int64)), *rest)
