"""Where each side goes from the same start with the same gradients: fifty steps in float64, under a schedule.

One schedule is constant. It cannot tell whether a buffer holds the rate, so the other rises and falls. Gradients have
sizes from 1e-5 to 1, so that it matters where ε is added.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path as File
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import steepest
from oracles import ORACLES
from steepest.codecs import stream_of
from steepest.noise import normal

from .comparison import Comparison

SHAPES = [(4, 6), (5,)]
STEPS = 50
SCHEDULES = {
    "constant": [1.0] * STEPS,
    "changing": [min((step + 1) / 10, (60 - step) / 50) for step in range(STEPS)],
}
"""What the base rate is multiplied by, step by step."""
LOSSES = [5.0 / (step + 1) for step in range(STEPS)]
"""For rules that need the loss of each step."""

Point = list[npt.NDArray[np.float64]]
Path = list[Point]
Schedule = list[float]


def start_and_gradients() -> tuple[Point, list[Point]]:
    """Parameters of size about 1, and a gradient for each step; none is zero."""
    rng = np.random.default_rng(7)

    def drawn(shape: tuple[int, ...], size: Any) -> npt.NDArray[np.float64]:
        return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape) * size)

    sizes = [10.0 ** rng.uniform(-5.0, 0.0, shape) for shape in SHAPES]
    start = [drawn(shape, 1.0) for shape in SHAPES]
    return start, [[drawn(shape, size) for shape, size in zip(SHAPES, sizes, strict=True)] for _ in range(STEPS)]


def _parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor(x)) for x in start_and_gradients()[0]]


def _run(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], schedule: Schedule) -> Path:
    base = optimizer.param_groups[0].get("lr")
    path: Path = []
    for loss, multiplier, of_step in zip(LOSSES, schedule, start_and_gradients()[1], strict=True):
        for group in optimizer.param_groups if base is not None else ():
            group["lr"] = base * multiplier
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g)
        takes_loss = "loss" in inspect.signature(optimizer.step).parameters
        optimizer.step(**({"loss": torch.tensor(loss)} if takes_loss else {}))
        path.append([p.detach().numpy().copy() for p in params])
    return path


def ours(comparison: Comparison, options: Mapping[str, Any], schedule: Schedule) -> Path:
    """The path of our class with these arguments."""
    matrix, vector = params = _parameters()
    groups: list[Any] = [{"params": [matrix]}, {"params": [vector], **comparison.vector}]
    groups = groups if comparison.vector else params
    optimizer = getattr(steepest, comparison.name)(groups, **options)
    return _run(optimizer, params, schedule)


def _in_torch(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """At the rate in the expression; ``named`` pairs the two parameters with the names that it is given."""
    import_module(comparison.theirs.partition("(")[0].rpartition(".")[0])
    return _in_module(comparison, sys.modules[comparison.library], schedule)


def _in_module(comparison: Comparison, module: ModuleType, schedule: Schedule) -> Path:
    """With a module under the library's name."""
    params = _parameters()
    names = {"params": params, "named": lambda *names: list(zip(names, params, strict=True))}
    with redirect_stdout(sys.stderr):  # some print their options, or what they do
        optimizer = eval(comparison.theirs, {comparison.library: module, **names})
        if hasattr(optimizer, "train"):
            optimizer.train()
        return _run(optimizer, params, schedule)


def _timm(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """From the optimizer's own file alone: timm imports torchvision, whose build must be that of torch."""
    if "timm" not in sys.modules:
        (folder,) = find_spec("timm").submodule_search_locations
        for name, path in (("timm", folder), ("timm.optim", f"{folder}/optim")):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [path]
        sys.modules["timm"].optim = sys.modules["timm.optim"]
    return _in_torch(comparison, base, schedule)


def _kron_torch(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """With our random numbers, and solving in float64. Where the sides are to be equal, they do not join the step."""
    in_place = "G += eps", "G += eps" if comparison.apart else "G = G + eps"
    module = _mended("kron_torch.kron", (".float()", ""), ("torch.randn_like(G)", "drawn(G)"), in_place)
    calls = itertools.count()

    def drawn(G: torch.Tensor) -> torch.Tensor:
        step, place = divmod(next(calls), len(SHAPES))
        return normal(stream_of(0, place), step + 1, tuple(G.shape), device="cpu")

    vars(module)["drawn"] = drawn
    return _in_module(comparison, module, schedule)


def _quad_torch(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """With two mistakes mended, without which version 0.4.5 fails for every matrix."""
    row = "A.index_select(0, j)"
    module = _mended("quad_torch.quad", ("math.max(", "max("), (row, f"{row}.squeeze(0)"))
    return _in_module(comparison, module, schedule)


def _mended(name: str, *changes: tuple[str, str]) -> ModuleType:
    """A module made from its source after these replacements, each of which must find its place."""
    source = File(str(find_spec(name).origin)).read_text("utf-8")
    for old, new in changes:
        assert old in source, f"{name} has no {old!r} any more"
        source = source.replace(old, new)
    module = ModuleType(name)
    exec(compile(source, name, "exec"), vars(module))
    return module


def _keras(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """At Keras's own default rate: that ours is the same shows in the result."""
    import keras

    keras.config.set_floatx("float64")
    optimizer = eval(comparison.theirs, {"keras": keras})
    start, grads = start_and_gradients()
    variables = [keras.Variable(x, dtype="float64") for x in start]
    own = float(optimizer.learning_rate)
    path: Path = []
    for multiplier, of_step in zip(schedule, grads, strict=True):
        optimizer.learning_rate = own * multiplier
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in of_step], variables)
        path.append([np.array(x) for x in variables])
    return path


def _optax(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """With our rate, as a schedule named ``lr``; ``multiplier`` is the same schedule without the base rate."""
    import jax.numpy as jnp
    import optax

    def rates(base: float) -> Callable[[Any], Any]:
        return lambda count: jnp.asarray([base * multiplier for multiplier in schedule])[count]

    made = eval(comparison.theirs, {"optax": optax, "lr": rates(base), "multiplier": rates(1.0)})
    transformation = optax.with_extra_args_support(made)
    start, grads = start_and_gradients()
    params = [jnp.asarray(x) for x in start]
    state = transformation.init(params)
    path: Path = []
    for loss, of_step in zip(LOSSES, grads, strict=True):
        updates, state = transformation.update([jnp.asarray(g) for g in of_step], state, params, value=loss)
        params = optax.apply_updates(params, updates)
        path.append([np.array(x) for x in params])
    return path


def _formula(comparison: Comparison, base: float, schedule: Schedule) -> Path:
    """The oracle of that name, stopped after every step."""
    start, grads = start_and_gradients()
    oracle = eval(
        comparison.theirs, {"formula": SimpleNamespace(**{n: partial(partial, f) for n, f in ORACLES.items()})}
    )
    rates = [base * multiplier for multiplier in schedule]
    ends = (oracle(start, grads[:count], lr=rates[:count]) for count in range(1, len(grads) + 1))
    return [[result["param"] for result in end] for end in ends]


PEERS: dict[str, Callable[[Comparison, float, Schedule], Path]] = {
    "torch": _in_torch,
    "keras": _keras,
    "optax": _optax,
    "timm": _timm,
    "zij": _in_torch,
    "adam_mini": _in_torch,
    "optimi": _in_torch,
    "torch_optimizer": _in_torch,
    "pytorch_optimizer": _in_torch,
    "schedulefree": _in_torch,
    "prodigyopt": _in_torch,
    "dadaptation": _in_torch,
    "momo": _in_torch,
    "dog": _in_torch,
    "parameterfree": _in_torch,
    "kron_torch": _kron_torch,
    "quad_torch": _quad_torch,
    "formula": _formula,
}
"""The path of the other side at a base rate under a schedule, by the library that its expression starts with."""


def largest_difference(path: Path, other: Path) -> float:
    """Over all steps and elements."""
    pairs = ((a, b) for x, y in zip(path, other, strict=True) for a, b in zip(x, y, strict=True))
    return max(float(np.abs(a - b).max()) for a, b in pairs)
