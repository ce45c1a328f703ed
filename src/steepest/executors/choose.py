"""Choice of the executor that runs a parameter group.

An executor that the options ask for runs or raises. Only ``None`` leaves the choice to this module.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch.nn.parameter import is_lazy

from ..fields import Options
from ..group import GroupSpec
from ..modes import Mode
from . import sparse
from .base import IS_SPARSE, PLAIN_TYPES, ActiveParams, Executor, ExecutorChoice
from .driver import DRIVER
from .foreach import FOREACH
from .native.executor import NATIVE
from .reference import ON_TENSORS, REFERENCE
from .sparse import SPARSE
from .stacked import STACKED
from .torch_fused import TORCH_FUSED
from .triton.executor import TRITON

EXECUTORS: tuple[Executor, ...] = (DRIVER, SPARSE, TRITON, TORCH_FUSED, NATIVE, STACKED, FOREACH, REFERENCE)
"""All executors, in order of preference. ``None`` takes the first that suits a rule and does not refuse the group.

TRITON suits only what TORCH_FUSED cannot run."""


def choose(spec: GroupSpec, without: frozenset[str] = frozenset()) -> ExecutorChoice:
    """Return the executor of one group, leaving out the executors named in ``without``.

    Raises:
        RuntimeError: the options ask for an executor that cannot run this rule, or contradict each other.
    """
    options = spec.options
    suited = [executor for executor in EXECUTORS if executor.name not in without and executor.suits(spec)]
    _refuse_contradictions(options)
    if not any(executor.switch for executor in suited):  # a driver or a lazy rule, which has one executor of its own
        return _first(spec, suited)
    if options.get("fused") and not without:
        return _asked_for(spec, suited, "fused")
    if options.get("capturable"):
        suited = [executor for executor in suited if executor.is_capturable or not executor.switch]
    if options.get("foreach"):
        return _asked_for(spec, suited, "foreach")
    if options.get("foreach") is False or not _is_plain(options):
        suited = [executor for executor in suited if not executor.switch]
    return _first(spec, suited)


def runnable(spec: GroupSpec) -> tuple[str, ...]:
    """Return the names of the executors that can run a group on this machine, in order of preference."""
    return tuple(e.name for e in EXECUTORS if e.suits(spec) and not e.refusal(spec))


def _asked_for(spec: GroupSpec, suited: list[Executor], switch: str) -> ExecutorChoice:
    """Return the first executor that ``switch`` asks for."""
    executor = next((executor for executor in suited if executor.switch == switch), None)
    if executor is None:
        fn, kind = spec.rule.fn.__name__, spec.rule.kind
        under = " under capturable=True" if spec.options.get("capturable") else ""
        raise RuntimeError(f"`{switch}=True` cannot run {fn}, a {kind} rule{under}; leave {switch}=None")
    if refusal := executor.refusal(spec):
        raise RuntimeError(refusal)
    return ExecutorChoice(executor)


def _first(spec: GroupSpec, suited: list[Executor]) -> ExecutorChoice:
    reason = refusal = ""
    for executor in suited:
        is_off = executor.switch and spec.options.get(executor.switch) is False
        refusal = f"{executor.switch}=False" if is_off else executor.refusal(spec)
        if not refusal:
            return ExecutorChoice(executor, reason)
        reason = f"{executor.name}: {refusal}"
    raise RuntimeError(refusal)


def under_mode(choice: ExecutorChoice, spec: GroupSpec, mode: Mode) -> ExecutorChoice:
    """Return the choice that replaces ``choice`` while a mode intercepts operations: one that runs torch's operations.

    Raises:
        RuntimeError: ``fused=True`` asks for a kernel, which the mode cannot see, or the rule reads a hidden number.
    """
    name = choice.executor.name
    if spec.options.get("fused"):
        raise RuntimeError(
            f"`fused=True` runs a kernel that {mode.name} cannot intercept; leave fused=None to run torch's operations"
        )
    if mode.hides_values and spec.rule.branches:
        raise RuntimeError(
            f"{spec.name} branches on the step count, which {mode.name} hides; take the step outside of it"
        )
    if mode.hides_values:
        return ExecutorChoice(ON_TENSORS, f"{name}: {mode.name} hides the values of tensors")
    if not choice.executor.is_opaque:
        return choice
    opaque = frozenset(executor.name for executor in EXECUTORS if executor.is_opaque)
    return ExecutorChoice(choose(spec, opaque).executor, f"{name}: {mode.name} intercepts torch's operations")


def after_refusal(choice: ExecutorChoice, spec: GroupSpec, refusal: Exception) -> ExecutorChoice:
    """Return the next best executor, after the chosen one has refused the parameters themselves.

    Raises:
        RuntimeError: the options ask for the executor that has refused.
    """
    refused = choice.executor
    if spec.options.get(refused.switch):
        switch = refused.switch
        raise RuntimeError(f"`{switch}=True` cannot run here: {refusal}; leave {switch}=None for an executor that can")
    return ExecutorChoice(choose(spec, frozenset({refused.name})).executor, f"{refused.name}: {refusal}")


def beside_sparse(choice: ExecutorChoice, live: ActiveParams) -> ExecutorChoice:
    """Return the executor for dense gradients, joined by the sparse executor if some gradients are sparse."""
    layouts = set(map(IS_SPARSE, (p.grad for p in live.params)))
    if True not in layouts and not any(map(sparse.keeps_sparse, live.states)):
        return choice
    dense = choice.executor
    name = dense.name if True not in layouts else f"{dense.name} and sparse" if False in layouts else "sparse"
    joined = replace(dense, name=name, make_buckets=partial(sparse.make_buckets, dense=dense.make_buckets))
    return ExecutorChoice(joined, choice.reason if False in layouts else "")


def refuse_two_executors(options: Options) -> None:
    """Raise `RuntimeError` if a constructor is asked for two executors. In a group, fused wins, as in torch."""
    if options.get("fused") and options.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def _refuse_contradictions(options: Options) -> None:
    for asked in ("fused", "foreach"):
        if options.get(asked) and options.get("differentiable"):
            raise RuntimeError(f"`{asked}` does not support `differentiable`; leave {asked}=None (reference executor)")


def _is_plain(options: Options) -> bool:
    """Return whether tensors can run together: no derivative is asked for, no subclass or negating view is there."""
    params = options["params"]
    if options.get("differentiable") or not set(map(type, params)) <= PLAIN_TYPES:
        return False
    return not any(p.is_neg() for p in params if not is_lazy(p))
