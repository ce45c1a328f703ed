"""Description of one optimizer, from its declarations: the text that ``steepest show`` prints."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from . import registry
from .equations import equations
from .fields import Field, State
from .group import GroupSpec, values
from .kinds import KINDS
from .optimizer import Optimizer
from .rule import Program, Rule
from .trace import trace


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
        f"{recipe.label} ({rule.kind.replace('_', '-')} rule)",
        about,
        _section("Update" + (" (LaTeX)" if latex else ""), update_equations(cls, options, latex)),
        _section("Hyperparameters", _table(_hyperparameter_rows(cls.fields.values(), options))),
        _section("State", _state_lines(cls, options)),
        _section("Rule", _source(rule)),
    ]
    return "\n\n".join(parts)


def _source(rule: Rule) -> list[str]:
    """Return the lines of the rule's code.

    For a matrix rule, the functions of its file are included, which hold the mathematics.
    """
    functions = [rule.fn]
    if rule.kind == "matrix":
        own = inspect.getmembers(inspect.getmodule(rule.fn), inspect.isfunction)
        functions += [f for _, f in own if f.__module__ == rule.fn.__module__]
    return "\n\n".join(textwrap.dedent(inspect.getsource(f)) for f in dict.fromkeys(functions)).splitlines()


def update_equations(cls: type[Optimizer], options: dict[str, Any], latex: bool = False) -> list[str]:
    """Return the equations of one step under ``options``, after the first step.

    A rule that is not traced gets a sentence in words instead, which points to its code.
    """
    rule = cls.rule_for(options)
    if rule.kind == "driver":
        return ["This rule asks for new gradients on its way: read it below; each yield is a point to evaluate."]
    if rule.kind == "matrix":
        return ["This rule multiplies matrices, and has a loop: read it below."]
    program, numbers = _program(cls, options)
    letters = rule.letters
    return equations(trace(program, numbers), letters, latex)


def _program(cls: type[Optimizer], options: dict[str, Any]) -> tuple[Program, tuple[str, ...]]:
    spec = GroupSpec.of(cls, options)
    numbers, _ = values(cls.fields, options)
    counted = any(s.kind == "step" for s in spec.existing)
    return spec.program(), (*numbers, *(["t"] if counted else []))


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([title, *(f"    {line}".rstrip() for line in lines)])


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _hyperparameter_rows(fields: Iterable[Field], options: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("name", "value", "default", "allowed", "searched", "meaning")]
    for f in fields:
        if not f.fixed:
            rows.append((f.name, str(options[f.name]), str(f.default), f.allowed, _range(f), f.doc))
    return rows


def _range(declared: Field) -> str:
    search = declared.search
    if search is None:
        return ", ".join(map(str, (declared.default, *declared.candidates))) if declared.candidates else "-"
    what = "1 - " if search.complement else ""
    return f"{what}[{search.low:g}, {search.high:g}] {search.scale}"


def _state_lines(cls: type[Optimizer], options: dict[str, Any]) -> list[str]:
    rule = cls.rule_for(options)
    held = [s for s in rule.state if s.when(options)]
    if not held:
        return ["none: 0 bytes per parameter"]
    per_element = sum(_bytes_per_element(s) for s in held)
    shared = " and what all share, which grows as it runs" if any(s.kind == "shared" for s in held) else ""
    lines = [f"{per_element:g} bytes per float32 parameter{shared}"]
    return lines + _table([(s.name, rule.letters.get(s.name, "t"), KINDS[s.kind].words) for s in held])


def _bytes_per_element(state: State) -> float:
    probe = torch.zeros(1000, 1000)
    return round(state.nbytes(probe) / probe.numel(), 2)
