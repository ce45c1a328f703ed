"""Update rules, and the program that a parameter group runs: a rule with its options bound, in its transforms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal

import torch

from .codecs import Codec
from .fields import State, View
from .kinds import KINDS, Extent
from .matrices import WHOLE
from .sharding import whole

Kind = Literal["pointwise", "per_tensor", "matrix", "driver"]
"""Scope of a rule: one element, one tensor, one matrix, or new gradients (a driver)."""

Sparse = Literal["exact", "lazy"]
"""Treatment of a sparse gradient by a rule.

Exact: an element does not change where the gradient is 0 and all ``State.sparse`` is 0. Only the other elements need to
be run.

Lazy: by definition only the elements that the gradient has, and their state, move. A dense gradient is an error."""

PLANNED_KINDS = ("pointwise", "per_tensor")
"""Kinds of rules that are traced: they have plans and kernels, and their state can be coded."""

Values = Mapping[str, Any]
Update = Callable[[Any, Any, Values, Values], tuple[Any, dict[str, Any]]]
"""Calling convention of any rule: ``update(p, g, state, scalars) -> (new p, new state)``. Inputs stay untouched."""

Wrapper = Callable[[Update], Update]
"""Function that adds to an update what any rule may need: decay, maximize, averaging. See transforms/."""


@dataclass(frozen=True, eq=False)
class Shared:
    """Numbers that the parameters of a group, or of all groups, have in common, and their renewal at each step.

    Attributes:
        renew: function of keyword arguments that it names: sums, kept numbers, hyperparameters, and ``loss``, which
            ``step`` is then given. It returns the numbers of this step, by name: those that are kept, and those in
            ``made``. With None the step is left out.
        kept: the numbers that a parameter group keeps from step to step, by name, with their first values: a number, or
            the name of a field.
        made: names of further numbers that ``renew`` returns, for the rule.
        sums: names of the sums over tensors that ``renew`` takes.
        measure: function of the rule's own arguments that returns one number per tensor for each name in ``sums``. It
            sees the parameters and gradients that the rule sees, before any of them has moved, and the kept numbers of
            the last step. A single sum may be returned as it is.
        over: whether sums are taken, and numbers renewed, for each group or over all groups together.
    """

    renew: Callable[..., dict[str, Any] | None]
    kept: Mapping[str, float | str]
    made: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    measure: Callable[..., Any] | None = None
    over: Literal["group", "all"] = "group"

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numbers that the rule may take."""
        return *self.kept, *self.made

    @cached_property
    def read(self) -> tuple[str, ...]:
        """Names of what the renewal takes."""
        return tuple(inspect.signature(self.renew).parameters)

    @property
    def needs_loss(self) -> bool:
        """True for a renewal that takes the loss."""
        return "loss" in self.read


@dataclass(frozen=True, eq=False)
class Rule:
    """Update rule with its declarations.

    Attributes:
        fn: the rule, as in the paper: ``fn(p, g, *state, *, t, lr, ...) -> (p, *state)``. It gets the declared state in
            order (``*a`` takes all that is left): ``None`` where ``State.when`` says no, and never ``step``, which is
            ``t``. By keyword it gets what its signature names: fields, ``t``, ``first``, ``machine_eps``,
            ``precision``, ``stream``, ``whole``. ``t`` is the parameter's step count, from 1. ``first`` is true where
            the parameter's state is just made. ``machine_eps`` is the distance from 1 to the next number of the
            parameter's dtype. ``stream``, for matrix rules, is the parameter's stream of random numbers; see
            `steepest.noise`. ``whole``, for matrix rules that do all else by element, calls what needs whole matrices;
            see `steepest.matrices.Whole`. A driver is a generator ``fn(x, *state, ...)`` that yields trial points and
            is sent ``(loss, gradient)``.
        kind: the scope of the rule; an executor refuses a kind that it cannot run exactly.
        state: the rule's state, in torch's order.
        sparse: the treatment of sparse gradients; None refuses them.
        is_real: whether complex parameters are refused. Other rules take them as pairs of real numbers, in a last
            dimension.
        precision: a dtype that the rule itself computes in, whatever the parameter's dtype. The rule must round to it
            by itself.
        view: the matrices that a matrix rule sees in a parameter, in its gradient and in state like it; None for a
            parameter as it is.
        branches: whether a matrix rule branches on its step count. A step is then never recorded in a graph.
        shared: numbers that parameters have in common; the rule names those that it takes.
        evaluated: function of the parameter, its state and numbers by keyword that returns the weights to be evaluated,
            where they are not those that are trained; see `steepest.weights`.
        trained: function that returns the trained weights, from those to be evaluated.
    """

    fn: Callable[..., Any]
    kind: Kind
    state: tuple[State, ...] = ()
    sparse: Sparse | None = None
    is_real: bool = False
    precision: torch.dtype | None = None
    view: View | None = None
    branches: bool = False
    shared: Shared | None = None
    evaluated: Callable[..., Any] | None = None
    trained: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Check that signature and declaration agree."""
        if self.sparse and self.kind != "pointwise":
            raise TypeError(f"{self.fn.__name__} is a {self.kind} rule; pointwise rules alone take sparse gradients")
        if self.sparse != "exact" and any(s.sparse for s in self.state):
            raise TypeError(f"{self.fn.__name__} has sparse state, so it must be declared Rule(..., sparse='exact')")
        if self.kind == "matrix" and any(KINDS[s.kind].extent == Extent.REDUCED for s in self.state):
            raise TypeError(f"{self.fn.__name__} is a matrix rule, run on stacks; it cannot keep one number per tensor")
        unknown = [s for s in self.state if s.kind != "shared" and KINDS[s.kind].extent is None]
        if self.kind in PLANNED_KINDS and unknown:
            named = f"{unknown[0].name!r} of kind {unknown[0].kind!r}"
            raise TypeError(
                f"{self.fn.__name__} is a {self.kind} rule, which cannot keep state {named}; matrix rules can"
            )
        arguments = inspect.signature(self.fn).parameters.values()
        positional = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        takes_more = any(a.kind is a.VAR_POSITIONAL for a in arguments)
        expected = (1 if self.kind == "driver" else 2) + len(self.arguments)
        if len(positional) != expected and not (takes_more and len(positional) < expected):
            raise TypeError(
                f"{self.fn.__name__} takes {positional}; its declared state needs {expected} positional arguments: "
                f"{'x' if self.kind == 'driver' else 'p, g'} and then one for each of {self.arguments}"
            )
        if self.branches and self.kind != "matrix":
            raise TypeError(f"{self.fn.__name__} is a {self.kind} rule, which is traced; matrix rules may branch")
        if self.takes_stream and self.kind != "matrix":
            raise TypeError(f"{self.fn.__name__} is a {self.kind} rule; matrix rules alone take a stream")
        self._check_parts()
        if self.shared is not None:
            self._check_shared(self.shared)
        if "t" in self.names and not any(s.kind == "step" for s in self.state):
            raise TypeError(f"{self.fn.__name__} uses t but declares no State('step', 'step') to count it")

    def _check_parts(self) -> None:
        """Raise `TypeError` for a rule that takes ``whole`` and could not run on parts of matrices."""
        if not self.takes_whole:
            return
        if self.takes_stream:
            raise TypeError(f"{self.fn.__name__} takes whole, and random numbers, which would be others on parts")
        other = next((s for s in self.state if KINDS[s.kind].extent not in (Extent.FULL, Extent.HOST)), None)
        if other is not None:
            raise TypeError(
                f"{self.fn.__name__} takes whole, so that all else in it is by element, and keeps state {other.name!r} "
                f"of kind {other.kind!r}; leave whole out, or keep state like the parameter"
            )

    def _check_shared(self, shared: Shared) -> None:
        """Raise `TypeError` for a rule that cannot share numbers."""
        if self.kind not in PLANNED_KINDS:
            raise TypeError(f"{self.fn.__name__} is a {self.kind} rule; pointwise and per_tensor rules share numbers")
        if shared.measure and any(s.kind == "scalar" for s in self.state):
            raise TypeError(f"{self.fn.__name__} measures sums, so it cannot keep scalar state; keep it in Shared")
        if "first" in self.names:
            raise TypeError(
                f"{self.fn.__name__} takes first, which a step that is left out would use up; tell the first step by "
                "a number in Shared.kept"
            )

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """Names of the state that the rule is handed, in order."""
        return tuple(s.name for s in self.state if s.kind != "step")

    @cached_property
    def letters(self) -> dict[str, str]:
        """The paper's letter of each state name."""
        arguments = list(inspect.signature(self.fn).parameters.values())[1 if self.kind == "driver" else 2 :]
        own = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        more = next((a.name for a in arguments if a.kind is a.VAR_POSITIONAL), "")
        rest = range(len(self.arguments) - len(own)) if more else ()
        return dict(zip(self.arguments, [*own, *(f"{more}{i}" for i in rest)], strict=False))

    @cached_property
    def measuring(self) -> Rule | None:
        """The rule that writes this rule's sums, and nothing else, into state of their names; None without sums."""
        if self.shared is None or self.shared.measure is None:
            return None
        measure, sums = self.shared.measure, self.shared.sums
        state = tuple(s for s in self.state if not KINDS[s.kind].is_number)

        def measured(p: Any, g: Any, *held: Any, **numbers: Any) -> tuple[Any, ...]:
            own = held[: len(state)]
            found = measure(p, g, *own, **numbers)
            return p, *own, *map(whole, found if isinstance(found, tuple) else (found,))

        given = inspect.signature(measure).parameters.values()
        takes = inspect.Parameter("held", inspect.Parameter.VAR_POSITIONAL)
        positional = [a for a in given if a.kind is a.POSITIONAL_OR_KEYWORD][:2]
        named = [a for a in given if a.kind is a.KEYWORD_ONLY]
        measured.__signature__ = inspect.Signature([*positional, takes, *named])  # type: ignore[attr-defined]
        measured.__name__ = measure.__name__
        kinds = tuple(State(name, "tensor_scalar") for name in sums)
        return Rule(measured, "per_tensor", (*state, *kinds), is_real=self.is_real)

    @property
    def takes_stream(self) -> bool:
        """True for a rule that takes random numbers."""
        return "stream" in self.names

    @property
    def takes_whole(self) -> bool:
        """True for a matrix rule that works by element but for what it calls by ``whole``."""
        return self.kind == "matrix" and "whole" in self.names

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the rule's keyword arguments."""
        return self.named(self.fn)

    @staticmethod
    def named(function: Callable[..., Any]) -> frozenset[str]:
        """Return the names of a function's keyword arguments."""
        arguments = inspect.signature(function).parameters.values()
        return frozenset(a.name for a in arguments if a.kind is a.KEYWORD_ONLY)

    def keywords(self, options: Values) -> dict[str, Any]:
        """Return the rule's keyword arguments, out of all ``options`` at hand.

        Raises:
            TypeError: the rule names an argument that nothing declares.
        """
        try:
            return {name: options[name] for name in self.names}
        except KeyError as missing:
            (name,) = missing.args
            raise TypeError(
                f"{self.fn.__name__} takes {name!r} by keyword, which nothing declares; declare it in the class, "
                f"as in {name}: float = hyper(...), or leave it out of the rule"
            ) from None


@cache
def seeing(rule: Rule, view: View) -> Rule:
    """Return a matrix rule on the matrices that ``view`` shows; the same object for the same rule and view."""
    return replace(rule, view=view)


@dataclass(frozen=True)
class Structure:
    """Everything that shapes a program, without its numbers: two equal structures share one trace and one plan."""

    rule: Rule
    state: tuple[State, ...]
    wrappers: tuple[Wrapper, ...]
    static: tuple[tuple[str, Any], ...]
    storage: tuple[tuple[str, Codec], ...] = ()
    kind: Kind | None = None


@dataclass(frozen=True)
class TensorSlot:
    """One tensor of a parameter's state as it lies in memory.

    Attributes:
        name: its key in ``optimizer.state[p]``.
        of: the state that the tensor keeps, in whole or in part; ``"p"`` for the parameter.
        codec: the codec of that state; None for plain state.
        part: the index of the tensor among the codec's parts.
    """

    name: str
    of: str
    codec: Codec | None = None
    part: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """Update ready for any executor: ``update(p, g, state, scalars)`` over the named state.

    Attributes:
        update: the rule in its transforms.
        rule: the rule.
        state: the state that the update works on, by its own names.
        storage: the codecs of coded state by its name, and of the parameter under ``"p"``. Plain state is not in it.
        kind: the scope of the update: that of the rule, or a larger one that its transforms need.
        view: the matrices that the rule sees in a parameter; None where it gets them already.
        tensors: the state that executors hand over as tensors.
        scalars: the state that is a number of its own per parameter.
        counted: step count and scalar state, under the names that a rule sees.
    """

    update: Update
    rule: Rule
    state: tuple[State, ...]
    storage: Mapping[str, Codec] = field(default_factory=dict)
    kind: Kind | None = None
    view: View | None = None
    tensors: tuple[State, ...] = field(init=False)
    scalars: tuple[State, ...] = field(init=False)
    counted: dict[str, State] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the state.

        Cached properties would not do: dynamo cannot trace the lock that they had before Python 3.12.
        """
        counted = {"t" if s.kind == "step" else s.name: s for s in self.state if KINDS[s.kind].is_number}
        object.__setattr__(self, "tensors", tuple(s for s in self.state if not KINDS[s.kind].is_number))
        object.__setattr__(self, "scalars", tuple(s for s in self.state if s.kind == "scalar"))
        object.__setattr__(self, "counted", counted)
        object.__setattr__(self, "kind", self.kind or self.rule.kind)

    @cached_property
    def stored(self) -> tuple[TensorSlot, ...]:
        """The tensors that keep the tensor state, in its order; then the further parts of the parameter's codec."""
        found: list[TensorSlot] = []
        for name in (*(s.name for s in self.tensors), "p"):
            codec = self.storage.get(name)
            if codec is not None:
                parts = range(len(codec.suffixes) - len(codec.keys(name)), len(codec.suffixes))
                found += [TensorSlot(key, name, codec, part) for key, part in zip(codec.keys(name), parts, strict=True)]
            elif name != "p":
                found.append(TensorSlot(name, name))
        return tuple(found)

    @cached_property
    def slots(self) -> dict[str, int]:
        """Numbers for the random bits of everything coded: 0 for the parameter, from 1 for its tensor state."""
        return {name: slot for slot, name in enumerate(("p", *(s.name for s in self.tensors)))}

    @cached_property
    def plain(self) -> Program:
        """This update on decoded values."""
        return replace(self, storage={})

    @cached_property
    def on_matrices(self) -> Program:
        """This update on parameters that are seen as matrices already."""
        return replace(self, view=None)


def assembled(structure: Structure) -> Program:
    """Bind the static options of ``structure`` and wrap the transforms around its rule, innermost first."""
    update = bind(structure.rule, dict(structure.static))
    for wrapper in structure.wrappers:
        update = wrapper(update)
    rule = structure.rule
    return Program(update, rule, structure.state, dict(structure.storage), structure.kind, rule.view)


program = cache(assembled)
"""The one program of a structure, which is traced and compiled once."""


@cache
def only(names: tuple[str, ...]) -> Wrapper:
    """Return the wrapper that keeps the parameter and all state but the named."""

    def keeping(update: Update) -> Update:
        def kept(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
            _, new = update(p, g, state, scalars)
            return p, {**state, **{name: new[name] for name in names}}

        return kept

    return keeping


def bind(rule: Rule, static: Values) -> Update:
    """Put a rule behind the common calling convention, with its static options (switches and words) settled."""
    given = {"whole": WHOLE} if rule.takes_whole else {}

    def update(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        held = [state.get(name) for name in rule.arguments]
        result = rule.fn(p, g, *held, **rule.keywords({**given, **static, **scalars}))
        p, *new = result if isinstance(result, tuple) else (result,)
        if len(new) != len(held):
            raise TypeError(f"{rule.fn.__name__} returned {len(new)} states; it must return p and {rule.arguments}")
        kept = {name: value for name, value in zip(rule.arguments, new, strict=True) if name in state}
        return p, {**state, **kept}

    return update
