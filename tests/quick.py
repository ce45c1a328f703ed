"""Fixtures that make studies in the tests' process quick, for the conftest files of folders that run them."""

from collections.abc import Iterator

import pytest
import torch

from steepest.study.trials import timing


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """These models are too small for more, and threads that wait for each other make tests slow on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def brief_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timing trial takes its ten steps and no second of them."""
    monkeypatch.setattr(timing, "SECONDS", 0.0)
