"""A fixture that makes studies in the tests' process quick, for the conftest files of folders that run them."""

import pytest

from steepest.study.trials import timing


@pytest.fixture(autouse=True)
def brief_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timing trial takes its ten steps and no second of them."""
    monkeypatch.setattr(timing, "SECONDS", 0.0)
