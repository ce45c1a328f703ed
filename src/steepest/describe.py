"""Description of one optimizer, from its declarations: the text that ``steepest show`` prints."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from . import registry
from .catalogue import state_in_words
from .equations import call, equations
from .fields import Field
from .group import GroupSpec
from .kinds import KINDS
from .optimizer import Optimizer
from .rule import Rule
from .text import range_in_words, table
from .trace import trace

NOT_TRACED: Mapping[str, str] = MappingProxyType(
    {
        "driver": "This rule asks for new gradients on its way: read it below; each yield is a point to evaluate.",
        "matrix": "This rule multiplies matrices, and has a loop: read it below.",
    }
)
"""Sentence that stands in place of equations, by the kind of a rule that is not traced."""


def describe(text: str, latex: bool = False) -> str:
    """Describe an optimizer: equations, source of the idea, hyperparameters, state and the rule's own code.

    Args:
        text: a recipe, such as ``adam`` or ``adam[amsgrad=true,weight_decay=0.1]``. The equations show the effect of
            its options.
        latex: print the equations in LaTeX.

    Raises:
        UnknownNameError: the optimizer or an option does not exist.
        ValueError: a value is not allowed.
    """
    recipe = registry.parse(text)
    cls, options = recipe.optimizer, recipe.resolved()
    rule = cls.rule_for(options)
    about = inspect.cleandoc(cls.__doc__ or "")
    parts = [
        "\n".join([f"{recipe.label} ({rule.kind.replace('_', '-')} rule)", *_other_names(cls)]),
        about,
        _section("Update" + (" (LaTeX)" if latex else ""), update_equations(cls, options, latex)),
        _section("Hyperparameters", table(_hyperparameter_rows(cls.fields.values(), options))),
        _section("State", _state_lines(recipe, rule)),
        _section("Rule", source_lines(rule)),
    ]
    return "\n\n".join(parts)


def _other_names(cls: type[Optimizer]) -> list[str]:
    aliases = registry.declared_aliases(cls)
    return [f"Also called: {registry.in_words(aliases)}"] if aliases else []


def source_lines(rule: Rule) -> list[str]:
    """Return the lines of the rule's code.

    For a matrix rule and one with shared numbers, the functions of its file are included, which hold the mathematics.
    """
    functions = [rule.fn]
    if rule.kind == "matrix" or rule.shared is not None:
        own = inspect.getmembers(inspect.getmodule(rule.fn), inspect.isfunction)
        functions += [f for _, f in own if f.__module__ == rule.fn.__module__]
    return "\n\n".join(textwrap.dedent(inspect.getsource(f)) for f in dict.fromkeys(functions)).splitlines()


def update_equations(cls: type[Optimizer], options: dict[str, Any], latex: bool = False) -> list[str]:
    """Return the equations of one step under ``options``, after the first step.

    A rule that is not traced gets a sentence in words instead, which points to its code.
    """
    rule = cls.rule_for(options)
    if rule.kind in NOT_TRACED:
        return [NOT_TRACED[rule.kind]]
    spec = GroupSpec.of(cls, options)
    if rule.shared is None:
        return _equations(spec, rule.letters, latex)
    measuring = spec.measuring()
    sums = [] if measuring is None else _equations(measuring, rule.letters, latex)
    renewal = call(rule.shared.renew.__name__, rule.shared.read, rule.shared.numbers, latex)
    return [*sums, renewal, *_equations(spec, rule.letters, latex)]


def _equations(spec: GroupSpec, letters: dict[str, str], latex: bool) -> list[str]:
    counted = ["t"] if any(s.kind == "step" for s in spec.existing) else []
    return equations(trace(spec.program(), (*spec.numbers, *counted)), letters, latex)


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([title, *(f"    {line}".rstrip() for line in lines)])


def _hyperparameter_rows(fields: Iterable[Field], options: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("name", "value", "default", "allowed", "searched", "meaning")]
    for f in fields:
        if not f.fixed:
            rows.append((f.name, str(options[f.name]), str(f.default), f.allowed, range_in_words(f), f.doc))
    return rows


def _state_lines(recipe: registry.Recipe, rule: Rule) -> list[str]:
    held = [s for s in rule.state if s.when(recipe.resolved())]
    if not held:
        return ["none: 0 bytes per parameter"]
    lines = [state_in_words(recipe)]
    if rule.shared is not None:
        lines.append(f"numbers that parameters share, in each group: {', '.join(rule.shared.kept)}")
    return lines + table([(s.name, rule.letters.get(s.name, "t"), KINDS[s.kind].words) for s in held])
