"""State dicts change hands between torch's class and ours in mid-training, and the run goes on undisturbed."""

from __future__ import annotations

import pytest

from .support import (
    Configuration,
    Problem,
    assert_close,
    assert_states_close,
    every_configuration,
    filed,
    rounding,
    values,
)

STEPS = 3


@pytest.mark.parametrize("torch_first", [True, False], ids=["torch-to-ours", "ours-to-torch"])
@every_configuration(lambda configuration: not configuration.is_differentiable)
def test_a_run_changes_hands(configuration: Configuration, torch_first: bool) -> None:
    """The one that goes on all the time, and the other class from its file on: parameters and state."""
    classes = [configuration.build_torchs, configuration.build]
    first, second = classes if torch_first else reversed(classes)
    problem = Problem(configuration)
    whole = first(problem.params)
    problem.advance(whole, STEPS)
    twin = Problem(configuration, starts=values(problem.params))
    taken_over = second(twin.params)
    taken_over.load_state_dict(filed(whole.state_dict()))
    ours, theirs = (taken_over, whole) if torch_first else (whole, taken_over)
    assert_states_close(ours, theirs, 0.0)
    if torch_first:
        switches = {name: taken_over.defaults[name] for name in configuration.info.supported_impls}
        taken_over.param_groups[0].update(switches)
    problem.advance(whole, STEPS)
    twin.advance(taken_over, STEPS)
    assert_close(values(twin.params), values(problem.params), rounding(configuration.cls))
    assert_states_close(ours, theirs, rounding(configuration.cls))
