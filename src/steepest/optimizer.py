"""The shell around a rule: a real `torch.optim.Optimizer`, built from declared fields and declared state."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .average import EMA, averaged, ema_decay, swapped
from .decay import coupled_decay, decoupled_decay, maximized
from .executors import driver
from .executors.batch import Batch
from .executors.choose import EXECUTORS, choose
from .fields import Field, Options, signature
from .rule import CommonStep, Program, Rule, State, Structure, program


def _unchanged(p: Any, g: Any) -> Any:
    return p


_UNCHANGED = Rule(_unchanged, "pointwise")
"""Runs the common steps alone: a driver has already moved the parameters."""


@dataclass_transform()
class Optimizer(torch.optim.Optimizer):
    """Base of all optimizers. A subclass declares its arguments as fields and its rule; nothing else.

    Example:
        >>> from steepest.fields import lr
        >>> def descent(p, g, *, lr):
        ...     return p - lr * g
        >>> class Descent(Optimizer):
        ...     '''Gradient descent.'''
        ...     lr: float = lr(0.1)
        ...     rule = Rule(descent, "pointwise")
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> w.grad = torch.ones(2)
        >>> Descent([w], lr=0.5).step()
        >>> w.tolist()
        [0.5, 0.5]

    Args:
        params: parameters, named parameters or groups, as in torch.
        ema_decay: decay of an exponential moving average of the weights (see `averaged`); None keeps none.

    Raises:
        ValueError: a value out of bounds (torch's message, then what is allowed), no parameters, non-leaf or integer
            parameters, a parameter in two groups.
        TypeError: an argument that does not exist (with the close match), or not of its type.
    """

    fields: ClassVar[Mapping[str, Field]] = {}
    """The declared arguments, by name, in the constructor's order."""
    rule: ClassVar[Rule]
    """The update rule."""

    params: ParamsT
    _: KW_ONLY
    ema_decay: float | None = ema_decay()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declared fields and give the class a constructor with their signature."""
        super().__init_subclass__(**kwargs)
        cls.fields = _collect_fields(cls)
        if "__init__" not in cls.__dict__:
            cls.__init__ = _constructor(cls.fields)  # type: ignore[method-assign]

    @classmethod
    def rule_for(cls, options: Options) -> Rule:
        """The rule under a group's options; a class with two rules chooses here."""
        return cls.rule

    @classmethod
    def check(cls, options: Options) -> None:
        """Raise `ValueError` for options that do not go together. Overridden where a class has such options."""

    @classmethod
    def needs_closure(cls, options: Options) -> bool:
        """Whether ``step`` needs a closure under these options, because the rule asks for new gradients."""
        return cls.rule_for(options).kind == "driver"

    # -- construction ------------------------------------------------------------------------------------------------

    def _setup(self, params: ParamsT, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.fields[name].validate(value)
        self._averaging = False
        self.check(values)
        super().__init__(params, values)
        for group in self.param_groups:
            choose(self.rule_for(group), group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch; its own options are checked like the constructor's."""
        if isinstance(param_group, dict):
            self._validate_options(param_group)
        before = len(self.param_groups)
        super().add_param_group(param_group)
        try:
            self._finish_group(self.param_groups[-1], self.param_groups)
        except BaseException:
            del self.param_groups[before:]
            raise

    def _validate_options(self, options: Options) -> None:
        """Check a group's own options. Foreign keys are allowed, as in torch, unless one looks like a slip of the pen."""
        for name, value in options.items():
            if name in self.fields:
                self.fields[name].validate(value)
            elif close := difflib.get_close_matches(name, {"params", *self.fields} - {name}, 1, 0.85):
                raise ValueError(f"parameter group has an unknown option {name!r}; did you mean {close[0]!r}?")

    def _finish_group(self, group: dict[str, Any], groups: list[dict[str, Any]]) -> None:
        self.check(group)
        for p in group["params"]:
            if not (p.is_floating_point() or p.is_complex()):
                message = f"{type(self).__name__} updates floating-point and complex tensors, not {p.dtype}"
                raise ValueError(f"{message}; convert the parameter of shape {tuple(p.shape)} or leave it out")
        if self.needs_closure(group) and len(groups) > 1:
            name = type(self).__name__
            raise ValueError(f"{name} doesn't support per-parameter options (parameter groups); give it one group")
        for p in group["params"]:
            self._create_state(p, group, at_construction=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; keys that an older or torch's own state lacks take our defaults."""
        super().__setstate__(state)
        self._averaging = False
        for group in self.param_groups:
            for name, field in self.fields.items():
                group.setdefault(name, field.default)

    # -- state -------------------------------------------------------------------------------------------------------

    def _declared_state(self, group: Options) -> tuple[State, ...]:
        declared = (*self.rule_for(group).state, EMA)
        return tuple(s for s in declared if s.when(group))

    def _create_state(self, p: Tensor, group: Options, at_construction: bool = False) -> bool:
        """Make what state ``p`` lacks; return whether any was made."""
        state = self.state[p]
        made = False
        for declared in self._declared_state(group):
            wanted = declared.at_construction or not at_construction
            if wanted and state.get(declared.name) is None and declared.where(p):
                state[declared.name] = declared.create(p, group)
                made = True
        return made

    # -- stepping ----------------------------------------------------------------------------------------------------

    @property
    def executor(self) -> str:
        """What runs the first parameter group: ``reference``, ``foreach`` or ``driver``."""
        group = self.param_groups[0]
        return choose(self.rule_for(group), group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one update of every parameter that has a gradient.

        Args:
            closure: re-evaluates the model and returns the loss. Needed by rules that ask for new gradients.

        Returns:
            The closure's loss (of its first evaluation, if there are several), or None.
        """
        if self._averaging:
            raise RuntimeError("step() inside `with optimizer.averaged():` would train the averaged weights; leave it")
        if self.needs_closure(self.param_groups[0]):
            return self._step_driver(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with torch.set_grad_enabled(group.get("differentiable", False)):
                self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        run = EXECUTORS[choose(self.rule_for(group), group)]
        for batch, states in self._batches(group):
            new_scalars = run(batch)
            for name, value in new_scalars.items():
                for state in states:
                    state[name].fill_(value)

    def _batches(self, group: dict[str, Any]) -> Iterator[tuple[Batch, list[dict[str, Any]]]]:
        """The group's parameters with gradients, put together by everything that a batch must share."""
        numbers, static = self._values(group)
        counted = self._counts(group)
        batches: dict[Any, tuple[Batch, list[dict[str, Any]]]] = {}
        live = [p for p in group["params"] if p.grad is not None]
        self._refuse_sparse(live)
        first = {p: self._create_state(p, group) for p in live}
        clocks = self._advance(live, group, counted)
        for p, clock in zip(live, clocks, strict=True):
            key = (p.device, p.dtype, first[p], clock)
            if key not in batches:
                ran = self._program(group, {**static, "first": first[p]})
                own = dict(zip(counted, clock, strict=True))
                batches[key] = Batch(ran, numbers | own, state={s.name: [] for s in ran.tensors}), []
            batch, states = batches[key]
            batch.append(p, p.grad, self.state[p])
            states.append(self.state[p])
        yield from batches.values()

    def _refuse_sparse(self, params: list[Tensor]) -> None:
        if any(p.grad is not None and p.grad.is_sparse for p in params):
            name = type(self).__name__
            raise RuntimeError(f"{name} does not support sparse gradients; make them dense (sparse=False)")

    def _values(self, group: Options) -> tuple[dict[str, Any], dict[str, Any]]:
        """The group's run-time numbers, and its switches and words."""
        numbers: dict[str, Any] = {}
        static: dict[str, Any] = {}
        keep_tensors = group.get("capturable") or group.get("differentiable")
        for name, field in self.fields.items():
            value = group[name]
            if value is None or isinstance(value, (bool, str)):
                static[name] = value
            elif field.is_hyperparameter:
                for entry, number in field.unpack(value).items():
                    numbers[entry] = number if keep_tensors or not isinstance(number, Tensor) else number.item()
        return numbers, static

    def _counts(self, group: Options) -> dict[str, State]:
        """The state that counts or is one number per parameter, under the name that a rule sees (``t`` for the step)."""
        kinds = ("step", "scalar")
        declared = (s for s in self._declared_state(group) if s.kind in kinds)
        return {"t" if s.kind == "step" else s.name: s for s in declared}

    def _advance(self, live: list[Tensor], group: Options, counted: Mapping[str, State]) -> list[tuple[Any, ...]]:
        """Count one more step for every parameter, and read each parameter's numbers."""
        steps = [self.state[p][counted["t"].name] for p in live] if "t" in counted else []
        if steps:
            torch._foreach_add_(steps, 1)
        as_tensors = group.get("capturable") or group.get("differentiable")
        columns = [[self.state[p][s.name] for p in live] for s in counted.values()]
        read = columns if as_tensors else [[x.item() for x in column] for column in columns]
        return list(zip(*read, strict=True)) if read else [()] * len(live)

    def _program(self, group: Options, static: dict[str, Any]) -> Program:
        rule = self.rule_for(group)
        wanted = rule.names
        settled = tuple((name, value) for name, value in static.items() if name in wanted)
        return program(Structure(rule, self._declared_state(group), self._common_steps(rule, group), settled))

    @staticmethod
    def _common_steps(rule: Rule, group: Options) -> tuple[CommonStep, ...]:
        """The steps around the rule, innermost first: decay, then maximize outside it; averaging comes after all."""
        steps: list[CommonStep] = []
        if group.get("weight_decay") and "weight_decay" not in rule.names:
            steps.append(decoupled_decay if group.get("decoupled_weight_decay") else coupled_decay)
        if group.get("maximize"):
            steps.append(maximized)
        if group["ema_decay"] is not None:
            steps.append(averaged)
        return tuple(steps)

    def _step_driver(self, closure: Callable[[], Any] | None) -> Any:
        (group,) = self.param_groups
        rule = self.rule_for(group)
        if closure is None:
            message = f"{type(self).__name__} evaluates new points, so step() needs a closure that zeroes the gradients"
            raise RuntimeError(f"{message}, computes the loss, calls backward() and returns the loss")
        for p in group["params"]:
            self._create_state(p, group)
        held = {name: [self.state[p][name] for p in group["params"]] for name in rule.arguments}
        with torch.no_grad():
            loss = driver.run(rule, group, closure, held)
            self._average_only(group)
        return loss

    def _average_only(self, group: Options) -> None:
        if group["ema_decay"] is None:
            return
        numbers, _ = self._values(group)
        ran = program(Structure(_UNCHANGED, (EMA,), (averaged,), ()))
        for p in group["params"]:
            batch = Batch(ran, numbers, state={EMA.name: []})
            batch.append(p, p, self.state[p])
            EXECUTORS["reference"](batch)

    # -- averaging ---------------------------------------------------------------------------------------------------

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Use the averaged weights inside the block; the parameters' own values come back afterwards, come what may.

        Buffers are not averaged: BatchNorm's running statistics belong to the raw weights. Either measure with them as
        they are (with a decay close to 1 and late in training they are near), or re-estimate them inside the block with
        ``torch.optim.swa_utils.update_bn(loader, model)``, on a copy of the model if training goes on afterwards.

        Raises:
            RuntimeError: no group has an ``ema_decay``, or the block is entered twice.
        """
        if self._averaging:
            raise RuntimeError("already inside `with optimizer.averaged():`")
        if all(group["ema_decay"] is None for group in self.param_groups):
            name = type(self).__name__
            raise RuntimeError(f"no averaged weights are kept; construct {name}(params, ema_decay=0.999) to keep them")
        held = [(p, self.state[p]) for group in self.param_groups for p in group["params"]]
        self._averaging = True
        try:
            with swapped((p, state[EMA.name]) for p, state in held if EMA.name in state):
                yield
        finally:
            self._averaging = False


def _collect_fields(cls: type[Optimizer]) -> dict[str, Field]:
    """Positional fields: the parent's (a redeclared one keeps its place), then the class's own. Keyword-only ones: the
    class's own first, then the parent's, then the base's. So a class can have torch's order without repeating a field.
    """
    own: dict[str, Field] = {}
    keyword_only = False
    for name, annotation in cls.__dict__.get("__annotations__", {}).items():
        if annotation in ("KW_ONLY", KW_ONLY):
            keyword_only = True
        elif isinstance(declared := cls.__dict__.get(name), Field):
            own[name] = replace(declared, name=name, names=declared.names or (name,), keyword_only=keyword_only)
            delattr(cls, name)
    common = dict(Optimizer.fields) if "Optimizer" in globals() else {}
    inherited = {name: f for name, f in cls.fields.items() if name not in common}
    positional = {name: f for name, f in (inherited | own).items() if not f.keyword_only}
    named = {name: f for name, f in (own | (inherited | own)).items() if f.keyword_only}
    return positional | named | common


Optimizer.fields = _collect_fields(Optimizer)


def _constructor(fields: Mapping[str, Field]) -> Callable[..., None]:
    made = signature(fields)

    def __init__(self: Optimizer, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's own
        _refuse_unknown(type(self).__name__, fields, kwargs)
        bound = made.bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        del values["self"]
        params = values.pop("params")
        settled = {f.name: f.default for f in fields.values() if f.fixed}
        self._setup(params, values | settled)

    __init__.__signature__ = made  # type: ignore[attr-defined]
    return __init__


def _refuse_unknown(name: str, fields: Mapping[str, Field], given: Mapping[str, Any]) -> None:
    free = [f.name for f in fields.values() if not f.fixed]
    for argument in given:
        if argument not in (*free, "params"):
            close = difflib.get_close_matches(argument, free, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            allowed = f"it takes {', '.join(free)}"
            raise TypeError(f"{name}.__init__() got an unexpected keyword argument {argument!r}{hint} ({allowed})")


__all__ = ["Field", "Optimizer", "Rule", "State"]
