"""Copies of functions in which every assignment is followed by a call that notes its values.

The copy is compiled from the function's own source, with the file and the line numbers of the original. The
interpreter's own tracing is left to debuggers and coverage.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from torch import Tensor

NOTES = "__notes__"
"""Name under which a copy finds its notes."""

ANNOTATIONS = __future__.annotations.compiler_flag


@dataclass(frozen=True)
class Statement:
    """A statement that makes values.

    Attributes:
        names: the names that it assigns, in order, empty for those that are not plain names; None for a return.
        expression: the expression on its right.
        is_part: whether the names are of values inside those of the expression, as t in ``(t, f), g = ...``.
    """

    names: tuple[str, ...] | None
    expression: ast.expr
    is_part: bool = False


class Copy:
    """A function that takes its notes as a first argument.

    Attributes:
        function: the copy.
        signature: the signature of the original.
        statements: the statements that make values, in the order of the source.
        known: the objects that its names mean, but for its own variables.
        variables: the names of its arguments and variables.

    Args:
        original: a function that is written in a file, or in a notebook's cell.

    Raises:
        ValueError: the function's source cannot be read: it is a lambda, or not written in Python.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        tree = _parsed(original)
        if tree is None or not isinstance(original, FunctionType):
            name = getattr(original, "__name__", repr(original))
            raise ValueError(f"the source of {name} cannot be read; define it with def, in a file")
        self.signature = inspect.signature(original)
        self.variables = frozenset(original.__code__.co_varnames)
        noting = _Noting()
        code = _compiled(noting.copied(tree), original.__code__)
        self.statements = noting.statements
        cells = dict(zip(original.__code__.co_freevars, original.__closure__ or (), strict=True))
        held = {name: cell.cell_contents for name, cell in cells.items()}
        self.known: Mapping[str, Any] = {**vars(builtins), **original.__globals__, **held}
        closure = tuple(cells[name] for name in code.co_freevars)
        self.function = FunctionType(code, original.__globals__, original.__name__, original.__defaults__, closure)
        self.function.__kwdefaults__ = original.__kwdefaults__


Sides = Mapping[tuple[int, int], set[bool]]
"""The sides that each condition took, by its place in the source."""


class Note(NamedTuple):
    """Values of a statement.

    Attributes:
        statement: the number of the statement.
        values: its values.
        sides: the sides that its conditions took.
        calls: the calls of functions with copies, by the place, from 0, of what they made in the tuple of expressions.
    """

    statement: int
    values: tuple[Any, ...]
    sides: Sides
    calls: Mapping[int, Call]

    def decided(self, expression: ast.expr) -> ast.expr:
        """Return a copy of an expression, with the side that each condition took in place of both."""
        made: ast.expr = _Deciding(self.sides).visit(copy.deepcopy(expression))
        return made


class Call(NamedTuple):
    """A call of a copy: its arguments by name, and its notes."""

    of: Copy
    arguments: Mapping[str, Any]
    notes: Notes


@dataclass
class Notes:
    """Notes of one call.

    Attributes:
        copies: returns the copy of a function that is called on the right side of a statement, by itself or in a tuple;
            None to call the function itself.
        made: the values in the order in which they were made.
    """

    copies: Callable[[Any], Copy | None]
    made: list[Note] = field(default_factory=list)
    _sides: dict[tuple[int, int], set[bool]] = field(default_factory=dict)
    _calls: dict[int, Call] = field(default_factory=dict)

    def called(self, place: int, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, or its copy. A generator, which runs later, has none."""
        if inspect.isgeneratorfunction(function):
            return function(*args, **kwargs)
        return self.delegated(place, function, *args, **kwargs)

    def delegated(self, place: int, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, or its copy; a generator runs at once."""
        of = self.copies(function)
        if of is None:
            return function(*args, **kwargs)
        bound = of.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        notes = Notes(lambda _: None)
        arguments = {name: _kept(x) for name, x in bound.arguments.items()}
        result = of.function(notes, *args, **kwargs)
        self._calls[place] = Call(of, arguments, notes)
        return result

    def assigned(self, statement: int, values: tuple[Any, ...]) -> None:
        """Note the values of a statement."""
        self.made.append(Note(statement, tuple(map(_kept, values)), self._sides, self._calls))
        self._sides, self._calls = {}, {}

    def returned(self, statement: int, result: Any) -> Any:
        """Note the values that are returned, and return them. A named tuple is one value."""
        self.assigned(statement, result if type(result) is tuple else (result,))
        return result

    def chosen(self, place: tuple[int, int], condition: Any) -> bool:
        """Note the side that a condition takes, and return it."""
        side = bool(condition)
        self._sides.setdefault(place, set()).add(side)
        return side


def _kept(x: Any) -> Any:
    """Return a value that stays as it is when others are written in place."""
    if isinstance(x, Tensor):
        return x.detach().clone()
    return dict(x) if isinstance(x, dict) else x


class _Deciding(ast.NodeTransformer):
    """Transformer that replaces a condition by the side that it took, where it took only one."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.IfExp):
            taken = self._sides.get((node.lineno, node.col_offset), set())
            if len(taken) == 1:
                return self.visit(node.body if True in taken else node.orelse)
        return self.generic_visit(node)


class _Direct(ast.NodeTransformer):
    """Transformer that reads what rules ask of `steepest.matrices.Whole` as what it is for whole matrices.

    ``whole(f, X)`` is ``f(X)``, and ``whole.sizes(X)`` is ``X.shape[-2:]``.
    """

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Return the call of the function itself, without ``whole`` among its arguments."""
        self.generic_visit(node)
        if _is_whole(node.func) and len(node.args) > 1:
            node.func, *node.args = node.args
        if isinstance(node.func, ast.Attribute) and _is_whole(node.func.value):
            return ast.copy_location(_sizes(node.args[0]), node)
        node.args = [x for x in node.args if not _is_whole(x)]
        node.keywords = [x for x in node.keywords if not _is_whole(x.value)]
        return node


def _sizes(x: ast.expr) -> ast.expr:
    behind = ast.UnaryOp(ast.USub(), ast.Constant(2))
    return ast.Subscript(ast.Attribute(x, "shape", ast.Load()), ast.Slice(behind), ast.Load())


def _is_whole(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "whole"


class _Noting(ast.NodeTransformer):
    """Transformer that adds the calls to one function, and lists its statements."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def copied(self, function: ast.FunctionDef) -> ast.FunctionDef:
        """Return the function with calls. It takes its notes as its first argument; annotations are left out."""
        function.body = [each for line in function.body for each in _listed(self.visit(line))]
        function.decorator_list, function.returns = [], None
        for node in ast.walk(function.args):
            if isinstance(node, ast.arg):
                node.annotation = None
        function.args.posonlyargs.insert(0, ast.arg(NOTES))
        return function

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Assign):
            return self._followed(node, node.targets[0], node.value)
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return self._followed(node, node.target, node.value)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            old = ast.Name(node.target.id, ast.Load())
            return self._followed(node, node.target, ast.BinOp(old, node.op, node.value))
        if isinstance(node, ast.Return) and node.value is not None:
            return self._returned(node, node.value)
        if isinstance(node, ast.IfExp):
            return self._chosen(node)
        return node if isinstance(node, ast.FunctionDef | ast.Lambda) else self.generic_visit(node)

    def _followed(self, node: Any, target: ast.expr, expression: ast.expr) -> Any:
        """Return an assignment and the call that notes its values."""
        elements = target.elts if isinstance(target, ast.Tuple) else [target]
        names = tuple(each.id if isinstance(each, ast.Name) else "" for each in elements)
        inner = [each for each in elements if isinstance(each, ast.Tuple)]
        parts = tuple(x.id for each in inner for x in ast.walk(each) if isinstance(x, ast.Name))
        if not any(names) or any(isinstance(each, ast.Starred) for each in elements):
            return self.generic_visit(node)
        notes = [self._note(node, names, self._numbered(names, expression))]
        notes += [self._note(node, parts, self._numbered(parts, expression, is_part=True))] if parts else []
        self.generic_visit(node)
        node.value = _opened(node.value)
        return [node, *notes]

    def _note(self, node: ast.stmt, names: Sequence[str], number: int) -> ast.stmt:
        """Return the call that notes the values of a statement."""
        values: list[ast.expr] = [ast.Name(name, ast.Load()) if name else ast.Constant(None) for name in names]
        call = _call(node, "assigned", ast.Constant(number), ast.Tuple(values, ast.Load()))
        return ast.copy_location(ast.Expr(call), node)

    def _returned(self, node: Any, expression: ast.expr) -> ast.Return:
        number = self._numbered(None, expression)
        self.generic_visit(node)
        node.value = _call(node, "returned", ast.Constant(number), _opened(node.value))
        returned: ast.Return = node
        return returned

    def _chosen(self, node: ast.IfExp) -> ast.IfExp:
        place = ast.Tuple([ast.Constant(node.lineno), ast.Constant(node.col_offset)], ast.Load())
        self.generic_visit(node)
        node.test = _call(node, "chosen", place, node.test)
        return node

    def _numbered(self, names: tuple[str, ...] | None, expression: ast.expr, *, is_part: bool = False) -> int:
        self.statements.append(Statement(names, _Direct().visit(copy.deepcopy(expression)), is_part))
        return len(self.statements) - 1


def _opened(expression: ast.expr) -> ast.expr:
    """Return a call so that the lines of its function can be noted too, and any other expression as it is."""
    if isinstance(expression, ast.YieldFrom):
        expression.value = _opened_call(expression.value, "delegated", 0)
        return expression
    if isinstance(expression, ast.Tuple):
        expression.elts = [_opened_call(part, "called", place) for place, part in enumerate(expression.elts)]
        return expression
    return _opened_call(expression, "called", 0)


def _opened_call(expression: ast.expr, method: str, place: int) -> ast.expr:
    if not isinstance(expression, ast.Call) or not isinstance(expression.func, ast.Name):
        return expression
    called: Any = _call(expression, method, ast.Constant(place), expression.func, *expression.args)
    called.keywords = expression.keywords
    opened: ast.expr = called
    return opened


def _listed(made: Any) -> list[Any]:
    return made if isinstance(made, list) else [made]


def _call(at: Any, method: str, *arguments: ast.expr) -> ast.expr:
    called = ast.Call(ast.Attribute(ast.Name(NOTES, ast.Load()), method, ast.Load()), list(arguments), [])
    return ast.copy_location(called, at)


def _parsed(function: Callable[..., Any]) -> ast.FunctionDef | None:
    """Return a function's syntax tree with the line numbers of its file; None if its source is not a function's."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    try:
        (first, *_) = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    except (OSError, SyntaxError):
        return None
    if not isinstance(first, ast.FunctionDef) or first.name != code.co_name:
        return None
    return ast.increment_lineno(first, code.co_firstlineno - 1)


def _compiled(tree: ast.FunctionDef, original: CodeType) -> CodeType:
    """Return the code of a function inside another one, which has its free variables."""
    free = ast.arguments([], [ast.arg(name) for name in original.co_freevars], None, [], [], None, [])
    fields: dict[str, Any] = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}  # Python 3.12
    around = ast.FunctionDef("around", free, [tree], [], **fields)
    module = ast.fix_missing_locations(ast.Module([around], []))
    flags = original.co_flags & ANNOTATIONS
    made: Any = compile(module, original.co_filename, "exec", flags, dont_inherit=True)
    for name in ("around", tree.name):
        made = next(each for each in made.co_consts if isinstance(each, CodeType) and each.co_name == name)
    code: CodeType = made
    return code
