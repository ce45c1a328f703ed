"""Which executor runs a parameter group. What was asked for runs or raises; only ``None`` may choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..fields import Options
from ..rule import Rule
from . import foreach, reference
from .batch import Batch

Executor = Callable[[Batch], dict[str, Any]]

EXECUTORS: dict[str, Executor] = {"reference": reference.run, "foreach": foreach.run}
"""Executors of pointwise and per-tensor rules, by name."""

PLAIN_TYPES = {Tensor, torch.nn.Parameter}
PLANNED_KINDS = ("pointwise", "per_tensor")


def choose(rule: Rule, options: Options) -> str:
    """The name of the executor for one parameter group.

    Raises:
        RuntimeError: the options ask for an executor that cannot run this rule, or contradict each other.
    """
    if rule.kind == "driver":
        return _driver(rule, options)
    _refuse_contradictions(options)
    asked = options.get("foreach")
    if asked is None:
        return "foreach" if _foreach_is_exact(rule, options) else "reference"
    if asked and rule.kind not in PLANNED_KINDS:
        raise RuntimeError(f"foreach=True cannot run {rule.fn.__name__}, a {rule.kind} rule; leave foreach=None")
    return "foreach" if asked else "reference"


def _driver(rule: Rule, options: Options) -> str:
    for switch in ("foreach", "fused", "capturable", "differentiable"):
        if options.get(switch):
            raise RuntimeError(f"{switch}=True cannot run {rule.fn.__name__}, which evaluates the closure itself")
    return "driver"


def _refuse_contradictions(options: Options) -> None:
    if options.get("fused"):
        if options.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        raise RuntimeError(
            "`fused=True` asks for one fused kernel, and this version has none; executors here: "
            f"{', '.join(EXECUTORS)}. Leave fused=None for the fastest of them."
        )
    if options.get("foreach"):
        for switch in ("differentiable", "capturable"):
            if options.get(switch):
                message = f"`foreach=True` cannot run with `{switch}=True`; leave foreach=None (reference executor)"
                raise RuntimeError(message)
        if isinstance(options.get("lr"), Tensor):
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")


def _foreach_is_exact(rule: Rule, options: Options) -> bool:
    if rule.kind not in PLANNED_KINDS or options.get("differentiable") or options.get("capturable"):
        return False
    return set(map(type, options["params"])) <= PLAIN_TYPES and not torch.compiler.is_compiling()
