"""A rule, and the program that a parameter group runs: the rule, its options bound, in its transforms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal

import torch

from .codecs import Codec
from .fields import State
from .kinds import KINDS, Extent

Kind = Literal["pointwise", "per_tensor", "matrix", "driver"]
"""What a rule may look at: one element, one tensor, one matrix, or new gradients (a driver)."""

Sparse = Literal["exact", "lazy"]
"""What a rule does with a sparse gradient. Exact: where it is 0, and so is all ``State.sparse``, nothing changes, so
that the other elements are all that need be run. Lazy: by definition the elements that it has, and their state, are all
that moves; a dense gradient is an error."""

PLANNED_KINDS = ("pointwise", "per_tensor")
"""The kinds that are traced: they have plans and kernels, and their state can be coded."""

Values = Mapping[str, Any]
Update = Callable[[Any, Any, Values, Values], tuple[Any, dict[str, Any]]]
"""``update(p, g, state, scalars) -> (new p, new state)``: any rule behind one convention. Inputs stay untouched."""

Wrapper = Callable[[Update], Update]
"""Wraps an update with what any rule may need: decay, maximize, averaging. See transforms/."""


@dataclass(frozen=True, eq=False)
class Rule:
    """An update rule and what it says of itself.

    Attributes:
        fn: the rule, as in the paper: ``fn(p, g, *state, *, t, lr, ...) -> (p, *state)``. It gets the declared state
            in order (``None`` where ``State.when`` says no; ``step`` never, it is ``t``), and by keyword what its
            signature names: fields, ``t`` (the parameter's step count, from 1), ``first`` (its state is just made),
            ``machine_eps`` (the distance from 1 to the next number of the parameter's dtype), ``precision``.
            A driver is a generator ``fn(x, *state, ...)`` that yields trial points and is sent ``(loss, gradient)``.
        kind: what the rule looks at; an executor refuses a kind that it cannot run exactly.
        state: its state, in torch's order.
        sparse: what it does with sparse gradients; None refuses them.
        is_real: it is not for complex parameters; other rules take them as pairs of real numbers, in a last dimension.
        precision: a dtype that the rule itself computes in, whatever the parameter's; it must round to it by itself.
    """

    fn: Callable[..., Any]
    kind: Kind
    state: tuple[State, ...] = ()
    sparse: Sparse | None = None
    is_real: bool = False
    precision: torch.dtype | None = None

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
        expected = (1 if self.kind == "driver" else 2) + len(self.arguments)
        if len(positional) != expected:
            raise TypeError(
                f"{self.fn.__name__} takes {positional}; its declared state needs {expected} positional arguments: "
                f"{'x' if self.kind == 'driver' else 'p, g'} and then one for each of {self.arguments}"
            )
        if "t" in self.names and not any(s.kind == "step" for s in self.state):
            raise TypeError(f"{self.fn.__name__} uses t but declares no State('step', 'step') to count it")

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """Names of the state that the rule is handed, in order."""
        return tuple(s.name for s in self.state if s.kind != "step")

    @cached_property
    def letters(self) -> dict[str, str]:
        """The paper's letter of each state name."""
        positional = list(inspect.signature(self.fn).parameters)
        return dict(zip(self.arguments, positional[1 if self.kind == "driver" else 2 :], strict=False))

    @cached_property
    def names(self) -> frozenset[str]:
        """The keyword arguments that the rule names."""
        arguments = inspect.signature(self.fn).parameters.values()
        return frozenset(a.name for a in arguments if a.kind is a.KEYWORD_ONLY)

    def keywords(self, options: Values) -> dict[str, Any]:
        """The rule's keyword arguments, out of everything at hand."""
        return {name: options[name] for name in self.names}


@dataclass(frozen=True)
class Structure:
    """All that shapes a program, and none of the numbers: two equal structures share one trace and one plan."""

    rule: Rule
    state: tuple[State, ...]
    wrappers: tuple[Wrapper, ...]
    static: tuple[tuple[str, Any], ...]
    storage: tuple[tuple[str, Codec], ...] = ()


@dataclass(frozen=True)
class TensorSlot:
    """One tensor of a parameter's state as it lies in memory.

    Attributes:
        name: its key in ``optimizer.state[p]``.
        of: the state that it keeps, or is a part of; ``"p"`` for the parameter.
        codec: how; None for plain state.
        part: which of the codec's parts it is.
    """

    name: str
    of: str
    codec: Codec | None = None
    part: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """An update ready for any executor: ``update(p, g, state, scalars)`` over the named state.

    Attributes:
        update: the rule in its transforms.
        rule: the rule.
        state: what the update works on, by its own names.
        storage: the codecs of coded state by its name, and of the parameter under ``"p"``; what is plain is not in it.
        tensors: the state that executors hand over as tensors.
        scalars: the state that is a number of its own per parameter.
        counted: step count and scalar state, under the names that a rule sees.
    """

    update: Update
    rule: Rule
    state: tuple[State, ...]
    storage: Mapping[str, Codec] = field(default_factory=dict)
    tensors: tuple[State, ...] = field(init=False)
    scalars: tuple[State, ...] = field(init=False)
    counted: dict[str, State] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the state. Not by cached properties: dynamo cannot trace the lock that they had before Python 3.12."""
        counted = {"t" if s.kind == "step" else s.name: s for s in self.state if KINDS[s.kind].is_number}
        object.__setattr__(self, "tensors", tuple(s for s in self.state if not KINDS[s.kind].is_number))
        object.__setattr__(self, "scalars", tuple(s for s in self.state if s.kind == "scalar"))
        object.__setattr__(self, "counted", counted)

    @cached_property
    def stored(self) -> tuple[TensorSlot, ...]:
        """The tensors that keep the tensor state, in its order; then what the parameter's codec keeps beside it."""
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
        """Numbers for the random bits of everything coded: 0 for the parameter, its tensor state from 1 on."""
        return {name: slot for slot, name in enumerate(("p", *(s.name for s in self.tensors)))}

    @cached_property
    def plain(self) -> Program:
        """The same update on decoded values."""
        return replace(self, storage={})


def assembled(structure: Structure) -> Program:
    """Bind the static options of ``structure`` and wrap the transforms around its rule, innermost first."""
    update = bind(structure.rule, dict(structure.static))
    for wrapper in structure.wrappers:
        update = wrapper(update)
    return Program(update, structure.rule, structure.state, dict(structure.storage))


program = cache(assembled)
"""The one program of a structure: what is traced and compiled once."""


def bind(rule: Rule, static: Values) -> Update:
    """Put a rule behind the common calling convention, with its static options (switches and words) settled."""

    def update(p: Any, g: Any, state: Values, scalars: Values) -> tuple[Any, dict[str, Any]]:
        held = [state.get(name) for name in rule.arguments]
        result = rule.fn(p, g, *held, **rule.keywords({**static, **scalars}))
        p, *new = result if isinstance(result, tuple) else (result,)
        if len(new) != len(held):
            raise TypeError(f"{rule.fn.__name__} returned {len(new)} states; it must return p and {rule.arguments}")
        kept = {name: value for name, value in zip(rule.arguments, new, strict=True) if name in state}
        return p, {**state, **kept}

    return update
