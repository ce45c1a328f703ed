"""State dicts change hands between torch's class and ours in mid-training, and the run goes on undisturbed."""

from __future__ import annotations

from typing import Any

import pytest

from cases import through_file

from .support import (
    Configuration,
    Problem,
    assert_close,
    assert_states_close,
    every_configuration,
    every_input,
    rounding,
    values,
)

STEPS = 3


@pytest.mark.thin("info", "way")
@every_configuration(lambda configuration: not configuration.is_differentiable)
def test_torchs_run_goes_on_in_ours(configuration: Configuration) -> None:
    """In every executor."""
    problem, theirs, twin, ours = handed_over(configuration, configuration.build_torchs, configuration.build)
    switches = {name: ours.defaults[name] for name in configuration.info.supported_impls}
    ours.param_groups[0].update(switches)  # torch's dict says how torch ran
    assert_same_end(configuration, (problem, theirs), (twin, ours))


@every_input()
def test_our_run_goes_on_in_torchs(configuration: Configuration) -> None:
    problem, ours, twin, theirs = handed_over(configuration, configuration.build, configuration.build_torchs)
    assert_same_end(configuration, (twin, theirs), (problem, ours))


def handed_over(configuration: Configuration, first: Any, second: Any) -> tuple[Problem, Any, Problem, Any]:
    """An optimizer that has taken some steps, and the other class's, which has loaded its file."""
    problem = Problem(configuration)
    whole = first(problem.params)
    problem.advance(whole, STEPS)
    twin = Problem(configuration, starts=values(problem.params))
    taken_over = second(twin.params)
    taken_over.load_state_dict(through_file(whole.state_dict()))
    return problem, whole, twin, taken_over


def assert_same_end(configuration: Configuration, torchs: tuple[Problem, Any], ours: tuple[Problem, Any]) -> None:
    """Equal state now; equal parameters and state after some steps of both."""
    assert_states_close(ours[1], torchs[1], 0.0)
    for problem, optimizer in (torchs, ours):
        problem.advance(optimizer, STEPS)
    assert_close(values(ours[0].params), values(torchs[0].params), rounding(configuration.cls))
    assert_states_close(ours[1], torchs[1], rounding(configuration.cls))
