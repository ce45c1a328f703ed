"""The shell around a rule: a real `torch.optim.Optimizer`, built from declared fields and declared state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from . import checkpoint, storage
from .common import CommonOptions
from .construction import check_group, collect_fields, constructor, refuse_unknown, validate_group, validated
from .executors import compiled, driver, sparse
from .executors.base import ExecutorName
from .executors.choose import choose, refuse_two_executors
from .executors.dispatch import NORMS, Dispatch, Step, clipping_groups, shared_numbers, source
from .executors.shards import in_parts
from .executors.shared import Renewal, refuse_parts, start
from .fields import STORAGE_OPTIONS, Field, Options, State, aliases, complete, settle
from .group import GroupSpec, declared_by, specs_of, values
from .modes import intercepting
from .rule import Rule
from .sums import holder_of_parts, norm_group_of
from .transforms.average import Averaging
from .transforms.qk_clip import AttentionClipping
from .transforms.skip import GRADIENTS, Skipping, skipping_groups
from .transforms.unscale import GradScaling

NOT_COPIED = {"_zero_grad_profile_name", "_dispatch", "_holder", "step"}
"""Attributes that pickle and deepcopy leave out in addition to torch's hooks: what is remembered from step to step, and
what schedules put around ``step``."""


def _break_graph() -> None:
    if torch.compiler.is_compiling():  # else dynamo would be imported, which takes a second
        torch._dynamo.graph_break()


class Optimizer(CommonOptions, AttentionClipping, Averaging, GradScaling, Skipping, torch.optim.Optimizer):
    """Base of all optimizers. A subclass declares only its arguments, as fields, and its rule.

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

    Every optimizer also takes the keyword arguments of `steepest.common.CommonOptions`.

    Raises:
        ValueError: a value out of bounds (torch's message, then what is allowed), no parameters, non-leaf or integer
            parameters, a parameter in two groups.
        TypeError: an argument that does not exist (with the close match), or a value of another type.
    """

    rule: ClassVar[Rule]
    """The update rule."""
    has_one_rule: ClassVar[bool] = True
    """True unless a subclass overrides `rule_for`."""
    aliases: ClassVar[Mapping[str, Options]] = aliases()
    """Other names of the class, each with the options that it stands for. Subclasses do not inherit them."""
    takes_schedule: ClassVar[bool] = True
    """True where a schedule of the learning rate makes sense: not for a rule that finds its step sizes itself."""
    usual_schedule: ClassVar[str] = ""
    """The schedule that studies give the class; empty for the study's own. An optimizer's brackets may name another."""
    takes_estimates: ClassVar[bool] = False
    """True for a class that is fed with more than gradients between its steps, by its method ``update_hessian``."""

    params: ParamsT

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect the declared fields and give the class a constructor with their signature."""
        super().__init_subclass__(**kwargs)
        cls.fields = collect_fields(cls, Optimizer.fields)
        if "p" not in inspect.signature(cls.rule_for).parameters:
            raise TypeError(f"{cls.__name__}.rule_for must take (options, p=None); p is the parameter, or None")
        cls.has_one_rule = cls.rule_for.__func__ is Optimizer.rule_for.__func__  # type: ignore[attr-defined]
        rule = getattr(cls, "rule", None)
        if rule is not None and rule.shared is not None and (taken := rule.shared.kept.keys() & cls.fields.keys()):
            raise TypeError(f"{cls.__name__} shares a number {min(taken)!r}, which is the name of an option; rename it")
        if "__init__" not in cls.__dict__:
            twin = getattr(torch.optim, cls.__name__, None)
            cls.__init__ = constructor(cls.fields, twin)  # type: ignore[method-assign]

    @classmethod
    def rule_for(cls, options: Options, p: Tensor | None = None) -> Rule:
        """Return the rule of a parameter under its group's options; a class with several rules chooses here.

        The choice may depend on the parameter's shape and dtype, and on every option but the learning rate. Without a
        parameter the rule is that of a typical one.
        """
        return cls.rule

    @classmethod
    def check(cls, options: Options) -> None:
        """Raise `ValueError` for options that do not go together. A class with checks of its own extends this."""

    @classmethod
    def check_parameter(cls, p: Tensor) -> None:
        """Raise `ValueError` for a parameter that the class cannot update.

        A class that cannot update some shapes overrides this.
        """

    @classmethod
    def params_of(cls, model: torch.nn.Module, options: Options) -> ParamsT:
        """Return what the constructor takes for a whole model: its named parameters, unless a class divides them."""
        named = list(model.named_parameters())
        if not named:
            raise ValueError(f"this {type(model).__name__} has no parameters; build its layers before the optimizer")
        return named

    @classmethod
    def over(cls, trained: torch.nn.Module | ParamsT, **options: Any) -> Self:
        """Return an optimizer of a model, or of parameters and groups as in torch, under ``options``."""
        return cls(cls.params_of(trained, options) if isinstance(trained, torch.nn.Module) else trained, **options)

    @classmethod
    def needs_closure(cls, options: Options) -> bool:
        """Return whether ``step`` needs a closure under these options, because the rule asks for new gradients."""
        return cls.rule_for(options).kind == "driver"

    @classmethod
    def needs_loss(cls, options: Options) -> bool:
        """Return whether ``step`` needs the loss under these options: as ``loss``, or from a closure."""
        shared = cls.rule_for(options).shared
        return shared is not None and shared.needs_loss

    # -- construction ------------------------------------------------------------------------------------------------

    @_disable_dynamo
    def _setup(self, params: ParamsT, given: dict[str, Any]) -> None:
        values = validated(self.fields, given)
        self._settle(values)
        self._forget()
        refuse_two_executors(values)
        self.check(values)
        torch.optim.Optimizer.__init__(self, params, values)
        for group in self.param_groups:
            for spec in self._specs(group).values():
                choose(in_parts(spec))
        self._holder = holder_of_parts(p for group in self.param_groups for p in group["params"])
        norm_group_of(clipping_groups(self.param_groups), NORMS, self._holder)
        norm_group_of(skipping_groups(self.param_groups), GRADIENTS, self._holder)
        for group in self.param_groups:
            refuse_parts(group, self._specs(group), self._holder)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as in torch; its own options are checked like the constructor's."""
        if isinstance(param_group, dict):
            validate_group(self.fields, param_group)
        before = len(self.param_groups)
        super().add_param_group(param_group)
        try:
            self._finish_group(self.param_groups[-1], self.param_groups)
        except BaseException:
            del self.param_groups[before:]
            raise

    def _settle(self, options: dict[str, Any]) -> None:
        settle(self.fields, options)

    def _finish_group(self, group: dict[str, Any], groups: list[dict[str, Any]]) -> None:
        complete(self.fields, group)
        self._settle(group)
        self.check(group)
        check_group(type(self).__name__, group, len(groups), self.needs_closure(group))
        for p in group["params"]:
            self.check_parameter(p)
        specs = self._specs(group)
        for spec in specs.values():
            spec.check()
            if spec.rule.sparse == "lazy":
                sparse.check_lazy([GroupSpec.of(type(self), each) for each in groups])
        start(group, specs, groups)
        for p in group["params"]:
            specs[self.rule_for(group, p)].create_state(self.state, p, at_construction=True)

    def _specs(self, group: Options) -> dict[Rule, GroupSpec]:
        """Return the specification of each rule that the group's parameters have."""
        return specs_of(type(self), group, group["params"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that pickle and deepcopy keep.

        As in torch, hooks are left out. Unlike in torch, every attribute that others set is kept: wrappers that copy
        ``__dict__`` keep the wrapped optimizer in an attribute of their own.
        """
        kept = vars(self).items()
        return {name: value for name, value in kept if not (name.startswith("_optimizer_") or name in NOT_COPIED)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes. Options that an older pickle lacks take their defaults."""
        super().__setstate__(state)
        self._forget()
        checkpoint.restore(type(self), self.param_groups, self.state)
        for group in self.param_groups:
            start(group, self._specs(group), self.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and options, as in torch.

        Coded state is there as it is kept, in plain tensors. A NaN under its plain name makes torch's own classes fail
        when they step on it.
        """

        def mark_coded(_: Any, saved: dict[str, Any]) -> dict[str, Any]:
            return checkpoint.marked(type(self), self.param_groups, saved)

        mark = self.register_state_dict_post_hook(mark_coded, prepend=True)  # before anybody else's
        try:
            return super().state_dict()
        finally:
            mark.remove()

    def plain_state_dict(self) -> dict[str, Any]:
        """Return the state dict of the same optimizer without codecs, which torch's class of the same name loads."""
        return checkpoint.plain(type(self), self.param_groups, super().state_dict())

    def load_state_dict(
        self, state_dict: dict[str, Any], *, strict_names: bool = False, keep_dtype: bool = False
    ) -> None:
        """Load a state dict of this class or of torch's class of the same name; its tensors are copied, never shared.

        Where both sides have the same parameter names (``named_parameters()``), state finds its parameter by name, in
        whatever order and groups. Otherwise state finds its parameter by position, as in torch. Parameters and state
        keep the form that they have here: entries of the dict in another form are converted. Options that the dict
        lacks keep their values.

        Args:
            state_dict: the result of ``state_dict()``.
            strict_names: raise unless both sides have the same names.
            keep_dtype: keep the saved state's dtype; torch, and False, cast it to the parameter's.

        Raises:
            ValueError: names (if asked for), shapes, or the numbers of groups and parameters differ.
        """

        def fit(_: Any, given: dict[str, Any]) -> dict[str, Any]:
            return checkpoint.fitted(type(self), self.param_groups, given, strict_names, keep_dtype)

        hook = self.register_load_state_dict_pre_hook(fit)  # after everybody else's
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def _forget(self) -> None:
        self._holder = ""
        self._dispatch = Dispatch(type(self))

    def convert_state(self, **options: Any) -> None:
        """Keep parameters and state in another form from now on, and convert the existing ones.

        Values are rounded to nearest, once. Values that are in the new form already stay as they are, bit by bit.

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
            validate_group(self.fields, group)
            self._settle(group)
            self.check(group)
            for spec in self._specs(group).values():
                spec.check()
        for group, new in zip(self.param_groups, changed, strict=True):
            group.update({name: new[name] for name in STORAGE_OPTIONS})
            for p in (p for p in group["params"] if p in self.state):
                self.state[p] = storage.converted(self.state[p], declared_by(self.rule_for(group, p)), group, p)
        self._dispatch.forget_buckets()

    # -- stepping ----------------------------------------------------------------------------------------------------

    @property
    def executor(self) -> ExecutorName:
        """Executor of the first parameter group: ``native``, ``foreach``, ``reference``, ``driver``, ``sparse``, ...

        The name is a string. Its attribute ``reason`` and its repr say why the executor is not a faster one.
        """
        return self._dispatch.name(self.param_groups[0])

    def _repr_html_(self) -> str:
        """Return the groups for a notebook, with the options that matter; all of them lie folded below."""
        from .notebook import of_optimizer

        return of_optimizer(self)

    def explain(self) -> str:
        """Print, and return, the code that runs for each parameter group: C, or Triton where `fused=True` asks for it.

        Raises:
            RuntimeError: the executor that writes the code cannot run the rule.
        """
        updates = [spec for group in self.param_groups for spec in self._specs(group).values()]
        specs = (each for spec in updates for each in (spec.measuring(), spec) if each is not None)
        text = "\n".join(dict.fromkeys(map(source, specs)))
        print(text)
        return text

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        """Perform one update of every parameter that has a gradient.

        Args:
            closure: function that re-evaluates the model and returns the loss. Rules that ask for new gradients need
                it.
            loss: the loss at the parameters as they are, a number or a tensor of one element, not scaled. Rules whose
                step size depends on it (`MoMo`) need it, unless a closure returns it; other rules ignore it.

        Returns:
            The closure's loss (of its first evaluation, if there are several), or None.
        """
        before = torch.is_grad_enabled()
        try:
            # Under torch.compile the two breaks, as around torch's own steps, make what is between them a graph that
            # has gradients off from its start; otherwise the compiler keeps twice every parameter that is written.
            torch.set_grad_enabled(False)
            _break_graph()
            return self._step(closure, loss)
        except BaseException:
            self._forget_scale()
            raise
        finally:
            _break_graph()
            torch.set_grad_enabled(before)

    def _step(self, closure: Callable[[], Any] | None, loss: Any) -> Any:
        if torch.compiler.is_compiling() and compiled.can_trace(self):
            return self._step_now(closure, loss)
        return self._step_uncompiled(closure, loss)

    # Where the compiler has given up on a frame, it would still trace the functions that the frame calls, one by one:
    # a kernel's preparation in pieces, on fake tensors. So everything outside of a graph is hidden from it.
    @_disable_dynamo
    def _step_uncompiled(self, closure: Callable[[], Any] | None, loss: Any) -> Any:
        return self._step_now(closure, loss)

    def _step_now(self, closure: Callable[[], Any] | None, given: Any) -> Any:
        self._refuse_step()
        if self.needs_closure(self.param_groups[0]):
            return self._step_driver(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = self._found_inf() if self._dispatch.reads_found_inf(self.param_groups) else None
        if (found is not None or not self._has_found_inf()) and not self._is_skipped():
            self._step_groups(loss if given is None else given, found)
        return loss

    def _step_groups(self, loss: Any, found: Any) -> None:
        if loss is None and self.needs_loss(self.param_groups[0]):
            raise ValueError(
                f"the step of {type(self).__name__} depends on the loss, and step() was given none; call "
                "step(loss=loss), or step(closure) with a closure that returns it"
            )
        shared = shared_numbers(type(self), self.param_groups, self._grad_scale(), found, self._holder)
        if torch.compiler.is_compiling():
            compiled.step(self, shared)
            return
        self._dispatch.forget_stale(self.state)
        step = Step(self.param_groups, self.state, shared, intercepting())
        prepared = []
        for group in self.param_groups:
            grad = next((p.grad for p in group["params"] if p.grad is not None), None)
            if grad is not None and grad.is_cuda and "capturable" in group:
                self._accelerator_graph_capture_health_check()
            with torch.set_grad_enabled(group.get("differentiable", False)):
                ready = self._dispatch.prepare(group, step)
            prepared += [] if ready is None else [ready]
        renewal = Renewal(self.param_groups, loss, step.mode)
        numbers = renewal.of([phase for ready in prepared for phase in ready.phases])
        for ready in prepared:
            with torch.set_grad_enabled(ready.group.get("differentiable", False)):
                ready.run(numbers)

    def _init_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Append the parameters of ``group`` that have gradients to ``params``. dynamo runs this outside of its graph.

        The state of all groups is made at once: dynamo reads the state of all groups when it meets the first group.
        """
        for each in self.param_groups:
            for p in each["params"]:
                if p.grad is not None:
                    GroupSpec.of(type(self), each, p).create_state(self.state, p)
        params += [p for p in group["params"] if p.grad is not None]
        self._dispatch.compiled(group)

    @_disable_dynamo
    def _step_driver(self, closure: Callable[[], Any] | None) -> Any:
        (group,) = self.param_groups
        self._settle(group)
        for name, field in self.fields.items():
            field.validate(group[name])
        numbers, switches = values(self.fields, group)
        return driver.step(GroupSpec.of(type(self), group), closure, {**switches, **numbers}, self.state)


__all__ = ["Field", "Optimizer", "Rule", "State"]
