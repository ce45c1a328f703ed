"""The state of what a training function names in `keep=`: read for a checkpoint, and put back into the same objects."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from steepest.optimizer import Optimizer
from steepest.study.errors import UsageError

Keep = Mapping[str, Any]
"""Objects by name."""
State = Any
"""Tensors, numbers, texts and containers of them, which a checkpoint can hold."""


@dataclass(frozen=True)
class Keeper:
    """The way to read the state of one kind of object, and to put it back."""

    fits: Callable[[Any], bool]
    read: Callable[[Any], State]
    write: Callable[[Any, State], object]


@runtime_checkable
class Stateful(Protocol):
    """Anything with torch's pair of methods."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Put a state back."""


def check(keep: Keep) -> None:
    """Raise UsageError if the state of an object cannot be read."""
    if not isinstance(keep, Mapping):
        raise UsageError(f"keep= takes a dict of objects by name, such as dict(model=model), not {keep!r}")
    for name, thing in keep.items():
        try:
            _keeper(thing)
        except UsageError as error:
            raise UsageError(f"keep= cannot hold {name!r}: {error}") from None


def read(thing: Any) -> State:
    """Return the state of an object. Tensors in it are not copied."""
    return _keeper(thing).read(thing)


def write(thing: Any, state: State) -> None:
    """Put a state back into an object of the same structure."""
    _keeper(thing).write(thing, state)


def _keeper(thing: Any) -> Keeper:
    for keeper in KEEPERS:
        if keeper.fits(thing):
            return keeper
    raise UsageError(
        f"the state of a {type(thing).__name__} cannot be read; an object has state_dict and load_state_dict, or it is "
        "a random generator, a DataLoader, or a dict of tensors, numbers and texts"
    )


def _read_module(module: nn.Module) -> State:
    """Return state dict, modes, and the buffers that the state dict leaves out (`persistent=False`)."""
    saved = module.state_dict()
    return {
        "saved": saved,
        "buffers": {name: buffer for name, buffer in module.named_buffers() if name not in saved},
        "modes": {name: part.training for name, part in module.named_modules()},
    }


def _write_module(module: nn.Module, state: State) -> None:
    module.load_state_dict(state["saved"])
    buffers = dict(module.named_buffers())
    for name, value in state["buffers"].items():
        buffers[name].copy_(value)
    for name, part in module.named_modules():
        part.training = state["modes"][name]


def _read_loader(loader: DataLoader[Any]) -> State:
    """Return the states of a loader's generators between two passes, as it has no state of its own."""
    return {name: read(generator) for name, generator in _generators(loader).items()}


def _write_loader(loader: DataLoader[Any], state: State) -> None:
    for name, generator in _generators(loader).items():
        write(generator, state[name])


def _generators(loader: DataLoader[Any]) -> dict[str, torch.Generator]:
    owners = {"loader": loader, "sampler": loader.sampler, "batch_sampler": loader.batch_sampler}
    found = {name: getattr(owner, "generator", None) for name, owner in owners.items()}
    return {name: generator for name, generator in found.items() if isinstance(generator, torch.Generator)}


def _is_plain(thing: Any) -> bool:
    return isinstance(thing, dict) and all(
        value is None or isinstance(value, Tensor | int | float | str | bool) or _is_plain(value)
        for value in thing.values()
    )


def _read_plain(thing: dict[str, Any]) -> State:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in thing.items()}


def _write_plain(thing: dict[str, Any], state: State) -> None:
    """Put values back; a tensor keeps its identity, because other objects may hold it."""
    for name, value in state.items():
        old = thing.get(name)
        if isinstance(old, Tensor) and isinstance(value, Tensor) and old.shape == value.shape:
            with torch.no_grad():
                old.copy_(value)
        else:
            thing[name] = value
    for name in thing.keys() - state.keys():
        del thing[name]


def _read_random(source: random.Random) -> State:
    return source.getstate()


def _read_numpy(source: Any) -> State:
    """Return the state of a NumPy generator, its array as a tensor."""
    return _plain_arrays(_bits(source).state)


def _write_numpy(source: Any, state: State) -> None:
    _bits(source).state = state


def _bits(source: Any) -> Any:
    return source.bit_generator if isinstance(source, np.random.Generator) else source._bit_generator


def _plain_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_arrays(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda thing: isinstance(thing, kinds)


KEEPERS: Final = (
    Keeper(_of(nn.Module), _read_module, _write_module),
    Keeper(_of(Optimizer), Optimizer.state_dict, lambda own, state: own.load_state_dict(state, keep_dtype=True)),
    Keeper(_of(Stateful), lambda thing: thing.state_dict(), lambda thing, state: thing.load_state_dict(state)),
    Keeper(_of(torch.Generator), torch.Generator.get_state, torch.Generator.set_state),
    Keeper(_of(DataLoader), _read_loader, _write_loader),
    Keeper(_of(np.random.Generator, np.random.RandomState), _read_numpy, _write_numpy),
    Keeper(_of(random.Random), _read_random, random.Random.setstate),
    Keeper(_is_plain, _read_plain, _write_plain),
)
"""The kinds of objects that can be kept; the first that fits counts."""
