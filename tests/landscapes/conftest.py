"""One thread and coarse grounds: surfaces are small, and figures are looked at by their lines."""

from collections.abc import Iterator

import pytest
import torch

from steepest.landscapes.figures import charts, films, parts, pictures


@pytest.fixture(autouse=True, scope="session")
def _coarse_grounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "GRID", 41)
        patch.setattr(charts, "LINES", 31)
        patch.setattr(pictures, "DPI", 50)
        patch.setattr(films, "DPI", 40)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
