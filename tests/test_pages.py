"""The pages of docs/optimizers are what docs/generate.py makes of the declarations, and a reader can follow them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import steepest
from cases import CLASSES
from steepest import Optimizer, registry
from steepest.catalogue import sections
from steepest.describe import describe, update_equations
from steepest.fields import EXECUTION_SWITCHES

ROOT = Path(__file__).resolve().parents[1]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate: Any = _generator()


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    pages: dict[str, str] = generate.pages()
    return pages


def math(text: str) -> Iterator[str]:
    for block in re.findall(r"^```math\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_pages_are_what_the_declarations_say(made: dict[str, str]) -> None:
    there = {path.name: path.read_text("utf-8") for path in generate.FOLDER.glob("*.md")}
    stale = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
    assert not stale, f"run `{generate.COMMAND}` and commit what it writes; these pages are out of date: {stale}"


def test_every_optimizer_has_a_page_and_one_row_of_the_overview(made: dict[str, str]) -> None:
    assert set(made) == {"README.md", *(f"{name}.md" for name in CLASSES)}
    rows = re.findall(r"^\| \[\w+\]\((\w+)\.md\)", made["README.md"], re.MULTILINE)
    assert sorted(rows) == sorted(CLASSES)


def test_a_page_names_every_option_of_its_class(made: dict[str, str]) -> None:
    for name, cls in CLASSES.items():
        options = {f.name for f in cls.fields.values() if not f.fixed}
        own = set(re.findall(r"`(\w+)`", made[f"{name}.md"]))
        shared = set(re.findall(r"^\| `(\w+)`", made["README.md"], re.MULTILINE))
        assert options <= own | shared, name
        assert options - own <= Optimizer.fields.keys(), name


def test_options_of_all_are_explained_once(made: dict[str, str]) -> None:
    once = {"ema_decay", "state_dtype", "maximize", *EXECUTION_SWITCHES}
    assert once <= set(re.findall(r"^\| `(\w+)`", made["README.md"], re.MULTILINE))
    for name in CLASSES:
        assert not once & set(re.findall(r"^\| `(\w+)` \| `", made[f"{name}.md"], re.MULTILINE)), name


def test_another_default_of_a_common_option_is_on_the_page(made: dict[str, str]) -> None:
    assert "| `lookahead` | `(6, 0.5)` |" in made["ranger.md"]
    assert "| `lookahead` | `None` |" in made["README.md"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adam", "8 bytes per float32 parameter; 12 with `amsgrad=True`"),
        ("sgd", "0 bytes per float32 parameter; 4 with `momentum=0.9`"),
        ("signum", "4 bytes per float32 parameter; 0 with `momentum=0`"),
        ("ranger", "12 bytes per float32 parameter; 8 with `lookahead=None`"),
    ],
)
def test_options_that_change_the_state_are_named(made: dict[str, str], name: str, line: str) -> None:
    assert f"| state | {line} |" in made[f"{name}.md"]


def test_state_of_some_shapes_only_says_of_which(made: dict[str, str]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| .* \| (for .*) \|$", made["adafactor.md"], re.MULTILINE))
    assert rows["row_var"] == rows["col_var"] == "for tensors of 2 dimensions and more"
    assert rows["variance"] == "for tensors of 0 to 1 dimensions"


def test_the_latex_has_balanced_braces_and_environments(made: dict[str, str]) -> None:
    for name, text in made.items():
        for line in math(text):
            depth = [0]
            for mark in re.findall(r"(?<!\\)[{}]", line):
                depth.append(depth[-1] + (1 if mark == "{" else -1))
            assert min(depth) >= 0, (name, line)
            assert depth[-1] == 0, (name, line)
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", "\n".join(math(text))) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended), name


def test_every_traced_rule_has_its_equations_in_both_forms(made: dict[str, str]) -> None:
    for name, cls in CLASSES.items():
        options = registry.defaults(cls)
        plain, page = update_equations(cls, options), made[f"{name}.md"]
        if "←" in plain[0]:
            assert "\n".join(["```text", *plain, "```"]) in page
            lines = list(math(page))
            assert len(lines) == len(plain) + 2
            assert all(r" &\leftarrow " in line for line in lines[1:-1])
        else:
            assert f"def {cls.rule_for(options).fn.__name__}(" in page


def test_tables_have_as_many_cells_in_every_row(made: dict[str, str]) -> None:
    for name, text in made.items():
        for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(counts) == 1, (name, table.splitlines()[0])


def test_links_lead_to_pages_and_headings(made: dict[str, str]) -> None:
    for name, text in made.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", without_code(text)):
            path = (generate.FOLDER / target).resolve() if target else generate.FOLDER / name
            assert path.exists(), (name, target)
            assert not anchor or anchor in anchors(path.read_text("utf-8")), (name, target, anchor)


def test_the_source_of_every_optimizer_has_a_year(made: dict[str, str]) -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(\w+\.md\) .*\| (\S+) \|$", made["README.md"], re.MULTILINE)
    assert {name: year for name, year in rows if not year.isdecimal()} == {}


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("``lr=1`` of `Adam`", "`lr=1` of [`Adam`](adam.md)"),
        ("`update_hessian`", "`update_hessian`"),
        ("arXiv:2411.02853v3, Alg. 1", "[arXiv:2411.02853v3](https://arxiv.org/abs/2411.02853), Alg. 1"),
        ("η*|g| < 1", r"η\*\|g\| \< 1"),
        ("``a * b``", "`a * b`"),
    ],
)
def test_a_docstring_becomes_markdown(text: str, markdown: str) -> None:
    assert generate.prose(text) == markdown


def test_use_and_caveats_are_told_wherever_an_optimizer_is_described(made: dict[str, str]) -> None:
    facts = steepest.info("lion")
    assert facts.use.startswith("Choose it over AdamW")
    assert "arXiv:2509.01440" in facts.caveats
    assert facts.use in str(facts)
    assert facts.caveats in str(facts)
    assert "Use:\n    Choose it over AdamW" in describe("lion")
    assert f"## When to use it\n\n{facts.use}\n" in made["lion.md"]
    assert "## Caveats\n\nIt falls behind in long runs" in made["lion.md"]


def test_an_optimizer_without_these_sections_has_no_headings_for_them(made: dict[str, str]) -> None:
    facts = steepest.info("padam")
    assert facts.use == facts.caveats == ""
    assert "## When to use it" not in made["padam.md"]
    assert "use  " not in str(facts)


def test_sections_are_found_whatever_is_around_them() -> None:
    class Odd:
        """Title.

        More: than one
        paragraph.

        Source:
            Nobody 2026, "One: two".

        Use:
            Never.
        """

    found: Any = Odd
    assert sections(found) == {
        "": "Title.\n\nMore: than one\nparagraph.",
        "Source": 'Nobody 2026, "One: two".',
        "Use": "Never.",
    }
    assert sections(Optimizer)[""]


def test_every_use_says_what_to_do_in_at_most_three_sentences() -> None:
    for name in CLASSES:
        use = steepest.info(name).use
        assert use == "" or use.startswith("Choose it "), name
        assert len(re.findall(r"\.(?= |$)", use)) <= 3, name
