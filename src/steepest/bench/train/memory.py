"""Memory of a training step, with the optimizer's step after the backward pass and inside of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...registry import Recipe
from ..implementations import OWN, Build, Implementation, implementations
from ..lane import UnavailableError, reasons
from ..memory import footprint
from .cases import Training, TrainingCase

CODED = {"state_dtype": "int8"}


@dataclass(frozen=True)
class MemoryEntry:
    """Bytes of a training step.

    Attributes:
        source, mode: the library and the mode, as in `Implementation`.
        state: the dtype in which the state is kept, as the option ``state_dtype`` names it.
        in_backward: every parameter steps inside the backward pass, and its gradient is freed at once.
        unavailable: why it was not measured, or None.
        held_bytes: bytes of tensors between two steps: parameters, buffers, state and the batch.
        peak_bytes: the most bytes of tensors at a time.
    """

    source: str
    mode: str
    state: str
    in_backward: bool
    unavailable: str | None = None
    held_bytes: int = 0
    peak_bytes: int = 0

    @property
    def name(self) -> str:
        """The implementation's name in tables."""
        return f"{self.source} {self.mode}"


@dataclass(frozen=True)
class Kept:
    """An implementation and the dtype in which it keeps its state."""

    implementation: Implementation
    state: str


def kept(recipe: Recipe, taking_part: Sequence[Implementation]) -> list[Kept]:
    """Return the implementations of a recipe, and ours with state of one byte unless the recipe chooses a dtype.

    torch's keep state as parameters are, in float32.
    """
    state = str(recipe.resolved()["state_dtype"] or "float32")
    given = [Kept(i, state if i.source == OWN else "float32") for i in taking_part]
    if recipe.resolved()["state_dtype"]:
        return given
    coded = implementations(recipe.with_defaults(CODED), ["default"], peers=False, torchs=())
    return given + [Kept(i, CODED["state_dtype"]) for i in coded if i.source == OWN]


def measure(case: TrainingCase, chosen: Sequence[Kept], device: str) -> tuple[MemoryEntry, ...]:
    """Measure every one of ``chosen``, with its step after the backward pass and inside of it."""
    measured = tuple(_entry(case, one, is_inside, device) for one in chosen for is_inside in (False, True))
    gc.collect()  # an optimizer is part of a reference cycle, and the next group needs the memory
    return measured


def _entry(case: TrainingCase, one: Kept, is_inside: bool, device: str) -> MemoryEntry:
    arrange = inside_backward if is_inside else after_backward
    who = (one.implementation.source, one.implementation.mode, one.state, is_inside)
    try:
        with reasons():
            return MemoryEntry(
                *who, None, *footprint(lambda: arrange(case.training(device), one.implementation.build), device)
            )
    except UnavailableError as error:
        return MemoryEntry(*who, unavailable=str(error))


def after_backward(training: Training, build: Build) -> Callable[[], Any]:
    """Return the ordinary training step: backward pass, step of all parameters, gradients freed."""
    optimizer = build(training.params)

    def step() -> None:
        training.forward_backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def inside_backward(training: Training, build: Build) -> Callable[[], Any]:
    """Return a training step in which every parameter has an optimizer that steps once its gradient is complete.

    The gradient is freed before the next one is computed, so that all of them are never alive at once.
    """
    optimizers = {p: build([p]) for p in training.params}

    def step(p: torch.nn.Parameter) -> None:
        optimizers[p].step()
        p.grad = None

    for p in optimizers:
        p.register_post_accumulate_grad_hook(step)  # type: ignore[no-untyped-call]
    return training.forward_backward
