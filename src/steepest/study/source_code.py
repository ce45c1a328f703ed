"""Digests of Python code that ignore comments, layout and docstrings.

A file is known by its parts: every function and method, what else a class holds, and the module's own statements.
"""

import ast
import hashlib
import inspect
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

MODULE: Final = "the module's own statements"
LEFT_OUT: Final = ("ctx", "kind", "type_comment")
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
PACKAGES: Final = Path(__file__).resolve().parents[2]
INSTALLED: Final = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))

Description = Mapping[str, Any]
"""A file in a study's document: the SHA-256 of its bytes, and the SHA-256 and first line of every part."""


@cache
def file_digest(file: str) -> str:
    """Return the SHA-256 of a file: of its code and imports if the file is the user's, else of its bytes."""
    if not _is_own(file):
        return _bytes_digest(file)
    descriptions = [describe(path) for path in with_imports(file)]
    parts = [part for description in descriptions for part in sorted(description["parts"].items())]
    return _digest(f"{name}={part['sha256']}" for name, part in parts)


@cache
def function_digest(*functions: Callable[..., Any]) -> str:
    """Return the SHA-256 of the code of functions."""
    sources = (textwrap.dedent(inspect.getsource(function)) for function in functions)
    return _digest([_normal(ast.parse(source).body) for source in sources])


def describe(file: str) -> Description:
    """Return the description of a Python file in a study's document."""
    tree = ast.parse(Path(file).read_bytes())
    parts: dict[str, dict[str, Any]] = {}
    for name, line, code in _parts(tree.body):
        before = parts.get(name, {"sha256": "", "line": line})
        parts[name] = {"sha256": _digest([before["sha256"], code])[:16], "line": before["line"]}
    return {"sha256": _bytes_digest(file), "parts": parts}


def descriptions(files: Iterable[str]) -> dict[str, Description]:
    """Return the descriptions of the user's files among these.

    Paths are relative to the working directory if they are in it.
    """
    of_user = {path for file in files if _is_own(file) for path in with_imports(file)}
    return {_shown(file): describe(file) for file in sorted(of_user)}


def with_imports(file: str) -> list[str]:
    """Return a file, the files next to it that it imports, and in turn their imports.

    A file of the library has no others.
    """
    files = [file]
    if Path(file).resolve().is_relative_to(PACKAGES):
        return files
    for imported in files:  # grows on the way
        files += dict.fromkeys(other for other in _imported(Path(imported), Path(file).parent) if other not in files)
    return files


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Yield the files that a file's import statements name, if they lie in ``root`` or in packages there."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _located(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            folder = file.parents[node.level - 1] if node.level else root
            for alias in node.names:
                yield from _located(folder, f"{node.module}.{alias.name}" if node.module else alias.name)


def _located(folder: Path, name: str) -> Iterator[str]:
    """Yield the files of a dotted name: every package on the way, and the module."""
    for part in name.split("."):
        folder = folder / part
        paths = [path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()]
        yield from map(str, paths)


def changes(old: Mapping[str, Description], new: Mapping[str, Description]) -> list[str]:
    """Return a sentence for every file whose code differs, with the parts that changed and their new lines."""
    return [
        f"{file} has changed in {', '.join(parts)}"
        for file in old
        if file in new and (parts := [*_changed_parts(old[file]["parts"], new[file]["parts"])])
    ]


def equal_code(old: Mapping[str, Description], new: Mapping[str, Description]) -> list[str]:
    """Return the files that differ in bytes but not in code."""
    both = [file for file in old if file in new and old[file]["sha256"] != new[file]["sha256"]]
    return [file for file in both if not [*_changed_parts(old[file]["parts"], new[file]["parts"])]]


def _changed_parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield f"{name} (gone)"
        elif name not in old or old[name]["sha256"] != new[name]["sha256"]:
            yield f"{name} ({'line' if name in old else 'new, line'} {new[name]['line']})"


def _parts(body: Sequence[ast.stmt], owner: str = "", line: int = 1) -> Iterator[tuple[str, int, str]]:
    """Yield name, line and code of every function, and of the remaining statements of each class and module."""
    rest: list[ast.AST] = []
    for node in _without_docstring(body):
        if isinstance(node, FUNCTIONS):
            yield f"{owner}{node.name}", node.lineno, _normal(node)
        elif isinstance(node, ast.ClassDef):
            yield from _parts(node.body, f"{owner}{node.name}.", node.lineno)
            rest += [ast.Name(node.name), *node.bases, *node.keywords, *node.decorator_list]
        else:
            rest.append(node)
    yield owner.removesuffix(".") or MODULE, line, _normal(rest)


def _normal(value: Any) -> str:
    """Return a tree as text that is equal in all versions of Python with the same syntax: empty fields are left out."""
    if isinstance(value, ast.AST):
        fields = [(name, field) for name, field in ast.iter_fields(value) if name not in LEFT_OUT]
        inside = [(name, _without_docstring(field) if name == "body" else field) for name, field in fields]
        shown = [f"{name}={_normal(field)}" for name, field in inside if field is not None and field != []]
        return f"{type(value).__name__}({', '.join(shown)})"
    return f"[{', '.join(map(_normal, value))}]" if isinstance(value, list) else repr(value)


def _without_docstring(body: Any) -> Any:
    """Return a body without expression statements that are texts. A lambda's body is an expression and stays."""
    if not isinstance(body, list):
        return body
    return [node for node in body if not (isinstance(node, ast.Expr) and _is_text(node.value))]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_own(file: str) -> bool:
    path = Path(file).resolve()
    return path.suffix == ".py" and not any(path.is_relative_to(folder.resolve()) for folder in INSTALLED)


def _shown(file: str) -> str:
    path = Path(file).resolve()
    home = next((folder for folder in (PACKAGES, Path.cwd()) if path.is_relative_to(folder)), None)
    return path.relative_to(home).as_posix() if home else path.as_posix()


def _bytes_digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
