"""The examples of docs/adapters.md run, in the page's order."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_docs import blocks

from .support import need, timm_by_files

need("jax", "keras", "optax", "transformers", "lightning", "timm", "skorch", "fastai", "ignite")


@pytest.mark.filterwarnings("ignore")  # these packages warn of much that is none of our business
def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm_by_files()
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks("docs/adapters.md", "python")):
        exec(compile(block, f"docs/adapters.md, block {number}", "exec", dont_inherit=True), namespace)
