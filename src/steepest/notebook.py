"""Representation of an optimizer for notebooks: plain tables in HTML that need no style sheet."""

from __future__ import annotations

from html import escape
from typing import Any

from .text import html_table


def of_optimizer(optimizer: Any) -> str:
    """Return an optimizer's groups: their size, and the options that are torch's arguments or not at their defaults.

    All options lie folded below.
    """
    executor = optimizer.executor
    reason = f" ({escape(executor.reason)})" if executor.reason else ""
    groups = [_cells(optimizer, index, group) for index, group in enumerate(optimizer.param_groups)]
    every = [("option", *(row[0] for row in groups))]
    every += [(name, *(_spelled(group[name]) for group in optimizer.param_groups)) for name in sorted(optimizer.fields)]
    return (
        f"<p><b>{escape(type(optimizer).__name__)}</b>, executor {escape(executor)}{reason}</p>"
        + html_table([("group", "tensors", "parameters", "options"), *groups])
        + f"<details><summary>all options</summary>{html_table(every)}</details>"
    )


def _cells(optimizer: Any, index: int, group: dict[str, Any]) -> tuple[str, ...]:
    params = group["params"]
    shown = {
        name: group[name]
        for name, field in optimizer.fields.items()
        if not field.keyword_only or _differs(group[name], field.default)
    }
    options = ", ".join(f"{name}={_spelled(value)}" for name, value in shown.items())
    name = str(group.get("name", index))
    return name, f"{len(params):,}", f"{sum(p.numel() for p in params):,}", options


def _differs(value: Any, default: Any) -> bool:
    return type(value) is not type(default) or bool(value != default)


def _spelled(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
