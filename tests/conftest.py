"""Settings of the whole suite: repeatable property tests, and a guard for what a test must leave as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("steepest", derandomize=True, deadline=None, max_examples=100, print_blob=True)
settings.load_profile("steepest")


def process_settings() -> dict[str, Any]:
    """What belongs to the user's process and what neither the library nor a test may leave changed."""
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "default device": torch.get_default_device(),
        "flush denormals": (torch.tensor(1e-300, dtype=torch.float64) / 1e10).item() == 0.0,
    }


@pytest.fixture(autouse=True)
def _settings_are_left_alone() -> Iterator[None]:
    before = process_settings()
    yield
    after = process_settings()
    torch.set_default_dtype(before["default dtype"])
    torch.set_num_threads(before["threads"])
    torch.set_grad_enabled(before["gradients enabled"])
    changed = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    assert not changed, f"the test left changed (before, after): {changed}"


@pytest.fixture
def float64_default() -> Iterator[None]:
    """torch keeps NAdam's mu_product in the default dtype: in float64 it is as good as an oracle's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
