"""The examples of docs/adapters.md run, in the page's order."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_docs import blocks

from .support import need

need("jax", "keras", "optax")


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks("docs/adapters.md", "python")):
        exec(compile(block, f"docs/adapters.md, block {number}", "exec", dont_inherit=True), namespace)
