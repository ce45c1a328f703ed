"""Code without a file: typed into a notebook, a session, or after `python -c`."""

import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any


def has_file(path: str | None) -> bool:
    """Return whether a module's or a function's file can be read.

    A session may name a file that does not exist, such as `<stdin>`.
    """
    return path is not None and Path(path).is_file()


def digest(target: Callable[..., Any]) -> str:
    """Return the name of a function or a class, and the SHA-256 of its source lines.

    Without source lines it is the SHA-256 of the instructions. For a callable object, its class is taken.
    """
    inner = target if inspect.isclass(target) or hasattr(target, "__code__") else type(target)
    name = getattr(target, "__qualname__", type(target).__name__)
    return f"{name}:{hashlib.sha256(_text(inner).encode()).hexdigest()}"


def _text(target: Any) -> str:
    bases = target.__mro__ if inspect.isclass(target) else (target,)
    return "\n".join(_own_text(base) for base in bases if base.__module__ == target.__module__)


def _own_text(target: Any) -> str:
    try:
        return inspect.getsource(target)
    except (OSError, TypeError):
        return "\n".join(_instructions_of_class(target) if inspect.isclass(target) else _instructions(target))


def _instructions_of_class(cls: type) -> Iterator[str]:
    """Yield the instructions of every method, and the plain values among the attributes."""
    for name, value in vars(cls).items():
        words = repr(value) if isinstance(value, bool | int | float | str | tuple) else ""
        yield from (name, words, *_instructions(value))


def _instructions(target: Any) -> Iterator[str]:
    """Yield the instructions of a function, without places in a file; nothing for any other object."""
    function = getattr(target, "fget", getattr(target, "__func__", target))  # of a property, of a class method
    code = getattr(inspect.unwrap(function), "__code__", None)  # torch wraps every optimizer's `step`
    if isinstance(code, CodeType):
        yield from _of_code(code)


def _of_code(code: CodeType) -> Iterator[str]:
    yield from (code.co_code.hex(), *code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _of_code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
