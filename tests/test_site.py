"""The documentation site: built strictly, complete, and readable without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from steepest import registry

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, or a failure with mkdocs's warnings, which are errors."""
    pytest.importorskip("mkdocstrings", reason="mkdocs is not installed: pip install 'steepest[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    settings = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_optimizer_has_a_page_with_its_equations(site: Path) -> None:
    for name, cls in registry.optimizers().items():
        text = (site / "optimizers" / f"{name}.html").read_text(encoding="utf-8")
        source = (ROOT / "docs" / "optimizers" / f"{name}.md").read_text(encoding="utf-8")
        assert f"<title>{cls.__name__} - Steepest</title>" in text
        assert text.count("<math") == source.count("```math")
        assert "\\frac" not in re.sub(r"<code>.*?</code>", "", text, flags=re.DOTALL)


def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?(\w*:?//[^\"\s>]+)", text)
        fetched += re.findall(
            r"<link\b[^>]*\brel=\"?(?:stylesheet|preconnect|icon)\"?[^>]*\bhref=\"?(\w*:?//[^\"\s>]+)", text
        )
        assert fetched == [], page


def test_the_interface_shows_docstrings(site: Path) -> None:
    text = (site / "api" / "around-an-optimizer.html").read_text(encoding="utf-8")
    assert "Straight rise, a constant rate, and a decay over the last steps" in text
    assert "WarmupStableDecay" in text


def test_links_out_of_the_site_keep_their_words(site: Path) -> None:
    text = (site / "optimizers" / "adam.html").read_text(encoding="utf-8")
    assert "adam.py" in text
    assert 'href="../../src' not in text
