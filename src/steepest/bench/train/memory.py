"""Memory of a training step, with the optimizer's step after the backward pass and inside of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch

from ...registry import Recipe
from ..implementations import OWN, Build, Implementation, implementations
from ..lane import UnavailableError, reasons
from ..memory import footprint
from .cases import Training, TrainingCase

CODED: Final = {"state_dtype": "int8"}


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
class Candidate:
    """An implementation and the dtype in which it keeps its state."""

    implementation: Implementation
    state: str


def candidates(recipe: Recipe, taking_part: Sequence[Implementation]) -> list[Candidate]:
    """Return the implementations of a recipe, and ours with state of one byte unless the recipe chooses a dtype.

    torch's keep state as parameters are, in float32.
    """
    chosen = recipe.resolved()["state_dtype"]
    given = [Candidate(i, str(chosen) if chosen and i.source == OWN else "float32") for i in taking_part]
    coded = Candidate(Implementation(OWN, "default", partial(_build_coded, recipe)), CODED["state_dtype"])
    return given if chosen else [*given, coded]


def _build_coded(recipe: Recipe, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return ours with state of one byte, or raise `ValueError` if the recipe's options exclude it."""
    ours, *_ = implementations(recipe.with_defaults(CODED), ["default"], peers=False)
    return ours.build(params)


def measure(case: TrainingCase, chosen: Sequence[Candidate], device: str) -> tuple[MemoryEntry, ...]:
    """Measure every candidate, with its step after the backward pass and inside of it."""
    measured = tuple(_entry(case, candidate, inside, device) for candidate in chosen for inside in (False, True))
    gc.collect()  # an optimizer is part of a reference cycle, and the next group needs the memory
    return measured


def _entry(case: TrainingCase, candidate: Candidate, in_backward: bool, device: str) -> MemoryEntry:
    implementation = candidate.implementation
    arrange = inside_backward if in_backward else after_backward
    entry = MemoryEntry(implementation.source, implementation.mode, candidate.state, in_backward)
    try:
        with reasons():
            taken = footprint(lambda: arrange(case.training(device), implementation.build), device)
    except UnavailableError as error:
        return replace(entry, unavailable=str(error))
    return replace(entry, held_bytes=taken.held, peak_bytes=taken.peak)


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
