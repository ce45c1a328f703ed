"""Where each side goes from the same start with the same gradients, in float64, under a rate that changes half-way.

The rate changes because a constant one cannot tell whether a buffer holds it. Gradients have sizes from 1e-5 to 1, so
that it matters where ε is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import steepest
from oracles import ORACLES

SHAPES = [(3, 4), (5,)]
MULTIPLIERS = [1.0] * 8 + [0.25] * 8
"""What the base rate is multiplied by, step by step."""

Point = list[npt.NDArray[np.float64]]
Path = list[Point]


def start_and_gradients() -> tuple[Point, list[Point]]:
    """Parameters of size about 1, and a gradient for each step; none is zero."""
    rng = np.random.default_rng(7)

    def drawn(shape: tuple[int, ...], size: Any) -> npt.NDArray[np.float64]:
        return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape) * size)

    sizes = [10.0 ** rng.uniform(-5.0, 0.0, shape) for shape in SHAPES]
    start = [drawn(shape, 1.0) for shape in SHAPES]
    return start, [[drawn(shape, size) for shape, size in zip(SHAPES, sizes, strict=True)] for _ in MULTIPLIERS]


def _parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor(x)) for x in start_and_gradients()[0]]


def _run(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> Path:
    base = optimizer.param_groups[0]["lr"]
    path: Path = []
    for multiplier, of_step in zip(MULTIPLIERS, start_and_gradients()[1], strict=True):
        optimizer.param_groups[0]["lr"] = base * multiplier
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        path.append([p.detach().numpy().copy() for p in params])
    return path


def ours(name: str, options: Mapping[str, Any]) -> Path:
    """The path of our class ``name``."""
    params = _parameters()
    return _run(getattr(steepest, name)(params, **options), params)


def _torchs(theirs: str, base: float) -> Path:
    params = _parameters()
    return _run(eval(theirs, {"torch": torch, "params": params}), params)


def _keras(theirs: str, base: float) -> Path:
    """At Keras's own default rate: that ours is the same shows in the result."""
    import keras

    keras.config.set_floatx("float64")
    optimizer = eval(theirs, {"keras": keras})
    start, grads = start_and_gradients()
    variables = [keras.Variable(x, dtype="float64") for x in start]
    own = float(optimizer.learning_rate)
    path: Path = []
    for multiplier, of_step in zip(MULTIPLIERS, grads, strict=True):
        optimizer.learning_rate = own * multiplier
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in of_step], variables)
        path.append([np.array(x) for x in variables])
    return path


def _optax(theirs: str, base: float) -> Path:
    """With our rate, as a schedule named ``lr``; ``multiplier`` is the same schedule without the base rate."""
    import jax.numpy as jnp
    import optax

    def schedule(base: float) -> Callable[[Any], Any]:
        return lambda count: jnp.asarray([base * multiplier for multiplier in MULTIPLIERS])[count]

    transformation = eval(theirs, {"optax": optax, "lr": schedule(base), "multiplier": schedule(1.0)})
    start, grads = start_and_gradients()
    params = [jnp.asarray(x) for x in start]
    state = transformation.init(params)
    path: Path = []
    for of_step in grads:
        updates, state = transformation.update([jnp.asarray(g) for g in of_step], state, params)
        params = optax.apply_updates(params, updates)
        path.append([np.array(x) for x in params])
    return path


def _formula(theirs: str, base: float) -> Path:
    """The oracle of that name, stopped after every step."""
    start, grads = start_and_gradients()
    oracle = eval(theirs, {"formula": SimpleNamespace(**{n: partial(partial, f) for n, f in ORACLES.items()})})
    rates = [base * multiplier for multiplier in MULTIPLIERS]
    ends = (oracle(start, grads[:count], lr=rates[:count]) for count in range(1, len(grads) + 1))
    return [[result["param"] for result in end] for end in ends]


PEERS: dict[str, Callable[[str, float], Path]] = {
    "torch": _torchs,
    "keras": _keras,
    "optax": _optax,
    "formula": _formula,
}
"""The path of an expression with a base rate, by the library that the expression starts with."""


def largest_difference(path: Path, other: Path) -> float:
    """Over all steps and elements."""
    pairs = ((a, b) for x, y in zip(path, other, strict=True) for a, b in zip(x, y, strict=True))
    return max(float(np.abs(a - b).max()) for a, b in pairs)
