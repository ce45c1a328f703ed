"""Docstrings are plain English: a verb in the imperative or a noun to begin with, and common words."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import steepest

PACKAGE = Path(steepest.__file__).parent

OPENERS = ("What", "Who", "Whom", "Whose", "Those", "Where", "How", "Whether", "The same")
"""First words that hide the object: name it instead."""

PLAINER = {
    r"(is|are|was|were) no (?!longer\b|more\b)": "is not a, are not",
    r"alone\b": "only",
    r"beside\b": "next to, in addition to",
    r"(go|goes|going|gone|went) on\b": "resume, continue",
}
"""Phrases by pattern, and the plain words that stand instead."""

NOT_A_VERB = re.compile(
    r"(A|After|All|An|And|Another|Any|As|At|Before|Between|By|Each|Every|Everyone|Everything|For|From|He|How|If|In|It|Its"
    r"|Nobody|No|None|Nothing|Of|On|One|Only|Or|Our|Over|She|Some|Somebody|That|The|Their|They|This|To|Two|Under|Until"
    r"|Up|We|What|When|Where|Whether|Which|Who|Whom|Why|With|Without|You|Your|[A-Z][a-z]*(?<!s)s)"
)
"""Articles, pronouns, prepositions, numerals; and words in s, which are plurals or in the third person: not "Pass"."""


@dataclass(frozen=True)
class Docstring:
    """A docstring and the node that it documents; `is_command` where its first line must be in the imperative."""

    place: str
    text: str
    is_command: bool


def _constant(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else None
    return None


def _is_command(node: ast.AST, text: str) -> bool:
    """Return whether a docstring must be in the imperative: a function's, but not every function's.

    A property, a magic method and a workload are described by a noun. An update rule begins with the shapes of its
    arguments: "p, g, m, v: same shape".
    """
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("__"):
        return False
    decorators = " ".join(map(ast.unparse, node.decorator_list))
    shapes = node.args.args and re.match(rf"{node.args.args[0].arg}[,:] ", text)
    return not shapes and not re.search(r"property|workload\b", decorators)


def docstrings(tree: ast.Module, path: str) -> Iterator[Docstring]:
    """Yield the docstrings of a module, its classes and functions, and the texts that follow an assignment."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        for place, statement in enumerate(body):
            text = _constant(statement)
            if text is None or not (
                documented if place == 0 else isinstance(body[place - 1], (ast.Assign, ast.AnnAssign))
            ):
                continue
            yield Docstring(f"{path}:{statement.lineno}", text, place == 0 and _is_command(node, text))


def mistakes(docstring: Docstring) -> Iterator[str]:
    """Yield a sentence for everything in a docstring that the rules forbid."""
    text = " ".join(docstring.text.split())
    if opener := re.match(rf"({'|'.join(OPENERS)})\b", text):
        yield f"opens with {opener[0]!r}: name the object"
    for pattern, plainer in PLAINER.items():
        if phrase := re.search(rf"\b{pattern}", text, re.IGNORECASE):
            yield f"says {phrase[0].strip()!r}: write {plainer}"
    if docstring.is_command and not _is_imperative(text):
        yield f"opens with {text.split()[0]!r}: a function's docstring begins with a verb in the imperative"


def _is_imperative(text: str) -> bool:
    word = re.match(r"[A-Z][a-z]+(-[a-z]+)?(?=[\s,.:;])", f"{text} ")
    return word is not None and not NOT_A_VERB.fullmatch(word[0])


def _folder(path: Path) -> str:
    return "/".join(path.relative_to(PACKAGE).parent.parts) or "."


CHECKED = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("folder", sorted({_folder(path) for path in CHECKED}))
def test_docstrings_are_plain_english(folder: str) -> None:
    found = [
        f"{docstring.place}: {mistake}"
        for path in CHECKED
        if _folder(path) == folder
        for docstring in docstrings(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(PACKAGE.parent)))
        for mistake in mistakes(docstring)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("What it is.", "opens with 'What'"),
        ("Whether it is so.", "opens with 'Whether'"),
        ("The same for a notebook.", "opens with 'The same'"),
        ("Return it; a number is no name.", "says 'is no'"),
        ("Return numbers alone.", "says 'alone'"),
        ("Return the file beside it.", "says 'beside'"),
        ("Return where it\ngoes on.", "says 'goes on'"),
        ("Returns the value.", "begins with a verb in the imperative"),
        ("The value.", "begins with a verb in the imperative"),
        ("2 to the n.", "begins with a verb in the imperative"),
    ],
)
def test_a_mistake_is_found(text: str, mistake: str) -> None:
    assert mistake in " ".join(mistakes(Docstring("", text, is_command=True)))


@pytest.mark.parametrize(
    "text", ["Return the value.", "Pass on.", "Train, then wait.", "Return it; it is no longer so."]
)
def test_plain_english_is_not_a_mistake(text: str) -> None:
    assert not list(mistakes(Docstring("", text, is_command=True)))


def test_each_kind_of_docstring_is_read() -> None:
    source = '''
"""Module."""
X = 1
"""Attribute."""
class C:
    """Class."""
    y: int = 0
    """Field."""
    @property
    def p(self):
        """Property."""
    def f(self):
        """Do."""
        print("not a docstring")
def rule(p, g):
    """p, g: same shape."""
'''
    read = {(docstring.text, docstring.is_command) for docstring in docstrings(ast.parse(source), "")}
    nouns = {"Module.", "Attribute.", "Class.", "Field.", "Property.", "p, g: same shape."}
    assert read == {("Do.", True), *((text, False) for text in nouns)}
