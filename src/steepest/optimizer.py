"""The shell around a rule: a real `torch.optim.Optimizer`, built from declared fields and declared state."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY
from functools import partial
from operator import is_
from types import MappingProxyType
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from . import checkpoint, clip, storage
from .average import EMA, averaged, ema_decay, holds_averages, swapped
from .clip import clip_factor, clipped, max_norm, norm_group, unscaled
from .codecs import Codec, stream_of
from .construction import collect_fields, constructor, refuse_unknown
from .decay import check_decay, decay_for, maximized
from .executors import compiled, driver, reference, sparse
from .executors.batch import Batch, real_view
from .executors.choose import COMPILED, beside_sparse, choose, refuse_two_executors, under_mode, without_native
from .executors.errors import UnsupportedError
from .executors.native.emit import Kernel
from .executors.native.part import kernel_like
from .fields import STORAGE_OPTIONS, Field, Options, State, fixed
from .modes import Mode, intercepting
from .partition import Choice, ExecutorName, Live, Part, Partition, in_waves
from .rule import PLANNED_KINDS, CommonStep, Program, Rule, Structure, assembled, program


def _unchanged(p: Any, g: Any) -> Any:
    return p


_UNCHANGED = Rule(_unchanged, "pointwise")
"""Runs the common steps alone: a driver has already moved the parameters."""


NOT_COPIED = {"_zero_grad_profile_name", "_ran", "_partitions", "_held", "_holder", "step"}
"""Attributes that pickle and deepcopy leave out beside torch's hooks: what is remembered from step to step, and what
schedules put around ``step``."""


def _stay_tensors(group: Options) -> bool:
    """Whether numbers that are tensors are not read: they are wanted on their device, or cannot be read."""
    if group.get("capturable") or group.get("differentiable") or torch.compiler.is_compiling():
        return True
    mode = intercepting()
    return mode is not None and mode.hides_values


def _break_graph() -> None:
    if torch.compiler.is_compiling():  # else dynamo would be imported, which takes a second
        torch._dynamo.graph_break()


@dataclass_transform(eq_default=False, field_specifiers=(fixed,))
class Declared:
    """Tells type checkers that a subclass's annotated fields are its constructor's arguments.

    A class of its own, since the fields of the decorated class itself do not count.
    """


class Optimizer(Declared, torch.optim.Optimizer):
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
        max_norm: largest norm of the gradient over all groups that set one; the gradients themselves stay as they are.
        norm_group: a `torch.distributed` process group, its name, or ``"WORLD"``: the norm is that of the gradients of
            all its ranks, for an optimizer that holds a part of the parameters (ZeroRedundancyOptimizer). Every rank
            must then step as often as the others.
        state_dtype: keep state like the parameter in fewer bytes: ``"bfloat16"`` or ``"int8"`` (or torch's dtypes).
            Tensors under 4,096 elements keep theirs as it is. `convert_state` changes it later.
        state_rounding: how coded state is rounded: ``"stochastic"`` or ``"nearest"``.
        parameter_rounding: how bfloat16 parameters keep updates smaller than their last bit: ``"stochastic"`` or
            ``"kahan"``; None rounds to nearest, as torch does.
        seed: of stochastic rounding's random bits.

    Raises:
        ValueError: a value out of bounds (torch's message, then what is allowed), no parameters, non-leaf or integer
            parameters, a parameter in two groups.
        TypeError: an argument that does not exist (with the close match), or not of its type.
    """

    fields: ClassVar[Mapping[str, Field]] = {}
    """The declared arguments, by name, in the constructor's order."""
    rule: ClassVar[Rule]
    """The update rule."""
    _number_names: ClassVar[set[str]] = set()
    takes_schedule: ClassVar[bool] = True
    """Whether a schedule of the learning rate makes sense: not for a rule that finds its step sizes itself."""

    params: ParamsT
    _: KW_ONLY
    ema_decay: float | None = ema_decay()
    max_norm: float | None = max_norm()
    norm_group: Any = norm_group()
    state_dtype: torch.dtype | str | None = storage.state_dtype()
    state_rounding: str = storage.state_rounding()
    parameter_rounding: str | None = storage.parameter_rounding()
    seed: int = storage.seed()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declared fields and give the class a constructor with their signature."""
        super().__init_subclass__(**kwargs)
        cls.fields = collect_fields(cls, Optimizer.fields)
        cls._number_names = {name for name, field in cls.fields.items() if field.is_number} - STORAGE_OPTIONS
        if "__init__" not in cls.__dict__:
            cls.__init__ = constructor(cls.fields)  # type: ignore[method-assign]

    @classmethod
    def rule_for(cls, options: Options) -> Rule:
        """The rule under a group's options; a class with two rules chooses here."""
        return cls.rule

    @classmethod
    def check(cls, options: Options) -> None:
        """Raise `ValueError` for options that do not go together. A class with some of its own extends this."""
        check_decay(options)

    @classmethod
    def check_parameter(cls, p: Tensor) -> None:
        """Raise `ValueError` for a parameter that the class cannot update. Overridden where there are such shapes."""

    @classmethod
    def needs_closure(cls, options: Options) -> bool:
        """Whether ``step`` needs a closure under these options, because the rule asks for new gradients."""
        return cls.rule_for(options).kind == "driver"

    # -- construction ------------------------------------------------------------------------------------------------

    @_disable_dynamo
    def _setup(self, params: ParamsT, given: dict[str, Any]) -> None:
        values = {name: field.default for name, field in self.fields.items()} | given
        for name, value in values.items():
            self.fields[name].validate(value)
        self._settle(values)
        self._forget()
        refuse_two_executors(values)
        self.check(values)
        super().__init__(params, values)
        for group in self.param_groups:
            self._choose(group)
        self._holder = clip.holder_of_parts(p for group in self.param_groups for p in group["params"])
        clip.norm_group_of(clip.clipping(self.param_groups), self._holder)

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

    def _settle(self, options: dict[str, Any]) -> None:
        """Put plain Python values in place of what stands for them; see `Field.settle`."""
        options.update({name: field.settle(options[name]) for name, field in self.fields.items() if name in options})

    def _finish_group(self, group: dict[str, Any], groups: list[dict[str, Any]]) -> None:
        self._settle(group)
        self.check(group)
        for p in group["params"]:
            if not (p.is_floating_point() or p.is_complex()):
                message = f"{type(self).__name__} updates floating-point and complex tensors, not {p.dtype}"
                raise ValueError(f"{message}; convert the parameter of shape {tuple(p.shape)} or leave it out")
            self.check_parameter(p)
        if self.needs_closure(group) and len(groups) > 1:
            name = type(self).__name__
            raise ValueError(f"{name} doesn't support per-parameter options (parameter groups); give it one group")
        if self.needs_closure(group) and group["max_norm"] is not None:
            name = type(self).__name__
            raise ValueError(f"{name} searches along the gradient itself, so max_norm cannot clip it; leave it None")
        self._check_storage(group)
        if self.rule_for(group).sparse == "lazy":
            sparse.check_lazy(type(self).__name__, self.rule_for(group), groups)
        for p in group["params"]:
            self._create_state(p, group, at_construction=True)

    def _check_storage(self, group: Options) -> None:
        rule = self.rule_for(group)
        storage.check(type(self).__name__, rule, self.declared_state(group), self.fields, group)

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and deepcopy keep: as in torch no hooks, but, unlike torch, every attribute of others.

        Wrappers that copy ``__dict__`` keep the optimizer that they wrap in an attribute of their own.
        """
        kept = vars(self).items()
        return {name: value for name, value in kept if not (name.startswith("_optimizer_") or name in NOT_COPIED)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore; options that an older pickle lacks take their defaults."""
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            for name, field in self.fields.items():
                group.setdefault(name, field.default)
                if field.fixed:
                    group[name] = field.default
            for p in (p for p in group["params"] if p in self.state):
                storage.unseal(self.state[p], p)
                storage.restore_counters(self.rule_for(group), self.state.get(p, {}), p, group)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state and options, as in torch. Coded state is there as it is kept, in plain tensors; a NaN
        under its plain name makes torch's own classes fail when they step on it.
        """
        mark = self.register_state_dict_post_hook(checkpoint.marked, prepend=True)  # before anybody else's
        try:
            return super().state_dict()
        finally:
            mark.remove()

    def plain_state_dict(self) -> dict[str, Any]:
        """The state dict of the same optimizer without codecs, which torch's class of the same name loads."""
        return checkpoint.plain(self, super().state_dict())

    def load_state_dict(
        self, state_dict: dict[str, Any], *, strict_names: bool = False, keep_dtype: bool = False
    ) -> None:
        """Load a state dict, of ours or of torch's class of the same name; its tensors are copied, never shared.

        State finds its parameter by name where both sides have names (``named_parameters()``) and the same ones, in
        whatever order and groups; else by position, as in torch. How parameters and state are kept stays as it is
        here: what the dict holds in another form is converted. Options that the dict lacks keep their values.

        Args:
            state_dict: what ``state_dict()`` gave.
            strict_names: raise unless both sides have the same names.
            keep_dtype: keep the saved state's dtype; torch, and False, cast it to the parameter's.

        Raises:
            ValueError: names (if asked for), shapes, or the numbers of groups and parameters differ.
        """

        def fit(_: Any, given: dict[str, Any]) -> dict[str, Any]:
            return checkpoint.fitted(self, given, strict_names, keep_dtype)

        hook = self.register_load_state_dict_pre_hook(fit)  # after everybody else's
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def _forget(self) -> None:
        self._holder = ""
        self._ran: dict[int, tuple[Any, Choice]] = {}
        self._forget_partitions()

    def _forget_partitions(self) -> None:
        self._partitions: dict[int, Partition] = {}
        self._held: list[dict[str, Any]] = []

    # -- state -------------------------------------------------------------------------------------------------------

    def declared_state(self, group: Options, p: Tensor | None = None) -> tuple[State, ...]:
        """The state that exists under a group's options, for ``p`` or any parameter: the rule's, then the average's."""
        declared = (*self.rule_for(group).state, EMA)
        return tuple(s for s in declared if s.when(group) and (p is None or s.where(p)))

    def codecs(self, group: Options, p: Tensor) -> dict[str, Codec]:
        """How ``p`` and its state are kept, where they are not plain; whether or not the state exists."""
        return storage.coding((*self.rule_for(group).state, EMA), group, p)

    def _create_state(self, p: Tensor, group: Options, at_construction: bool = False) -> bool:
        """Make what state ``p`` lacks; return whether any of the rule's own was made (an average may join later)."""
        held, codecs = self.state.get(p, {}), self.codecs(group, p)
        storage.restore_counters(self.rule_for(group), self.state.get(p, {}), p, group)
        declared_state = self.declared_state(group, p)
        lacking = [
            declared
            for declared in (*storage.counts(declared_state, codecs), *declared_state)
            if (declared.at_construction or not at_construction)
            and declared.kind != "shared"
            and storage.is_lacking(declared, codecs.get(declared.name), held)
        ]
        for declared in lacking:
            self.state[p].update(storage.create(declared, codecs.get(declared.name), p, group))
        if not at_construction:
            storage.create_compensation(self.state, p, codecs)
        return any(declared in self.rule_for(group).state for declared in lacking)

    def convert_state(self, **options: Any) -> None:
        """Keep parameters and state in another form from now on, and convert what there is.

        Values are rounded to nearest, once; what is kept in the new form already stays as it is, bit by bit.

        Example:
            >>> from steepest import AdamW
            >>> w = torch.nn.Parameter(torch.zeros(64, 64))
            >>> optimizer = AdamW([w], state_dtype="int8")
            >>> optimizer.convert_state(state_dtype=None)

        Args:
            options: new values of ``state_dtype``, ``state_rounding``, ``parameter_rounding`` and ``seed``, for all
                groups.
        """
        refuse_unknown("convert_state", {name: self.fields[name] for name in sorted(STORAGE_OPTIONS)}, options)
        changed = [{**group, **options} for group in self.param_groups]
        for group in changed:
            self._validate_options(group)
            self._settle(group)
            self.check(group)
            self._check_storage(group)
        for group, new in zip(self.param_groups, changed, strict=True):
            group.update({name: new[name] for name in STORAGE_OPTIONS})
            for p in (p for p in group["params"] if p in self.state):
                self.state[p] = checkpoint.converted(self, self.state[p], p, group, self.codecs(group, p))
        self._forget_partitions()

    # -- stepping ----------------------------------------------------------------------------------------------------

    @property
    def executor(self) -> ExecutorName:
        """What runs the first parameter group: ``native``, ``foreach``, ``reference``, ``driver``, ``sparse``, ...

        A string, with the reason why it is not a faster one as its attribute ``reason`` and in its repr.
        """
        group = self.param_groups[0]
        ran = self._ran.get(id(group))
        if ran is not None and ran[0] == self.structure(group, self.values(group)[1]):
            return ExecutorName.of(ran[1])
        return ExecutorName.of(self._choose(group))

    def _choose(self, group: Options) -> Choice:
        return choose(self.rule_for(group), group, type(self).__name__, self.fields)

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
        if rule.kind not in PLANNED_KINDS or rule.sparse == "lazy":
            kind = rule.sparse or rule.kind
            raise RuntimeError(f"{rule.fn.__name__} is a {kind} rule, which the native executor does not run")
        p = group["params"][0]
        return kernel_like(self.program(group, static, p=p), tuple(numbers), p, bool(group.get("fused")))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform one update of every parameter that has a gradient.

        Args:
            closure: re-evaluates the model and returns the loss. Needed by rules that ask for new gradients.

        Returns:
            The closure's loss (of its first evaluation, if there are several), or None.
        """
        before = torch.is_grad_enabled()
        try:
            # Under torch.compile the two breaks, as around torch's own steps, make what is between them a graph that
            # has gradients off from its start; otherwise the compiler keeps twice every parameter that is written.
            torch.set_grad_enabled(False)
            _break_graph()
            return self._step(closure)
        except BaseException:
            self._forget_scale()
            raise
        finally:
            _break_graph()
            torch.set_grad_enabled(before)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        if torch.compiler.is_compiling() and compiled.can_trace(self):
            return self._step_now(closure)
        return self._step_uncompiled(closure)

    # Where the compiler has given up on a frame, it would still trace the functions that the frame calls, one by one:
    # a kernel's preparation in pieces, on fake tensors. So all that is no graph is out of its sight.
    @_disable_dynamo
    def _step_uncompiled(self, closure: Callable[[], Any] | None) -> Any:
        return self._step_now(closure)

    def _step_now(self, closure: Callable[[], Any] | None) -> Any:
        if holds_averages(self.param_groups):
            raise RuntimeError("step() inside `with optimizer.averaged():` would train the averaged weights; leave it")
        if self.needs_closure(self.param_groups[0]):
            return self._step_driver(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self._found_inf():
            self._step_groups()
        return loss

    def _step_groups(self) -> None:
        shared = self._gradient_numbers()
        if torch.compiler.is_compiling():
            compiled.step(self, shared)
            return
        self._forget_stale_partitions()
        mode = intercepting()
        for group in self.param_groups:
            with torch.set_grad_enabled(group.get("differentiable", False)):
                self._step_group(group, shared, mode)

    def _init_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Append the parameters of ``group`` that have gradients. dynamo runs this outside of its graph.

        The state of all groups is made at once: dynamo reads the state of all when it meets the first group.
        """
        for each in self.param_groups:
            for p in each["params"]:
                if p.grad is not None:
                    self._create_state(p, each)
        params += [p for p in group["params"] if p.grad is not None]
        self._partitions.pop(id(group), None)
        self._ran[id(group)] = self.structure(group, self.values(group)[1]), COMPILED

    # What torch.amp.GradScaler asks for and sets: `grad_scale` (None once unscaled) and `found_inf`, during a step.

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether the step unscales: as in torch where ``fused=True`` was asked for; else GradScaler does it before."""
        return all(group.get("fused") for group in self.param_groups)

    def _grad_scale(self) -> Any:
        return getattr(self, "grad_scale", None)

    def _forget_scale(self) -> None:
        """After a step that raised, the scaler does not take its numbers back: they would spoil the next plain step."""
        vars(self).pop("grad_scale", None)
        vars(self).pop("found_inf", None)

    def _found_inf(self) -> bool:
        found = getattr(self, "found_inf", None)
        return found is not None and bool(found)

    def _gradient_numbers(self) -> dict[str, Any]:
        """What is the same for all groups: the scale of the gradients, and their norm if any group clips by it."""
        scale = self._grad_scale()
        numbers = {} if scale is None else {"grad_scale": scale}
        clipping = clip.clipping(self.param_groups)
        for group in clipping:
            self._check_layouts(group, [p for p in group["params"] if p.grad is not None])
        with torch.set_grad_enabled(any(group.get("differentiable") for group in clipping)):
            norm = clip.shared_norm(clipping, 1 if scale is None else scale, self._holder)
        return numbers if norm is None else {**numbers, "norm": norm}

    def _forget_stale_partitions(self) -> None:
        """Forget what was remembered once anybody has put other state in place (load_state_dict, a reset)."""
        if len(self.state) != len(self._held) or not all(map(is_, self.state.values(), self._held)):
            self._partitions, self._held = {}, list(self.state.values())

    def _step_group(self, group: dict[str, Any], shared: Mapping[str, Any], mode: Mode | None) -> None:
        grads = [g for p in group["params"] if (g := p.grad) is not None]
        if grads:
            if grads[0].is_cuda and "capturable" in group:
                self._accelerator_graph_capture_health_check()
            numbers, static = self.values(group, shared)
            storage.check_decays(self.fields, group)
            for part in self._parts(group, grads, static, tuple(numbers), mode):
                part.step(numbers)

    def _parts(
        self,
        group: dict[str, Any],
        grads: list[Tensor],
        static: dict[str, Any],
        numbers: tuple[str, ...],
        mode: Mode | None,
    ) -> list[Part]:
        """The group's parts: those of the last step, as long as nothing that they were made from has changed.

        Under a ``mode`` that intercepts operations only parts that it can see are run, and none are remembered.
        """
        live: list[Tensor] = group["params"]
        if len(grads) < len(live):
            live = [p for p in live if p.grad is not None]
        structure = self.structure(group, static)
        known = self._partitions.get(id(group))
        if known is None or not known.ready(live, grads, structure, mode):
            self._check_layouts(group, live)
            self._settle(group)
            self._check_storage(group)
            first = [self._create_state(p, group) for p in live]
            known = self._partition(group, list(live), first, structure, numbers, mode)
            self._ran[id(group)] = structure, known.choice
            if any(first) or mode or static.get("capturable") or static.get("differentiable"):
                self._partitions.pop(id(group), None)
            else:
                self._partitions[id(group)] = known
        return known.parts

    def structure(self, group: Options, static: Mapping[str, Any]) -> tuple[Any, ...]:
        """All that shapes a group's programs, with its switches and words ``static``."""
        rule = self.rule_for(group)
        steps = self._common_steps(rule, group)
        return rule, self.declared_state(group), steps, static

    def _partition(
        self,
        group: dict[str, Any],
        live: list[Tensor],
        first: list[bool],
        structure: tuple[Any, ...],
        numbers: tuple[str, ...],
        mode: Mode | None,
    ) -> Partition:
        rule, _, _, static = structure
        states = [self.state.get(p, {}) for p in live]
        make = partial(self.program, group, static)
        joined = Live(live, states, first, self._streams(group, live), make, numbers)
        choice = self._choose(group)
        choice = beside_sparse(under_mode(choice, rule, group, mode) if mode else choice, joined)
        try:
            return Partition(live, structure, choice, list(in_waves(joined, cut=choice.cut)))
        except UnsupportedError as refusal:
            choice = beside_sparse(without_native(rule, group, refusal), joined)
            return Partition(live, structure, choice, list(in_waves(joined, cut=choice.cut)))

    def _streams(self, group: Options, live: list[Tensor]) -> list[int]:
        """The streams of random bits of parameters: of the seed, and of their places among all parameters."""
        if not (group["state_dtype"] or group["parameter_rounding"]):
            return [0] * len(live)
        params = (p for each in self.param_groups for p in each["params"])
        places = {id(p): place for place, p in enumerate(params)}
        return [stream_of(group["seed"], places[id(p)]) for p in live]

    def program(
        self, group: Options, static: Mapping[str, Any], first: bool = False, p: Tensor | None = None
    ) -> Program:
        """What a group runs under its switches and words ``static``, at or after the first step of its parameters.

        Args:
            group: the group.
            static: its switches and words.
            first: whether the parameter's state has just been made.
            p: the parameter, whose shape and dtype decide which state it has and how that is kept; None for a program
                on plain values that has all state there is.

        Raises:
            RuntimeError: the parameter is complex and the rule is for real numbers, in torch's words.
        """
        rule = self.rule_for(group)
        if rule.is_real and p is not None and p.is_complex():
            raise RuntimeError(f"{type(self).__name__} does not support complex parameters; give them to another class")
        eps = torch.finfo(torch.get_default_dtype() if p is None else p.dtype).eps
        settled = {**static, "first": first, "machine_eps": eps, "precision": rule.precision}
        named = tuple((name, settled[name]) for name in settled if name in rule.names)
        declared = self.declared_state(group, p)
        codecs = {} if p is None else storage.coding(declared, group, p)
        state = (*storage.counts(declared, codecs), *declared)
        make = assembled if torch.compiler.is_compiling() else program
        return make(Structure(rule, state, self._common_steps(rule, group), named, tuple(codecs.items())))

    def _check_layouts(self, group: Options, live: list[Tensor]) -> None:
        sparse.check(type(self).__name__, self.rule_for(group), group, live)

    def values(
        self, group: Options, shared: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The group's run-time numbers, and its switches and words; ``shared`` is what a step has for all groups."""
        numbers: dict[str, Any] = {}
        static: dict[str, Any] = {}
        for name, field in self.fields.items():
            value = group[name]
            kind = type(value)
            if name not in self._number_names:
                static[name] = value if kind is bool or kind is str or value is None else field.settle(value)
            elif kind is float or kind is int:
                numbers[name] = value
            elif value is None:
                static[name] = value
            else:
                for entry, v in field.unpack(field.settle(value)).items():
                    (static if v is None else numbers)[entry] = v
        if "grad_scale" in shared:
            numbers["grad_scale"] = shared["grad_scale"]
        if group["max_norm"] is not None:
            numbers["clip"] = clip_factor(group["max_norm"], shared["norm"]) if "norm" in shared else 1.0
        if any(isinstance(v, Tensor) for v in numbers.values()):
            read = Tensor.squeeze if _stay_tensors(group) else Tensor.item
            numbers = {n: read(v) if isinstance(v, Tensor) else v for n, v in numbers.items()}
        return numbers, static

    def _common_steps(self, rule: Rule, group: Options) -> tuple[CommonStep, ...]:
        """The steps around the rule, innermost first: decay, clipping, maximize, unscaling; averaging after all."""
        steps: list[CommonStep] = []
        decay = "weight_decay" in self.fields and group["weight_decay"]  # a key that is no field does nothing
        if (isinstance(decay, Tensor) or decay) and "weight_decay" not in rule.names:
            steps.append(decay_for(group))
        if group["max_norm"] is not None:
            steps.append(clipped)
        if "maximize" in self.fields and group["maximize"]:
            steps.append(maximized)
        if self._grad_scale() is not None:
            steps.append(unscaled)
        if group["ema_decay"] is not None:
            steps.append(averaged)
        return tuple(steps)

    @_disable_dynamo
    def _step_driver(self, closure: Callable[[], Any] | None) -> Any:
        (group,) = self.param_groups
        if closure is None:
            name = type(self).__name__
            missing = f"{name}.step() missing 1 required positional argument: 'closure'"
            needed = "a closure that zeroes the gradients, computes the loss, calls backward() and returns the loss"
            raise TypeError(f"{missing}; {name} evaluates new points, so step() needs {needed}")
        self._settle(group)
        for name, field in self.fields.items():
            field.validate(group[name])
        self._check_storage(group)
        for p in group["params"]:
            self._create_state(p, group)
        numbers, static = self.values(group)
        with torch.no_grad():
            loss = driver.run(self.rule_for(group), group["params"], {**static, **numbers}, closure, self.state)
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

        ``model.state_dict()`` holds the parameters themselves, so it changes back as they do: save it inside the block,
        or take `averaged_state_dict`.

        Raises:
            RuntimeError: no group has an ``ema_decay``, or the block is entered twice.
        """
        if holds_averages(self.param_groups):
            raise RuntimeError("already inside `with optimizer.averaged():`")
        if all(group["ema_decay"] is None for group in self.param_groups):
            name = type(self).__name__
            raise RuntimeError(f"no averaged weights are kept; construct {name}(params, ema_decay=0.999) to keep them")
        held = [(p, self.state.get(p, {})) for group in self.param_groups for p in group["params"]]
        averages = ((p, storage.read(EMA, state)) for p, state in held)
        with swapped((p, average) for p, average in averages if average is not None):
            yield

    def averaged_state_dict(self, model: torch.nn.Module) -> dict[str, Any]:
        """The state dict of ``model`` with averaged weights, to be saved: its tensors are copies.

        ``model.state_dict()`` holds the parameters themselves, not copies: taken inside `averaged` and saved after the
        block, it saves the trained weights.

        Raises:
            RuntimeError: no group has an ``ema_decay``.
        """
        with self.averaged():
            saved: dict[str, Any] = model.state_dict()
            for name, value in saved.items():
                saved[name] = value.detach().clone() if isinstance(value, Tensor) else value
        return saved


Optimizer.fields = collect_fields(Optimizer, {})

__all__ = ["Field", "Optimizer", "Rule", "State"]
