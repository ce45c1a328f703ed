"""Which executor runs a parameter group. What was asked for runs or raises; only ``None`` may choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import _get_capturable_supported_devices
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from ..fields import Field, Options
from ..modes import Mode
from ..partition import IS_SPARSE, Choice, Cut, Live, Part, singles, split
from ..rule import PLANNED_KINDS, Rule
from . import foreach, reference, sparse, stacked, torch_fused
from .errors import UnsupportedError
from .memory import PLAIN
from .native import part as native

EXECUTORS: dict[str, Cut] = {
    "reference": partial(split, run=reference.run),
    "foreach": partial(split, run=foreach.run),
    "native": native.cut,
    "stacked": partial(split, run=stacked.run),
}
"""Executors of rules that take one gradient, by name: how each puts parameters together."""

OPAQUE = {"native"}
"""Executors that work on memory, past torch's operations."""

WITH_TENSORS: Cut = partial(singles, run=reference.run)
"""The reference executor with numbers that stay tensors: for differentiable and capturable steps."""

NO_FIELDS: Mapping[str, Field] = MappingProxyType({})
PLAIN_TYPES = PLAIN | {torch.nn.UninitializedParameter}
"""What a group may hold for a kernel; an uninitialised parameter is a plain one by the time of its first gradient."""


def choose(rule: Rule, options: Options, name: str = "", fields: Mapping[str, Field] = NO_FIELDS) -> Choice:
    """The executor for one parameter group.

    Args:
        rule: the group's rule.
        options: the group.
        name: the optimizer's class, under which torch may have a fused function.
        fields: what the class declares.

    Raises:
        RuntimeError: the options ask for an executor that cannot run this rule, or contradict each other.
    """
    if rule.kind == "driver":
        return _driver(rule, options)
    _refuse_contradictions(options)
    if rule.sparse == "lazy":
        return Choice("sparse", sparse.together)
    if options.get("fused"):
        return _fused(rule, options, name, fields)
    if options.get("capturable"):
        return Choice("reference", capturable, "foreach: capturable=True keeps numbers on the device")
    if options.get("foreach"):
        return _choice("stacked" if rule.kind == "matrix" else "foreach")
    if options.get("foreach") is None and _is_plain(options):
        return _choice("stacked") if rule.kind == "matrix" else _best(rule, options)
    return Choice("reference", WITH_TENSORS) if options.get("differentiable") else _choice("reference")


def capturable(live: Live) -> Iterator[Part]:
    """The parts of a capturable step.

    Raises:
        AssertionError: a parameter is on a device without graphs to capture, in torch's words.
    """
    supported = _get_capturable_supported_devices()
    if any(p.device.type not in supported for p in live.params):
        raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {supported}.")
    return WITH_TENSORS(live)


def under_mode(choice: Choice, rule: Rule, options: Options, mode: Mode) -> Choice:
    """What runs in place of ``choice`` while a mode intercepts operations: operations of torch, which it can see.

    Raises:
        RuntimeError: ``fused=True`` asked for a kernel, which the mode could not see.
    """
    if options.get("fused"):
        raise RuntimeError(
            f"`fused=True` runs a kernel that {mode.name} cannot intercept; leave fused=None to run torch's operations"
        )
    if mode.hides_values:
        return Choice("reference", WITH_TENSORS, f"{choice.name}: {mode.name} hides the values of tensors")
    if not choice.is_opaque:
        return choice
    chosen = choose(rule, {**options, "fused": False})
    return Choice(chosen.name, chosen.cut, f"{choice.name}: {mode.name} intercepts torch's operations")


def _nowhere(live: Live) -> Iterator[Part]:
    """A fused step on meta: a model may be made there, and its parameters put somewhere before the first step.

    Raises:
        RuntimeError: always, in torch's words.
    """
    supported = _get_fused_kernels_supported_devices()
    p = next(p for p in live.params if p.is_meta)
    message = "`fused=True` requires all the params to be floating point Tensors of supported devices:"
    raise RuntimeError(f"{message} {supported} but {p.dtype} and {p.device.type}")


def _fused(rule: Rule, options: Options, name: str, fields: Mapping[str, Field]) -> Choice:
    devices = {p.device for p in options["params"]}
    if rule.kind in PLANNED_KINDS and any(device.type == "meta" for device in devices):
        return Choice("native", _nowhere)
    if devices and all(map(torch_fused.runs_on, devices)):
        if reason := torch_fused.refusal(name, fields, options):
            where = ", ".join(sorted({d.type for d in devices}))
            raise RuntimeError(f"`fused=True` on {where} runs torch's own kernels, but {reason}; leave fused=None")
        return Choice("torch", torch_fused.cut_for(name, options))
    _refuse_native(rule, options)
    return _choice("native")


def _choice(name: str, reason: str = "") -> Choice:
    return Choice(name, EXECUTORS[name], reason, name in OPAQUE)


def _best(rule: Rule, options: Options) -> Choice:
    if options.get("fused") is False:
        return _choice("foreach", "native: fused=False")
    try:
        _refuse_native(rule, options)
    except RuntimeError as error:
        return _choice("foreach", f"native: {error}")
    return _choice("native")


def without_native(rule: Rule, options: Options, refusal: UnsupportedError) -> Choice:
    """The next best executor, after the native one has refused.

    Raises:
        RuntimeError: ``fused=True`` asked for the native one.
    """
    if options.get("fused"):
        raise RuntimeError(f"`fused=True` cannot run here: {refusal}; leave fused=None for an executor that can")
    chosen = choose(rule, {**options, "fused": False})
    return Choice(chosen.name, chosen.cut, f"native: {refusal}")


def beside_sparse(choice: Choice, live: Live) -> Choice:
    """The same executor for parameters with dense gradients, and the sparse one for the others, if there are any."""
    layouts = set(map(IS_SPARSE, (p.grad for p in live.params)))
    if True not in layouts and not any(map(sparse.keeps_sparse, live.states)):
        return choice
    name = choice.name if True not in layouts else f"{choice.name} and sparse" if False in layouts else "sparse"
    return Choice(name, partial(sparse.cut, dense=choice.cut), choice.reason if False in layouts else "")


def _driver(rule: Rule, options: Options) -> Choice:
    for switch in ("foreach", "fused", "capturable", "differentiable"):
        if options.get(switch):
            raise RuntimeError(f"{switch}=True cannot run {rule.fn.__name__}, which evaluates the closure itself")
    return Choice("driver", _no_parts)


def _no_parts(live: Live) -> Iterator[Part]:
    raise NotImplementedError("a driver moves all parameters as one vector, and a compiled step is a graph: no parts")


COMPILED = Choice("compiled", _no_parts)
"""What has run a group whose step is compiled; see compiled.py."""


def refuse_two_executors(options: Options) -> None:
    """Raise `RuntimeError` if a constructor is asked for two executors. In a group fused wins, as in torch."""
    if options.get("fused") and options.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _refuse_contradictions(options: Options) -> None:
    for asked in ("fused", "foreach"):
        if options.get(asked) and options.get("differentiable"):
            raise RuntimeError(f"`{asked}` does not support `differentiable`; leave {asked}=None (reference executor)")


def _is_plain(options: Options) -> bool:
    """Whether nothing asks for one tensor after the other: no derivative, no subclass, no view that negates."""
    params = options["params"]
    if options.get("differentiable") or not set(map(type, params)) <= PLAIN_TYPES:
        return False
    return not any(p.is_neg() for p in params if not is_lazy(p))


def _refuse_native(rule: Rule, options: Options) -> None:
    """Raise `RuntimeError` where it is plain from the options that the native executor cannot run the group."""
    params = options["params"]
    if rule.kind not in PLANNED_KINDS:
        raise RuntimeError(f"`fused=True` cannot run {rule.fn.__name__}, a {rule.kind} rule; leave fused=None")
    if any(state.kind in ("row", "column") for state in rule.state):
        raise RuntimeError(
            f"`fused=True` cannot run {rule.fn.__name__}, which keeps rows and columns; leave fused=None"
        )
    if other := sorted({p.device.type for p in params} - {"cpu"}):
        raise RuntimeError(f"`fused=True` runs on the CPU, and there are parameters on {', '.join(other)}")
    if other := sorted({t.__name__ for t in map(type, params)} - {t.__name__ for t in PLAIN_TYPES}):
        raise RuntimeError(f"`fused=True` runs plain tensors and parameters alone, not {', '.join(other)}")
    try:
        native.check_machine()
    except UnsupportedError as refusal:
        raise RuntimeError(str(refusal)) from refusal
