"""A process whose kernel cache is empty and whose compiler can be chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steepest.executors.native import cache, compiler, library

from .support import SHIPPED


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder (under ``cache``) and an empty folder for temporary files (``temporary``); no CC, and the
    optimization that other processes have too.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(library, "_failed", {})
    monkeypatch.setattr(compiler, "OPTIMIZATION", SHIPPED)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    library._library.cache_clear()
    compiler._found.cache_clear()
    cache.private_folder.cache_clear()
