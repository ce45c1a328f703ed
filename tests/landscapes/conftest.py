"""Coarse grounds: figures are looked at by their lines."""

from collections.abc import Iterator

import pytest

from steepest.landscapes.figures import charts, films, parts, pictures


@pytest.fixture(autouse=True, scope="session")
def _coarse_grounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "GRID", 41)
        patch.setattr(charts, "LINES", 31)
        patch.setattr(pictures, "DPI", 50)
        patch.setattr(films, "DPI", 40)
        yield
