"""The examples in the documentation run, and what they print holds."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steepest import Optimizer
from steepest.describe import describe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "zh").rglob("*.md")]) + TUTORIALS


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    exec(compile(blocks("README.md", "python")[0], "README.md", "exec"), {})
    assert "tensor" in capsys.readouterr().out


def test_the_readme_shows_the_rule_and_the_equations_that_are_in_the_library() -> None:
    shown = blocks("README.md", "python")[1]
    assert shown == blocks("docs/index.md", "python")[0]
    source = (ROOT / "src/steepest/rules/adadelta.py").read_text(encoding="utf-8")
    body = [line.strip() for line in shown.strip().splitlines()[1:]]
    assert all(line in source for line in body)
    printed = re.search(r"\$ steepest show adadelta\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert printed is not None
    assert printed[1].rstrip() in describe("adadelta")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_rule_of_the_guide_works_as_one_file() -> None:
    source = blocks("docs/write-a-rule.md", "python")[0]
    for relative, absolute in (("from .. import", "from steepest import"), ("from ..", "from steepest.")):
        source = source.replace(relative, absolute)
    namespace: dict[str, type[Optimizer]] = {}
    exec(compile(source, "write-a-rule.md", "exec", dont_inherit=True), namespace)
    addsign = namespace["AddSign"]
    results = []
    for foreach in (False, True):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = addsign([p], lr=0.5, foreach=foreach)
        p.grad = torch.tensor([0.5, -5.0, 0.0])
        optimizer.step()
        results.append(p.tolist())
    assert results == [[0.5, 3.0, 3.0]] * 2


def test_the_linear_regression_example_reaches_least_squares(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "linear_regression.py"))
    assert example["main"]() == 0
    assert "least squares" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(page.parts[-2:]))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert missing == []


def test_importing_the_library_needs_torch_alone() -> None:
    program = (
        "import sys, torch; before = set(sys.modules); import steepest; "
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}"
        " & {'numpy', 'scipy', 'sklearn', 'typer', 'rich', 'plotly', 'matplotlib', 'jinja2', 'jax', 'keras', 'optax'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("page", [DOCS / "index.md", *TUTORIALS], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(str(page.relative_to(ROOT)), "python"), 1):
        if not block.startswith("def adadelta"):  # the rule itself, which another test compares with the library's
            exec(compile(block, f"{page.name}, block {number}", "exec"), names)


TRANSLATED = {DOCS / "zh" / "README.md": ROOT / "README.md"} | {
    DOCS / "zh" / "tutorials" / page.name: page for page in TUTORIALS
}


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.stem)
def test_a_translation_has_the_structure_of_its_page(page: Path) -> None:
    """The same headings by level, blocks of code to the letter, tables by their numbers of rows and columns."""
    ours, theirs = (structure(path.read_text(encoding="utf-8")) for path in (page, TRANSLATED[page]))
    assert ours == theirs


def structure(text: str) -> list[str]:
    fences = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "CODE", text, flags=re.DOTALL | re.MULTILINE)
    shapes = [re.sub(r"[^#|]", "", line) for line in prose.splitlines() if line.startswith(("#", "|"))]
    return [*fences, *shapes]
