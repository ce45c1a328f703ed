"""What nobody should have to look for: merge markers, cut-off comments, and files that are named and do not exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from cases import CLASSES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
MADE_BY_READERS = {"benchmarks/results/step.json", "src/steepest/rules/addsign.py"}
CITED = re.compile(r"\b((?:tests|src|docs|benchmarks|examples)/[\w/.-]+\.(?:md|py|c|json|png|csv|toml))\b")


def tracked() -> list[Path]:
    """The files under version control; all of the project's where there is no git."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.splitlines() or [
        str(path.relative_to(ROOT)) for folder in ("src", "tests", "docs") for path in (ROOT / folder).rglob("*.*")
    ]
    return [ROOT / name for name in names if (ROOT / name).suffix in {".py", ".md", ".c", ".toml", ".txt", ".html"}]


def test_no_merge_marker_is_committed() -> None:
    marker = re.compile(r"^(<{7} |>{7} |={7}$)", re.MULTILINE)
    assert [str(path) for path in tracked() if marker.search(path.read_text(encoding="utf-8"))] == []


def test_no_comment_is_cut_off() -> None:
    """A comment of one word says nothing: it was cut off, or never written."""
    alone = re.compile(r"^\s*# *(\w{1,12})$", re.MULTILINE)
    sources = [path for path in tracked() if path.suffix == ".py" and (ROOT / "src") in path.parents]
    found = {str(path.relative_to(ROOT)): alone.findall(path.read_text(encoding="utf-8")) for path in sources}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_package_index_shows_the_readme_without_links_into_the_repository() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for rule in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert re.findall(r"\]\((?!https?:)", text) == []
    assert "Write a rule" in text
    assert "report.png" not in text


def test_files_that_are_named_exist() -> None:
    texts = [path for path in tracked() if path.suffix in {".md", ".py"} and (ROOT / "tests") not in path.parents]
    missing = {
        (str(path.relative_to(ROOT)), name)
        for path in texts
        for name in CITED.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert {(where, name) for where, name in missing if name not in MADE_BY_READERS} == set()


def test_what_a_documentation_generator_prints_of_the_fields_is_short() -> None:
    """Sphinx prints class attributes by their repr; the whole declarations were 6 kB a class."""
    assert all(len(repr(cls.fields)) < 600 for cls in CLASSES.values())
    assert "lr" in repr(CLASSES["adam"].fields)
