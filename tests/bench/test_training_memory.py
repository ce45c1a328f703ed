"""Memory of a training step: every byte that torch's allocator gave, at rest and at the peak."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from steepest import registry
from steepest.bench.implementations import Implementation, implementations
from steepest.bench.memory import STEPS_BEFORE, Footprint, footprint
from steepest.bench.train.cases import TrainingCase
from steepest.bench.train.memory import Candidate, after_backward, candidates, inside_backward, measure

from .support import TINY_TRAINING

MIB = 2**20
LAYERS, WIDTH = 6, 128
LAYER = 4 * WIDTH * WIDTH


def wide() -> torch.nn.Module:
    """Layers so wide that gradients are much larger than activations."""
    return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, WIDTH, generator=generator), torch.rand(count, WIDTH, generator=generator)


WIDE = TrainingCase("wide", "square layers", wide, torch.nn.functional.mse_loss, draw, batch_size=1, rounds=1)
BATCH = 2 * 4 * WIDTH


def found(recipe: str, source: str) -> Implementation:
    taking_part = implementations(registry.parse(recipe), ["default"], peers=False, torchs=["default"])
    return next(i for i in taking_part if i.source == source)


def test_tensors_at_rest_and_at_the_peak_are_counted_to_the_byte() -> None:
    taken = 0

    def make() -> Callable[[], None]:
        held = torch.ones(MIB)

        def step() -> None:
            nonlocal taken
            taken += 1
            temporary = torch.ones(2 * MIB)
            del temporary
            torch.ones(MIB).add_(held)

        return step

    torch.ones(MIB)
    assert footprint(make, "cpu") == Footprint(held=4 * MIB, peak=12 * MIB)
    assert taken == STEPS_BEFORE + 1


def test_garbage_of_before_is_not_taken_for_memory_that_is_freed() -> None:
    def make() -> Callable[[], None]:
        circle: list[Any] = [torch.ones(MIB)]
        circle.append(circle)
        return lambda: circle[0].add_(1)

    first = footprint(make, "cpu")
    assert first.held == 4 * MIB
    assert footprint(make, "cpu") == first


@pytest.mark.parametrize("source", ["steepest", "torch"])
def test_between_steps_parameters_state_and_batch_are_alive(source: str) -> None:
    build = found("sgd[momentum=0.9]", source).build
    for arrange in (after_backward, inside_backward):
        taken = footprint(lambda arrange=arrange: arrange(WIDE.training("cpu"), build), "cpu")
        assert taken.held == 2 * LAYERS * LAYER + BATCH


def test_a_step_inside_the_backward_pass_never_has_all_gradients() -> None:
    build = found("sgd[momentum=0.9]", "steepest").build
    after, inside = (
        footprint(lambda arrange=arrange: arrange(WIDE.training("cpu"), build), "cpu")
        for arrange in (after_backward, inside_backward)
    )
    assert after.peak >= 3 * LAYERS * LAYER
    assert after.peak - inside.peak >= (LAYERS - 2) * LAYER


def test_coded_state_is_smaller_by_three_quarters() -> None:
    recipe = registry.parse("adamw")
    entries = measure(WIDE, candidates(recipe, [found("adamw", "steepest")]), "cpu")
    assert [(e.name, e.state, e.in_backward) for e in entries] == [
        ("steepest default", state, is_inside) for state in ("float32", "int8") for is_inside in (False, True)
    ]
    plain, _, coded, both = entries
    state = 2 * LAYERS * LAYER
    assert 0.72 * state < plain.held_bytes - coded.held_bytes < 0.75 * state
    assert both.peak_bytes < min(coded.peak_bytes, plain.peak_bytes)


@pytest.mark.parametrize("recipe", ["adamw[lr=0.1]", "sgd[lr=0.1,momentum=0.9]"])
def test_steps_inside_the_backward_pass_are_those_after_it(recipe: str) -> None:
    build = found(recipe, "steepest").build
    trainings = [TINY_TRAINING.training("cpu") for _ in range(2)]
    start = [p.detach().clone() for p in trainings[0].params]
    for training, arrange in zip(trainings, (after_backward, inside_backward), strict=True):
        step = arrange(training, build)
        for _ in range(3):
            step()
        assert all(p.grad is None for p in training.params)
    for p, q, before in zip(trainings[0].params, trainings[1].params, start, strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, before)


def test_a_dtype_of_the_users_is_measured_as_it_is() -> None:
    recipe = registry.parse("adamw[state_dtype=bfloat16]")
    taking_part = implementations(recipe, ["default"], peers=False, torchs=["default"])
    assert [(c.implementation.name, c.state) for c in candidates(recipe, taking_part)] == [
        ("steepest default", "bfloat16"),
        ("torch default", "float32"),
    ]


def test_a_failure_is_told_and_the_others_are_measured() -> None:
    def broken(params: object) -> None:
        raise RuntimeError("no such kernel\ntrace")

    chosen = [
        Candidate(Implementation("steepest", "default", broken), "float32"),  # type: ignore[arg-type]
        Candidate(found("sgd", "torch"), "float32"),
    ]
    entries = measure(replace(TINY_TRAINING, batch_size=2), chosen, "cpu")
    assert [e.unavailable for e in entries] == ["RuntimeError: no such kernel"] * 2 + [None] * 2
    assert all(e.peak_bytes > e.held_bytes > 0 for e in entries[2:])


def test_options_that_exclude_coded_state_are_the_reason() -> None:
    recipe = registry.parse("adamw[state_rounding=nearest]")
    *_, coded = candidates(recipe, [])
    entries = measure(TINY_TRAINING, [coded], "cpu")
    assert all("ValueError: state_dtype='int8' cannot be rounded to nearest" in str(e.unavailable) for e in entries)
