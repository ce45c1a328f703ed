"""Settings of the whole suite: repeatable property tests, and a guard for what a test must leave as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

from cases import class_under_test, executors_of
from shapes import fitted

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what a class does not offer (test_executors.py holds it to refusing that): an executor, or complex
    parameters.
    """
    items[:] = [item for item in items if class_under_test(item) is None or is_offered(item, class_under_test(item))]


def is_offered(item: Any, cls: Any) -> bool:
    given = item.callspec.params
    there = executors_of(cls)
    if there and given.get("executor", there[0]) not in there:
        return False
    dtype = given.get("dtype")
    return not (isinstance(dtype, torch.dtype) and dtype.is_complex and cls.rule.is_real)


@pytest.fixture(autouse=True)
def _shapes_fit_the_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``SHAPES`` of a test's module are shapes that the class under test takes."""
    cls, shapes = class_under_test(request.node), getattr(request.module, "SHAPES", None)
    if cls is not None and isinstance(shapes, list):
        monkeypatch.setattr(request.module, "SHAPES", [fitted(cls, shape) for shape in shapes])


@pytest.fixture
def float64_default() -> Iterator[None]:
    """torch keeps NAdam's mu_product in the default dtype: in float64 it is as good as an oracle's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
