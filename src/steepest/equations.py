"""Equations made from a trace, in plain text or LaTeX, with the rule's own names."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import fx

from .trace import Trace
from .vocabulary import Word, lerp


class Text(NamedTuple):
    """Printed expression, with the tightness of its binding from ``SUM`` to ``ATOM``."""

    text: str
    tightness: int

    def inside(self, tightness: int) -> str:
        """Return the text, in parentheses where it binds less tightly than its surroundings."""
        return self.text if self.tightness >= tightness else f"({self.text})"


SUM, QUOTIENT, PRODUCT, POWER, ATOM = range(1, 6)

GREEK = {
    "p": ("θ", r"\theta"),
    "lr": ("η", r"\eta"),
    "scheduled_lr": ("η_k", r"\eta_k"),
    "ckp1": ("c", "c"),
    "eta": ("η'", r"\eta'"),
    "eta_minus": ("η⁻", r"\eta^-"),
    "eta_plus": ("η⁺", r"\eta^+"),
    "eps1": ("ε₁", r"\epsilon_1"),
    "eps2": ("ε₂", r"\epsilon_2"),
    "tau": ("τ", r"\tau"),
    "barf": ("f̄", r"\bar{f}"),
    "lambd": ("λ'", r"\lambda'"),
    "t0": ("t₀", "t_0"),
    "beta": ("β", r"\beta"),
    "beta1": ("β₁", r"\beta_1"),
    "beta2": ("β₂", r"\beta_2"),
    "beta3": ("β₃", r"\beta_3"),
    "beta_min": ("β_min", r"\beta_{\min}"),
    "nu": ("ν", r"\nu"),
    "nu1": ("ν₁", r"\nu_1"),
    "nu2": ("ν₂", r"\nu_2"),
    "total_steps": ("T", "T"),
    "gamma": ("γ", r"\gamma"),
    "delta": ("δ", r"\delta"),
    "xi": ("ξ", r"\xi"),
    "x0": ("x₀", "x_0"),
    "base_lr": ("η₀", r"\eta_0"),
    "final_lr": ("η*", r"\eta^*"),
    "eps": ("ε", r"\epsilon"),
    "rho": ("ρ", r"\rho"),
    "rho_inf": ("ρ∞", r"\rho_\infty"),
    "alpha": ("α", r"\alpha"),
    "momentum": ("μ", r"\mu"),
    "mu": ("μ", r"\mu"),
    "next_mu": ("μ⁺", r"\mu^+"),
    "dampening": ("τ", r"\tau"),
    "momentum_decay": ("ψ", r"\psi"),
    "lr_decay": ("γ", r"\gamma"),
    "weight_decay": ("λ", r"\lambda"),
    "ema_decay": ("δ", r"\delta"),
    "m1": ("m₁", "m_1"),
    "m2": ("m₂", "m_2"),
    "v1": ("v₁", "v_1"),
    "v2": ("v₂", "v_2"),
    "v3": ("v₃", "v_3"),
    "smax": ("s_max", r"s_{\max}"),
    "vmax": ("v_max", r"v_{\max}"),
}
"""Symbols of the names that rules use. Any other single letter prints as it is, and ``xhat`` prints with a hat."""


OLD = "_old"
"""Suffix of a state's value before the step, where a rule still uses it after the new value is made."""


ARROW = ("←", r"\leftarrow")
"""Assignment in plain text and in LaTeX."""


@dataclass(frozen=True)
class Style:
    """Spelling of symbols, operators and words in one notation."""

    column: int
    operators: Mapping[Any, Callable[[Text, Text], Text]]
    square: str

    def symbol(self, name: str) -> str:
        """Return the symbol of a name."""
        if name.endswith(OLD):
            return self.symbol(name.removesuffix(OLD)) + ("_old", r"_{\mathrm{old}}")[self.column]
        if name in GREEK:
            return GREEK[name][self.column]
        if name.endswith("hat") and len(name) == 4:
            return (name[0] + "\u0302", rf"\hat{{{name[0]}}}")[self.column]
        spaced = name.replace("_", r"\ ")
        return name if len(name) == 1 or not self.column else rf"\mathrm{{{spaced}}}"

    def word(self, word: Word) -> str:
        """Return the template of a word."""
        return (word.plain, word.latex)[self.column]

    def mixture(self, a: Text, b: Text, weight: Text, rest: Text | None) -> Text:
        """Return ``lerp(a, b, w)`` as the paper writes it, (1 - w) a + w b; ``rest`` is β where w is 1 - β."""
        make = self.operators
        kept = make[operator.sub](Text("1", ATOM), weight) if rest is None else rest
        return make[operator.add](make[operator.mul](kept, a), make[operator.mul](weight, b))


def _binary(template: str, left: int, right: int, result: int) -> Callable[[Text, Text], Text]:
    return lambda a, b: Text(template.format(a.inside(left), b.inside(right)), result)


def _comparisons(*signs: str) -> dict[Any, Callable[[Text, Text], Text]]:
    """Return the printers of the six comparisons; ``signs`` spells the last four in the notation."""
    compared = (operator.gt, operator.lt, operator.ge, operator.le, operator.eq, operator.ne)
    return {f: _binary(f"{{}} {s} {{}}", SUM, SUM, SUM) for f, s in zip(compared, (">", "<", *signs), strict=True)}


PLAIN = Style(
    0,
    {
        operator.add: _binary("{} + {}", SUM, SUM, SUM),
        operator.sub: _binary("{} - {}", SUM, QUOTIENT, SUM),
        operator.mul: _binary("{}·{}", PRODUCT, POWER, PRODUCT),
        operator.matmul: _binary("{} @ {}", PRODUCT, POWER, PRODUCT),
        operator.truediv: _binary("{} / {}", PRODUCT, POWER, QUOTIENT),
        operator.pow: _binary("{}^{}", ATOM, ATOM, POWER),
        **_comparisons("≥", "≤", "=", "≠"),
    },
    "{}²",
)
LATEX = Style(
    1,
    {
        operator.add: _binary("{} + {}", SUM, SUM, SUM),
        operator.sub: _binary("{} - {}", SUM, QUOTIENT, SUM),
        operator.mul: _binary(r"{} \, {}", PRODUCT, POWER, PRODUCT),
        operator.truediv: _binary(r"\frac{{{}}}{{{}}}", SUM, SUM, POWER),
        operator.pow: _binary("{{{}}}^{{{}}}", ATOM, SUM, POWER),
        **_comparisons(r"\ge", r"\le", "=", r"\ne"),
    },
    "{{{}}}^2",
)


class Assignment(NamedTuple):
    """Equation: the symbol of a value, the expression that makes it, and its node in the trace."""

    symbol: str
    expression: str
    node: fx.Node


@dataclass
class Printer:
    """Printer of one trace in one style."""

    trace: Trace
    letters: Mapping[str, str]
    style: Style
    names: dict[fx.Node, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the inputs and every value that the rule gave a name; state is called by its letter."""
        inputs = self.trace.tensors | self.trace.numbers
        self.names = {node: name for node, name in self.trace.names.items() if node not in inputs.values()}
        self.outputs = {"p": self.trace.p} | self.trace.state
        for name, node in self.outputs.items():
            if isinstance(node, fx.Node) and node not in inputs.values():
                self.names[node] = self.letters.get(name, name)
        self.inputs = {node: self.letters.get(name, name) for name, node in inputs.items()}
        self._mark_old_values(inputs)

    def _mark_old_values(self, inputs: Mapping[str, fx.Node]) -> None:
        order = {node: index for index, node in enumerate(self.trace.graph.nodes)}
        for name, new in self.outputs.items():
            old = inputs[name]
            if isinstance(new, fx.Node) and new is not old and any(order[user] > order[new] for user in old.users):
                self.inputs[old] += OLD

    def assignments(self) -> list[Assignment]:
        """Return one for every named value in the rule's order, then the state that is another value by its name."""
        named = [node for node in self.trace.graph.nodes if node in self.names]
        found = [Assignment(self.style.symbol(self.names[n]), self._expand(n).text, n) for n in named]
        for name, node in self.outputs.items():
            letter = self.letters.get(name, name)
            if isinstance(node, fx.Node) and self._called(node) - {letter}:
                found.append(Assignment(self.style.symbol(letter), self._print(node).text, node))
        return found

    def _called(self, node: fx.Node) -> set[str]:
        """Return the name of a node, as an input or as a value."""
        return {names[node] for names in (self.inputs, self.names) if node in names}

    def symbols(self) -> dict[fx.Node, str]:
        """Return the symbols of the inputs that the equations name."""
        return {node: self.style.symbol(name) for node, name in self.inputs.items() if node.users}

    def _print(self, arg: Any) -> Text:
        if not isinstance(arg, fx.Node):
            return Text(f"{arg:g}", ATOM if arg >= 0 else SUM)
        if arg in self.inputs or arg in self.names:
            return Text(self.style.symbol(self.inputs.get(arg) or self.names[arg]), ATOM)
        return self._expand(arg)

    def _expand(self, node: fx.Node) -> Text:
        args = [self._print(a) for a in node.args]
        if node.target is lerp:
            return self._lerp(node, args)
        if isinstance(node.target, Word):
            return Text(self.style.word(node.target).format(*(a.text for a in args)), ATOM)
        if node.target is operator.neg:
            return Text(f"-{args[0].inside(PRODUCT)}", SUM)
        return self._operator(node, args)

    def _operator(self, node: fx.Node, args: list[Text]) -> Text:
        make = self.style.operators
        if node.target is operator.mul and args[0] == args[1]:
            return Text(self.style.square.format(args[0].inside(ATOM)), POWER)
        if (factor := self._factor_of_square(node)) is not None:
            square = Text(self.style.square.format(args[1].inside(ATOM)), POWER)
            return make[operator.mul](self._print(factor), square)
        return make[node.target](args[0], args[1])

    def _factor_of_square(self, node: fx.Node) -> Any:
        """Return ``c`` where the node is ``c * g * g``, else None.

        Such a product is traced from the left, and the paper writes the square.
        """
        left, right = node.args
        product = operator.mul
        if node.target is product and isinstance(left, fx.Node) and left.target is product and left not in self.names:
            return left.args[0] if left.args[1] is right else None
        return None

    def _lerp(self, node: fx.Node, args: list[Text]) -> Text:
        """Print ``lerp(a, b, w)`` as the paper writes it, with 1 - (1 - β) = β."""
        (a, b, w), weight = args, node.args[2]
        rest = None
        if isinstance(weight, fx.Node) and weight.target is operator.sub and weight.args[0] == 1:
            rest = self._print(weight.args[1])
        return self.style.mixture(a, b, w, rest)


def equations(trace: Trace, letters: Mapping[str, str], latex: bool = False) -> list[str]:
    """Return the equations of a traced rule.

    Args:
        trace: the traced program.
        letters: the paper's letter of each state name.
        latex: print LaTeX instead of plain text.
    """
    style = LATEX if latex else PLAIN
    made = Printer(trace, letters, style).assignments()
    return [f"{each.symbol} {ARROW[style.column]} {each.expression}" for each in made]


def call(function: str, arguments: Iterable[str], results: Iterable[str], latex: bool = False) -> str:
    """Return the assignment of a function's results to names, as an equation."""
    style = LATEX if latex else PLAIN
    made, given = (", ".join(map(style.symbol, names)) for names in (results, arguments))
    return f"{made} {ARROW[style.column]} {style.symbol(function)}({given})"
