"""Functions line by line: the symbol, the expression in symbols, and the value of everything that they make.

Rules that multiply matrices, and functions that renew shared numbers, are plain Python. They have no trace to print, so
their own source stands for the equations.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .equations import PLAIN, POWER
from .expressions import Writer
from .noting import Call, Copy, Note, Notes

Value = Tensor | float
"""A tensor, or a plain number."""

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
"""Digits of the place of a value among the several that a function returns."""

EVALUATED = ("J", "J", "∇J")
"""Symbols of what a driver is sent for a point that it yields: the loss, and the gradient."""

OTHER = "′"
"""Sign behind the symbol of a helper's variable, where the function has another variable with that symbol."""


@dataclass(frozen=True, eq=False)
class Equation:
    """An equation of a step.

    Attributes:
        symbol: the symbol of the value that it makes.
        expression: the expression in symbols.
        value: the value.
    """

    symbol: str
    expression: str
    value: Value


def as_value(x: Any) -> Value | None:
    """Return a tensor of numbers, or a number in double; None for anything else, and for what is true or false."""
    if isinstance(x, Tensor):
        return None if x.dtype == torch.bool else x
    return float(x) if isinstance(x, int | float) and not isinstance(x, bool) else None


def is_several(x: Any) -> bool:
    """Return whether a value has several numbers."""
    return isinstance(x, Tensor) and x.numel() > 1


class Noted:
    """A function that notes the values of its own lines. It takes and returns what the function does.

    A line that only calls a helper, a function of the same package, stands for the lines of that helper.

    Example:
        >>> from steepest.rules.momo import fitted
        >>> noted = Noted(fitted)
        >>> noted(3.0, 4.0, 0.0, 1.0, 0.0, 1.0, None)
        (0.5, 1.0)
        >>> for each in noted.lines(["tau", "lb"]):
        ...     print(f"{each.symbol} ← {each.expression} = {each.value:g}")
        shrinking ← 1 + η·λ = 1
        cap ← shrinking·height + along = 3
        τ ← min(η / share, max(cap - shrinking·share·lb, 0) / length) = 0.5

    Attributes:
        result: the result of the last call.

    Args:
        function: a function that is written in a file, or in a notebook's cell.

    Raises:
        ValueError: the function's source cannot be read: it is a lambda, or not written in Python.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._copy = Copy(function)
        self._package = _package(function)
        self._helpers: dict[Any, Copy | None] = {}
        self._notes = Notes(self._helper)
        self.__name__ = function.__name__
        self.__signature__ = self._copy.signature
        self.result: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, keep its result, and forget the last call."""
        self._notes = Notes(self._helper)
        self.result = self._copy.function(self._notes, *args, **kwargs)
        return self.result

    def _helper(self, function: Any) -> Copy | None:
        """Return the copy of a function of the same package; None for any other."""
        if not isinstance(function, FunctionType) or _package(function) != self._package:
            return None
        if function not in self._helpers:
            try:
                self._helpers[function] = Copy(function)
            except ValueError:
                self._helpers[function] = None
        return self._helpers[function]

    def lines(self, results: Sequence[str], symbols: Mapping[str, str] | None = None) -> Iterator[Equation]:
        """Yield the equations of the last call in their order. Values that are not numbers are left out.

        Args:
            results: the names of the values that are returned. A dictionary's keys are names already.
            symbols: the symbols of variables that have others than their names'.
        """
        yield from (made.equation for made in self._made(results, symbols or {}) if made.is_shown)

    def helpers(self) -> dict[str, str]:
        """Return the meaning of each function that the equations of the last call name, from its documentation."""
        count = len(self.result) if isinstance(self.result, tuple) else 1
        shown = (made for made in self._made([f"result{place}" for place in range(count)], {}) if made.is_shown)
        nodes = ((made.writer, node) for made in shown for node in ast.walk(made.expression))
        called = {ast.unparse(x.func): writer.function(x.func) for writer, x in nodes if isinstance(x, ast.Call)}
        return {name: _meaning(f) for name, f in called.items() if isinstance(f, FunctionType) and f.__doc__}

    def _made(self, results: Sequence[str], symbols: Mapping[str, str]) -> Iterator[_Made]:
        writer = Writer(self._copy.known, symbols)
        return _made_by(self._copy, self._notes, writer, results, [writer.symbol(name) for name in results])


def _package(function: Any) -> str:
    return str(function.__module__).rpartition(".")[0]


def _meaning(function: FunctionType) -> str:
    """Return the first paragraph of a function's documentation, without the verb "Return"."""
    words = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].replace("`", "").rstrip(".").split()
    first, *others = words
    return " ".join(others if first == "Return" else [first.lower() if len(first) > 2 else first, *others])


class _Made(NamedTuple):
    """A value, and how it was made.

    Attributes:
        name: its name.
        symbol: its symbol.
        expression: the expression that makes it.
        value: the value.
        writer: the writer of the expression.
        place: its place, from 1, or its name among the values of the expression; 0 for a whole.
    """

    name: str
    symbol: str
    expression: ast.expr
    value: Any
    writer: Writer
    place: int | str = 0

    @property
    def mentioned(self) -> set[str]:
        """The names in the expression."""
        return {node.id for node in ast.walk(self.expression) if isinstance(node, ast.Name)}

    @property
    def text(self) -> str:
        """The expression in symbols."""
        if isinstance(self.expression, ast.Yield) and self.expression.value is not None:
            return f"{EVALUATED[int(self.place)]}({self.writer.text(self.expression.value).text})"
        text = self.writer.text(self.expression).text
        if isinstance(self.place, str):
            return f"{self.symbol} of {text}"
        return text + str(self.place).translate(SUBSCRIPTS) if self.place else text

    @property
    def is_shown(self) -> bool:
        """True for a number with a name, unless it is given the name that it has."""
        return bool(self.name.strip("_")) and as_value(self.value) is not None and self.text != self.symbol

    @property
    def equation(self) -> Equation:
        """The equation."""
        value = as_value(self.value)
        assert value is not None
        return Equation(self.symbol, self.text, value)


def _made_by(of: Copy, notes: Notes, writer: Writer, results: Sequence[str], symbols: Sequence[str]) -> Iterator[_Made]:
    """Yield what a call has made; the values that it returned have the given names and symbols."""
    written: dict[str, ast.expr] = {}
    for note in notes.made:
        statement = of.statements[note.statement]
        expression = note.decided(statement.expression)
        names, own = statement.names, symbols
        if names is None:
            names = tuple(results)
        else:
            own = [writer.symbol(name) for name in names]
        if statement.is_part:
            parts = zip(names, own, note.values, strict=True)
            yield from (_Made(name, symbol, expression, x, writer, name) for name, symbol, x in parts)
        elif isinstance(expression, ast.Dict) and statement.names is not None:
            written[names[0]] = expression
        elif isinstance(note.values[0], dict) and not note.calls:
            yield from _of_dictionary(note, expression, writer, written)
        else:
            yield from _of_line(note, expression, of, writer, names, own)


def _of_line(
    note: Note, expression: ast.expr, of: Copy, writer: Writer, names: Sequence[str], symbols: Sequence[str]
) -> Iterator[_Made]:
    """Yield the values of a statement, or those of the helpers that it calls."""
    if isinstance(expression, ast.Tuple) and note.calls and _is_apart(expression, names):
        for place, part in enumerate(expression.elts):
            calls = {0: note.calls[place]} if place in note.calls else {}
            alone = Note(note.statement, note.values[place : place + 1], note.sides, calls)
            yield from _of_line(alone, part, of, writer, names[place : place + 1], symbols[place : place + 1])
        return
    call = note.calls.get(0)
    arguments = None if call is None or _is_spread(call) else _arguments(call, expression)
    if call is None or arguments is None:
        yield from _of_statement(note, expression, writer, names, symbols)
    else:
        yield from _inside(call, arguments, of, writer, names, symbols)


def _is_apart(expression: ast.Tuple, names: Sequence[str]) -> bool:
    """Return whether each expression of a tuple makes one value, from none that another one renames."""
    if len(expression.elts) != len(names) or any(isinstance(part, ast.Starred) for part in expression.elts):
        return False
    mentioned = [{x.id for x in ast.walk(part) if isinstance(x, ast.Name)} for part in expression.elts]
    return not any(name in others for name in names for place, others in enumerate(mentioned) if names[place] != name)


def _of_statement(
    note: Note, expression: ast.expr, writer: Writer, names: Sequence[str], symbols: Sequence[str]
) -> list[_Made]:
    """Return the values of a statement."""
    parts = [expression] * len(note.values)
    places: list[int] = [0] if len(parts) == 1 else list(range(1, len(parts) + 1))
    if isinstance(expression, ast.Tuple):
        parts, places = _elements(expression, len(parts)) or (parts, places)
    writers = [writer] * len(parts)
    made = list(map(_Made, names, symbols, parts, note.values, writers, places))
    return [*(made if any(places) else _in_order(made)), *(part for each in made for part in _fields(each))]


def _elements(expression: ast.Tuple, count: int) -> tuple[list[ast.expr], list[int]] | None:
    """Return the expressions of a tuple's values, and the place of each among the values of its expression.

    Return None where several of its expressions are spread.
    """
    spread = [place for place, part in enumerate(expression.elts) if isinstance(part, ast.Starred)]
    if len(spread) > 1:
        return None
    if not spread:
        return expression.elts, [0] * count
    (at,) = spread
    before, (whole, *after) = expression.elts[:at], expression.elts[at:]
    size = count - len(before) - len(after)
    inside = whole.value if isinstance(whole, ast.Starred) else whole
    places = [*[0] * len(before), *range(1, size + 1), *[0] * len(after)]
    return [*before, *[inside] * size, *after], places


def _fields(made: _Made) -> Iterator[_Made]:
    """Yield the numbers of a named tuple, unless the line makes it of numbers that are there."""
    for field in () if isinstance(made.expression, ast.Call) else getattr(made.value, "_fields", ()):
        part, x = ast.Attribute(made.expression, field, ast.Load()), getattr(made.value, field)
        if made.name.strip("_") and not is_several(x):
            yield _Made(f"{made.name}.{field}", f"{made.symbol}.{field}", part, x, made.writer)


def _of_dictionary(note: Note, expression: ast.expr, writer: Writer, written: Mapping[str, ast.expr]) -> list[_Made]:
    """Return the entries of a dictionary; ``written`` has those that variables hold."""
    (values,) = note.values
    parts = _entries(expression, written)
    if not parts:
        return [_Made(name, PLAIN.symbol(name), expression, x, writer, name) for name, x in values.items()]
    return _in_order([_Made(name, PLAIN.symbol(name), part, values[name], writer) for name, part in parts.items()])


def _entries(expression: ast.expr, written: Mapping[str, ast.expr]) -> dict[str, ast.expr]:
    """Return the entries that a dictionary is written with, and those of dictionaries that it takes whole."""
    if isinstance(expression, ast.Name) and expression.id in written:
        return _entries(written[expression.id], written)
    if not isinstance(expression, ast.Dict):
        return {}
    found: dict[str, ast.expr] = {}
    for key, part in zip(expression.keys, expression.values, strict=True):
        found |= _entries(part, written) if key is None else {str(ast.literal_eval(key)): part}
    return found


def _in_order(made: list[_Made]) -> list[_Made]:
    """Return values that are made at once in an order in which each is made from old ones, as far as there is one."""
    left, found = list(made), list[_Made]()
    while left:
        free = (each for each in left if not any(each.name in other.mentioned for other in left if other is not each))
        taken = next(free, left[0])
        found.append(taken)
        left = [each for each in left if each is not taken]
    return found


def _inside(
    call: Call,
    arguments: Mapping[str, ast.expr],
    caller: Copy,
    writer: Writer,
    names: Sequence[str],
    symbols: Sequence[str],
) -> Iterator[_Made]:
    """Yield what a helper has made, in the symbols of its caller: first its arguments, as far as they are new."""
    taken = {writer.symbol(name) for name in caller.variables}
    assigned = {name for statement in call.of.statements for name in statement.names or ()}
    own: dict[str, str] = {}
    made: list[_Made] = []
    for name, part in arguments.items():
        symbol, text = PLAIN.symbol(name), writer.text(part)
        is_simple = text.tightness >= POWER and not isinstance(part, ast.Call)
        if text.text == symbol or (name not in assigned and is_simple):
            own[name] = text.text
        else:
            own[name] = symbol + OTHER if symbol in taken else symbol
            made.append(_Made(name, own[name], part, call.arguments[name], writer))
    for name in assigned - arguments.keys():
        symbol = PLAIN.symbol(name)
        own[name] = symbol + OTHER if symbol in taken and name not in names else symbol
    yield from _in_order(made)
    yield from _made_by(call.of, call.notes, Writer(call.of.known, own), names, symbols)


def _is_spread(call: Call) -> bool:
    """Return whether a call returns several tuples that are spread over its results, which have no expressions then."""
    returned = (call.of.statements[note.statement] for note in call.notes.made)
    parts = (x.expression for x in returned if x.names is None and isinstance(x.expression, ast.Tuple))
    return any(_elements(each, len(each.elts)) is None for each in parts)


def _arguments(call: Call, expression: ast.expr) -> dict[str, ast.expr] | None:
    """Return the expression of each argument of a call, a default being its value; None if it cannot be told."""
    expression = expression.value if isinstance(expression, ast.YieldFrom) else expression
    if not isinstance(expression, ast.Call):
        return None
    if any(isinstance(each, ast.Starred) for each in expression.args) or any(
        x.arg is None for x in expression.keywords
    ):
        return None
    bound = call.of.signature.bind(*expression.args, **{str(x.arg): x.value for x in expression.keywords})
    usual = {name: ast.Constant(x) for name, x in call.arguments.items() if name not in bound.arguments}
    return {name: part for name, part in {**bound.arguments, **usual}.items() if isinstance(part, ast.expr)}
