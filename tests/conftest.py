"""Settings of the whole suite: what the everyday run leaves out, repeatable property tests, and a guard for what a test
must leave as it was.
"""

import gc
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

import shell
from cases import class_under_test, executors_of, features, is_full, thin
from shapes import fitted
from steepest.executors.native import compiler

settings.register_profile("steepest", derandomize=True, deadline=None, max_examples=100, print_blob=True)
settings.load_profile("steepest")

torch.set_num_threads(1)  # what is tested is small, and threads that wait for each other take other tests' time

if not is_full():
    compiler.OPTIMIZATION = "-O1"  # the same bits in half the time: see tests/native/test_optimization.py


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


def seed_everything() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps a stack trace for each kind of device, every time
    np.random.seed(0)
    random.seed(0)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What a test file draws while it is imported is the same too: weights of a layer among its parameters, say."""
    seed_everything()


@pytest.fixture(autouse=True)
def _draws_are_the_same_every_day() -> None:
    """Seed the global generators before a test, whichever tests its process has run."""
    seed_everything()


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a class does not offer (test_executors.py holds it to refusing that): an executor, or complex
    parameters. Then leave out what only the full matrix runs.
    """
    items[:] = [item for item in items if class_under_test(item) is None or is_offered(item, class_under_test(item))]
    if not is_full():
        left = everyday(config, items)
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = [item for item in items if item in left]


def everyday(config: pytest.Config, items: list[pytest.Item]) -> set[pytest.Item]:
    """The tests of an everyday run: none that is marked slow, and of those marked thin as many as the marker wants.

    A slow test runs all the same if ``-m`` speaks of it or if its name is given.
    """
    wants_slow = "slow" in config.option.markexpr or any("::" in given for given in config.args)
    quick = [item for item in items if wants_slow or item.get_closest_marker("slow") is None]
    groups = itertools.groupby(quick, lambda item: item.nodeid.partition("[")[0])
    return {item for _, group in groups for item in thinned(list(group))}


def pytest_collection(session: pytest.Session) -> None:
    """Collect tests without garbage collections: what is made now stays."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what has been imported and collected, millions of objects, out of every later garbage collection."""
    gc.collect()
    gc.freeze()
    gc.enable()


FEW = 30
"""Tests of one function that an everyday run takes all, if no marker says otherwise."""


def thinned(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests of one function that cover what its marker ``thin`` names, or one of as many as its marker ``every``
    says. Without a marker, many tests are thinned too: every value of every argument takes part, and of optimizers each
    kind of rule and state.
    """
    marker, every = (items[0].get_closest_marker(name) for name in ("thin", "every"))
    if marker is None and every is not None:
        return items[:: every.args[0]]
    if marker is None and len(items) <= FEW:
        return items
    names = () if marker is None else marker.args
    return [items[place] for place in thin([features(item, names) for item in items], *names)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not is_full():
        terminalreporter.write_line(
            "Everyday run: no slow tests, and pairs of values in place of products. STEEPEST_MATRIX=full runs all."
        )


def is_offered(item: Any, cls: Any) -> bool:
    given = item.callspec.params
    there = executors_of(cls)
    if there and given.get("executor", there[0]) not in there:
        return False
    dtype = given.get("dtype")
    return not (isinstance(dtype, torch.dtype) and dtype.is_complex and cls.rule.is_real)


@pytest.fixture(autouse=True)
def _shapes_fit_the_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``SHAPES`` of a test's module, and of what it shares with others, are shapes that the class under test takes."""
    cls = class_under_test(request.node)
    for module in (request.module, shell):
        shapes = getattr(module, "SHAPES", None)
        if cls is not None and isinstance(shapes, list):
            monkeypatch.setattr(module, "SHAPES", [fitted(cls, shape) for shape in shapes])


@pytest.fixture
def float64_default() -> Iterator[None]:
    """torch keeps NAdam's mu_product in the default dtype: in float64 it is as good as an oracle's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
