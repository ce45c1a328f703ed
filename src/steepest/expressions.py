"""Expressions of Python's source, printed in the symbols of equations."""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from .equations import ATOM, PLAIN, POWER, PRODUCT, SUM, Text
from .vocabulary import WORDS, Word, lerp

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.MatMult: operator.matmul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
"""Operators that have a sign of their own in equations, by their class in a syntax tree."""

LOOSEST = 0
"""Tightness of an expression that needs parentheses inside any other."""

LOOSE = {
    ast.BinOp: PRODUCT,
    **dict.fromkeys((ast.BoolOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Lambda), LOOSEST),
}
"""Tightness of expressions that Python spells without brackets."""

BINDING = (ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Attribute, ast.Subscript)
"""Expressions that bind more tightly than some of those inside them."""

TRANSPOSED = ("mT", "T")
"""Attributes of a tensor that print as ᵀ."""


@dataclass(frozen=True)
class Writer:
    """Writer of a function's expressions.

    Attributes:
        known: the objects that the function's names mean, but for its own variables.
        symbols: the symbols of variables that have others than their names'.
    """

    known: Mapping[str, Any]
    symbols: Mapping[str, str]

    def symbol(self, name: str) -> str:
        """Return the symbol of a variable."""
        return self.symbols.get(name) or PLAIN.symbol(name)

    def text(self, node: ast.expr) -> Text:
        """Return an expression in symbols."""
        write = {
            ast.Name: self._name,
            ast.Constant: self._constant,
            ast.UnaryOp: self._sign,
            ast.BinOp: self._operation,
            ast.Compare: self._comparison,
            ast.Attribute: self._attribute,
            ast.Call: self._call,
            ast.YieldFrom: self._delegated,
        }.get(type(node), self._spelled)
        return write(node)

    def _name(self, node: Any) -> Text:
        return Text(self.symbol(node.id), ATOM)

    def _constant(self, node: Any) -> Text:
        is_number = type(node.value) in (int, float)
        return Text(f"{node.value:g}" if is_number else repr(node.value), ATOM)

    def _sign(self, node: Any) -> Text:
        if not isinstance(node.op, ast.USub):
            return self._spelled(node)
        return Text(f"-{self.text(node.operand).inside(PRODUCT)}", SUM)

    def _operation(self, node: Any) -> Text:
        function = OPERATORS.get(type(node.op))
        if function is None:
            return self._spelled(node)
        a, b = self.text(node.left), self.text(node.right)
        if (function is operator.mul and a == b) or (function is operator.pow and b.text == "2"):
            return _square(a)
        if function is operator.mul and isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult):
            factor, repeated = self.text(node.left.left), self.text(node.left.right)
            if repeated == b:  # c * g * g, which is read from the left, and which the paper writes as c·g²
                return PLAIN.operators[function](factor, _square(b))
        return PLAIN.operators[function](a, b)

    def _comparison(self, node: Any) -> Text:
        function = OPERATORS.get(type(node.ops[0]))
        if function is None or len(node.ops) > 1:
            return self._spelled(node)
        return PLAIN.operators[function](self.text(node.left), self.text(node.comparators[0]))

    def _attribute(self, node: Any) -> Text:
        if node.attr in TRANSPOSED:
            whole = self.text(node.value)
            is_back = whole.text.endswith("ᵀ") and whole.tightness >= POWER
            return Text(whole.text[:-1], ATOM) if is_back else Text(f"{whole.inside(ATOM)}ᵀ", POWER)
        return self._spelled(node)

    def _delegated(self, node: Any) -> Text:
        return self.text(node.value)

    def _call(self, node: Any) -> Text:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method == "square" and not node.args:
            return _square(self.text(node.func.value))
        if method == "add" and [x.arg for x in node.keywords] == ["alpha"]:
            return self._sum(node)
        word, args = self._word(node), node.args
        if word is lerp:
            a, b, weight = map(self.text, args)
            return PLAIN.mixture(a, b, weight, self._rest(args[2]))
        if word is not None:
            return Text(PLAIN.word(word).format(*(self.text(x).text for x in args)), ATOM)
        return self._spelled(node)

    def _sum(self, node: Any) -> Text:
        """Return torch.add(a, b, alpha=c), or a.add(b, alpha=c), as a + c·b."""
        a, b = node.args if len(node.args) == 2 else (node.func.value, *node.args)
        times = PLAIN.operators[operator.mul](self.text(node.keywords[0].value), self.text(b))
        return PLAIN.operators[operator.add](self.text(a), times)

    def _word(self, node: ast.Call) -> Word | None:
        """Return the word that is called, with as many arguments as it has; one of torch and math counts too."""
        function = self.function(node.func)
        if not isinstance(function, Word):
            name = getattr(function, "__name__", "")
            function = None if isinstance(function, FunctionType) or node.keywords else WORDS.get(name)
        if function is None or any(isinstance(x, ast.Starred) for x in node.args):
            return None
        count = len(node.args)
        return function if f"{{{count - 1}}}" in function.plain and f"{{{count}}}" not in function.plain else None

    def function(self, node: ast.expr) -> Any:
        """Return the function that an expression names; None if it is not known."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = self.known.get(node.value.id)
            return getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
        return None

    def _rest(self, weight: ast.expr) -> Text | None:
        """Return β of a weight 1 - β."""
        if isinstance(weight, ast.BinOp) and isinstance(weight.op, ast.Sub) and _is_one(weight.left):
            return self.text(weight.right)
        return None

    def _spelled(self, node: Any) -> Text:
        """Return an expression as Python spells it, with the expressions inside it in symbols."""
        copied = copy.deepcopy(node)
        inside = _Inside(self, copied)
        text = ast.unparse(inside.generic_visit(copied))
        for name, symbol in inside.symbols.items():
            text = text.replace(name, symbol)
        return Text(text, next((tightness for kind, tightness in LOOSE.items() if isinstance(node, kind)), ATOM))


def _square(x: Text) -> Text:
    return Text(PLAIN.square.format(x.inside(ATOM)), POWER)


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


class _Inside(ast.NodeTransformer):
    """Transformer that puts names in place of the expressions inside one, and keeps what they stand for."""

    def __init__(self, writer: Writer, node: ast.expr) -> None:
        self._writer = writer
        self._outer = node
        self._index = node.slice if isinstance(node, ast.Subscript) else None
        self.symbols: dict[str, str] = {}

    def visit(self, node: ast.AST) -> Any:
        is_list = isinstance(node, ast.Starred) or (node is self._index and isinstance(node, ast.Tuple))
        if not isinstance(node, ast.expr) or is_list:
            return self.generic_visit(node)
        name = f"symbol_{len(self.symbols)}_"
        self.symbols[name] = self._writer.text(node).inside(self._tightness(node))
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def _tightness(self, node: ast.expr) -> int:
        """Return the tightness that an expression needs, so that it keeps its meaning without parentheses."""
        return ATOM if isinstance(self._outer, BINDING) and node is not self._index else LOOSEST
