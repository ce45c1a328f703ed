"""The shell around a rule: a real `torch.optim.Optimizer`, built from declared fields and declared state."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from .average import EMA, averaged, ema_decay, swapped
from .decay import coupled_decay, decoupled_decay, maximized
from .executors import driver, reference
from .executors.batch import Batch, real_view
from .executors.choose import PLANNED_KINDS, choose, without_native
from .executors.errors import UnsupportedError
from .executors.native.emit import Kernel
from .executors.native.part import kernel_like
from .fields import Field, Options, State, signature
from .partition import IS_SPARSE, ExecutorName, Part, Partition, token_of
from .rule import CommonStep, Program, Rule, Structure, program


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

    def _setup(self, params: ParamsT, given: dict[str, Any]) -> None:
        values = {name: field.default for name, field in self.fields.items()} | given
        for name, value in values.items():
            self.fields[name].validate(value)
        self._forget()
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
        """Check a group's own options. Foreign keys are allowed, as in torch, unless one looks like a typing error."""
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
        self._forget()
        for group in self.param_groups:
            for name, field in self.fields.items():
                group.setdefault(name, field.default)
                if field.fixed:
                    group[name] = field.default
            self._restore_counters(group)

    def _restore_counters(self, group: Options) -> None:
        """Make tensors of step counts and scalars that are plain numbers (`load_state_dict`, torch's older files)."""
        for declared in self.rule_for(group).state:
            for held in (self.state[p] for p in group["params"] if p in self.state):
                value = held.get(declared.name)
                if declared.kind in ("step", "scalar") and isinstance(value, (int, float)):
                    held[declared.name] = replace(declared, init=float(value)).create(group["params"][0], group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict, of ours or of torch's class of the same name; its tensors are copied, never shared."""
        own = {"state": copy.deepcopy(state_dict["state"])} if "state" in state_dict else {}
        rules = [self.rule_for(group) for group in self.param_groups]
        scalars = {s.name for rule in rules for s in rule.state if s.kind == "scalar"}
        for held in own.get("state", {}).values():
            # torch casts every tensor but "step" to the parameter's dtype; a number passes as it is.
            held.update({name: held[name].item() for name in scalars & held.keys() if isinstance(held[name], Tensor)})
        super().load_state_dict({**state_dict, **own})

    def _forget(self) -> None:
        self._averaging = False
        self._partitions: dict[int, Partition] = {}
        self._held: list[int] = []

    # -- state -------------------------------------------------------------------------------------------------------

    def declared_state(self, group: Options) -> tuple[State, ...]:
        """The state that exists under a group's options: the rule's, then the average's."""
        declared = (*self.rule_for(group).state, EMA)
        return tuple(s for s in declared if s.when(group))

    def _create_state(self, p: Tensor, group: Options, at_construction: bool = False) -> bool:
        """Make what state ``p`` lacks; return whether any of the rule's own was made (an average may join later)."""
        held = self.state.get(p, {})
        lacking = [
            declared
            for declared in self.declared_state(group)
            if (declared.at_construction or not at_construction)
            and held.get(declared.name) is None
            and declared.where(p)
        ]
        for declared in lacking:
            self.state[p][declared.name] = declared.create(p, group)
        return any(declared is not EMA for declared in lacking)

    # -- stepping ----------------------------------------------------------------------------------------------------

    @property
    def executor(self) -> ExecutorName:
        """What runs the first parameter group: ``native``, ``foreach``, ``reference`` or ``driver``.

        A string, with the reason why it is not a faster one as its attribute ``reason`` and in its repr.
        """
        group = self.param_groups[0]
        rule = self.rule_for(group)
        known = self._partitions.get(id(group))
        is_known = known is not None and known.token[1] == self._structure(group, self.values(group)[1])
        return ExecutorName.of(known.choice if is_known and known is not None else choose(rule, group))

    def explain(self) -> str:
        """Print, and return, the C that the native executor runs for each parameter group.

        Raises:
            RuntimeError: the native executor cannot run the rule.
        """
        kernels = dict.fromkeys(map(self._kernel, self.param_groups))
        text = "\n".join(kernel.generated for kernel in kernels)
        print(text)
        return text

    def _kernel(self, group: dict[str, Any]) -> Kernel:
        numbers, static = self.values(group)
        rule = self.rule_for(group)
        if rule.kind not in PLANNED_KINDS:
            raise RuntimeError(f"{rule.fn.__name__} is a {rule.kind} rule, which the native executor does not run")
        return kernel_like(self.program(group, static), tuple(numbers), group["params"][0])

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
        self._forget_stale_partitions()
        for group in self.param_groups:
            with torch.set_grad_enabled(group.get("differentiable", False)):
                self._step_group(group)
        return loss

    def _forget_stale_partitions(self) -> None:
        """Forget what was remembered once anybody has put other state in place (load_state_dict, a reset)."""
        held = list(map(id, self.state.values()))
        if held != self._held:
            self._partitions, self._held = {}, held

    def _step_group(self, group: dict[str, Any]) -> None:
        live = [p for p in group["params"] if p.grad is not None]
        if live:
            numbers, static = self.values(group)
            for part in self._parts(group, live, static, tuple(numbers)):
                part.step(numbers)

    def _parts(
        self, group: dict[str, Any], live: list[Tensor], static: dict[str, Any], numbers: tuple[str, ...]
    ) -> list[Part]:
        """The group's parts: those of the last step, as long as nothing that they were made from has changed."""
        token = token_of(live, self._structure(group, static))
        known = self._partitions.get(id(group))
        if known is None or not known.ready(token):
            self._refuse_sparse(live)
            first = [self._create_state(p, group) for p in live]
            known = self._partition(group, live, first, static, numbers, token)
            if any(first) or static.get("capturable") or static.get("differentiable"):
                self._partitions.pop(id(group), None)
            else:
                self._partitions[id(group)] = known
        return known.parts

    def _structure(self, group: Options, static: Mapping[str, Any]) -> tuple[Any, ...]:
        rule = self.rule_for(group)
        steps = self._common_steps(rule, group)
        return rule, self.declared_state(group), steps, static, torch.compiler.is_compiling()

    def _partition(
        self,
        group: dict[str, Any],
        live: list[Tensor],
        first: list[bool],
        static: dict[str, Any],
        numbers: tuple[str, ...],
        token: tuple[Any, ...],
    ) -> Partition:
        rule = self.rule_for(group)
        states = [self.state.get(p, {}) for p in live]
        arguments = live, states, first, lambda is_first: self.program(group, static, is_first), numbers
        choice = choose(rule, group)
        try:
            return Partition(token, choice, list(choice.cut(*arguments)))
        except UnsupportedError as refusal:
            choice = without_native(rule, group, refusal)
            return Partition(token, choice, list(choice.cut(*arguments)))

    def program(self, group: Options, static: Mapping[str, Any], first: bool = False) -> Program:
        """What a group runs under its switches and words ``static``, at or after the first step of its parameters."""
        rule = self.rule_for(group)
        settled = {**static, "first": first}
        named = tuple((name, settled[name]) for name in settled if name in rule.names)
        return program(Structure(rule, self.declared_state(group), self._common_steps(rule, group), named))

    def _refuse_sparse(self, params: list[Tensor]) -> None:
        if any(map(IS_SPARSE, params)):
            name = type(self).__name__
            raise RuntimeError(f"{name} does not support sparse gradients; make them dense (sparse=False)")

    def values(self, group: Options) -> tuple[dict[str, Any], dict[str, Any]]:
        """The group's run-time numbers, and its switches and words."""
        numbers: dict[str, Any] = {}
        static: dict[str, Any] = {}
        for name, field in self.fields.items():
            value = group[name]
            kind = type(value)
            if kind is float or kind is int:
                numbers[name] = value
            elif value is None or kind is bool or kind is str:
                static[name] = value
            else:
                numbers.update(field.unpack(value))
        if not (group.get("capturable") or group.get("differentiable")):
            numbers = {n: v.item() if isinstance(v, Tensor) else v for n, v in numbers.items()}
        return numbers, static

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
        numbers, _ = self.values(group)
        ran = program(Structure(_UNCHANGED, (EMA,), (averaged,), ()))
        for p in group["params"]:
            x, average = real_view(p), real_view(self.state[p][EMA.name])
            reference.run(Batch(ran, numbers, [x], [x], {EMA.name: [average]}))

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
        held = [(p, self.state.get(p, {})) for group in self.param_groups for p in group["params"]]
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
    for name, annotation in inspect.get_annotations(cls).items():
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
        self._setup(params, values)

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
