"""Optimizers for JAX: gradient transformations of Optax that are made from the same rules.

A rule is traced once, as for every executor, and its words are spelled in `jax.numpy`. So a transformation may be
compiled, mapped, differentiated and sharded.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> adam = transformation("adam", lr=optax.cosine_decay_schedule(0.5, 100))
    >>> params = {"w": jnp.array([1.0, -2.0])}
    >>> state = adam.init(params)
    >>> updates, state = jax.jit(adam.update)({"w": jnp.array([1.0, 4.0])}, state, params)
    >>> optax.apply_updates(params, updates)["w"].round(3).tolist()
    [0.5, -2.5]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from . import group as groups
from . import registry, transforms
from .construction import refuse_unknown, resolved
from .fields import EXECUTION_SWITCHES, PLACE, STORAGE_OPTIONS, Field, State
from .group import GroupSpec
from .kinds import KINDS, Extent
from .optimizer import Optimizer
from .rule import PLANNED_KINDS, Program, Rule
from .trace import Trace, trace, with_count
from .views import compute_dtype
from .vocabulary import WORDS, Word

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError("steepest.optax needs JAX and Optax; install them: pip install 'steepest[optax]'") from error


class TransformationState(NamedTuple):
    """State of a transformation, a tree of arrays.

    Attributes:
        count: the number of steps so far, an integer.
        numbers: numbers that do not depend on arrays (NAdam's ``mu_product``), by torch's names.
        arrays: state of each parameter, by torch's names (``exp_avg``): trees like the parameters. A parameter without
            such a state has None.
    """

    count: Any
    numbers: dict[str, Any]
    arrays: dict[str, Any]


REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(EXECUTION_SWITCHES, "it says how PyTorch runs a step; leave it out, and use jax.jit"),
        **dict.fromkeys(STORAGE_OPTIONS, "it says how PyTorch's tensors keep state; leave it out"),
        **dict.fromkeys(("skip_nonfinite", "skip_limit"), "wrap the transformation in optax.apply_if_finite"),
        **dict.fromkeys(("gpa", "schedule_free"), "evaluation needs other weights; use optax.contrib.schedule_free"),
        "hyperball": "it looks at the values of the weights before it starts; leave it out",
    }
)
"""Options that make no sense, or are not possible, in a pure transformation: why, and what to do."""


class _ClassDefault:
    """Default of an argument that stands for the default of the optimizer's class."""

    def __repr__(self) -> str:
        return "<default of the class>"


UNSET = _ClassDefault()


def transformation(name: str, lr: Any = UNSET, **options: Any) -> Any:
    """Return an optimizer as an `optax.GradientTransformation`.

    Its updates are added to the parameters, as usual: ``optax.apply_updates(params, updates)``. Updates need the
    parameters: ``update(grads, state, params)``. All are real arrays of floats, of any shapes. Half types compute in
    float32. Numbers, such as powers of the step count, are in float64 only if JAX has it enabled.

    Args:
        name: the optimizer's name or an alias, such as ``"adamw"``; case, ``-`` and ``_`` do not matter.
        lr: the learning rate: a number, a scalar array (mapped over, differentiated by), or a schedule, a function of
            the number of steps before, from 0.
        options: options of the class, as in PyTorch. Numbers may be scalar arrays and schedules too. A number that is
            one of these is used in every step: a weight decay that is an array of 0 still decays, by 0.

    Raises:
        UnknownNameError: the optimizer does not exist; the message has the close match.
        TypeError: an option does not exist, or a value of another type.
        ValueError: a value out of bounds, an option that is not for JAX, or an optimizer that is not. Its rule
            multiplies matrices, searches along a line, or renews numbers that all parameters share. The message says
            what to use. `init` raises it for integer and complex parameters.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be that of an optimizer, such as 'adam', not {name!r}")
    meaning = registry.look_up(name)
    given = options if lr is UNSET else {"lr": lr, **options}
    return _Made(meaning.cls, meaning.merged({key: value for key, value in given.items() if value is not UNSET})).pair


def factory(name: str) -> Callable[..., Any]:
    """Return `transformation` of one optimizer, as a function with its own arguments, all by keyword.

    It is for `optax.inject_hyperparams`, which reads the arguments' names.

    Example:
        >>> make = optax.inject_hyperparams(factory("adamw"))
        >>> rates = optax.linear_schedule(0.0, 1e-3, 100)
        >>> sorted(make(lr=rates, weight_decay=0.1).init({"w": jnp.ones(2)}).hyperparams)
        ['lr', 'weight_decay']
    """
    cls = registry.find(name)

    def make(**options: Any) -> Any:
        return transformation(name, **options)

    named = [f for f in cls.fields.values() if not f.fixed and f.name not in REFUSED]
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=UNSET) for f in named]
    )
    return make


# -- options ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Options:
    """Options of a transformation.

    Attributes:
        settled: all options of the class; numbers that may change have others in their place.
        changing: arrays and schedules, by the names that the rule has for them.
    """

    settled: dict[str, Any]
    changing: dict[str, Any]

    @staticmethod
    def of(cls: type[Optimizer], given: Mapping[str, Any]) -> _Options:
        """Check and complete the options that were given."""
        refuse_unknown(cls.__name__, cls.fields, given)
        for name, value in given.items():
            if name in REFUSED and value != cls.fields[name].default:
                raise ValueError(f"{name}={value!r} is not for JAX: {REFUSED[name]}")
        settled, changing = dict(given), dict[str, Any]()
        for name, value in given.items():
            field = cls.fields[name]
            entries = _entries(value)
            if field.is_number and any(map(_is_changing, entries)):
                settled[name] = _stand_in(field, entries)
                changing.update((key, x) for key, x in zip(field.names, entries, strict=True) if _is_changing(x))
        changing.update(_followers(cls, given, changing))
        return _Options(resolved(cls, settled), changing)

    def numbers(self, count: Any) -> dict[str, Any]:
        """Return the numbers that may change, as they are after ``count`` steps."""
        return {name: value(count) if callable(value) else value for name, value in self.changing.items()}


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _is_changing(value: Any) -> bool:
    """Return whether a number may change from step to step: an array, which may be traced, or a schedule."""
    return _is_array(value) or callable(value)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)


def _stand_in(field: Field, entries: list[Any]) -> Any:
    """Return a value to resolve options with in the place of numbers that may change; these are never 0 there.

    Raises:
        ValueError: the number settles what is computed, is out of bounds, or is not one number.
    """
    is_known = [_is_array(x) and not isinstance(x, jax.core.Tracer) for x in entries]
    if field.integer:
        advice = "with optax.inject_hyperparams name it in static_args"
        raise ValueError(
            f"{field.name} settles what is computed, so it must be {field.allowed}, not an array; {advice}"
        )
    if len(entries) != len(field.names) or any(x.shape != () for x in entries if _is_array(x)):
        raise ValueError(f"{field.name} must be {field.allowed}, as plain numbers or scalar arrays, not {entries}")
    usual = _entries(field.default) if isinstance(field.default, tuple) else [field.default] * len(entries)
    stand_ins = [(u or SOME) if _is_changing(x) else x for x, u in zip(entries, usual, strict=True)]
    known = [float(x) if known else other for x, known, other in zip(entries, is_known, stand_ins, strict=True)]
    field.validate(_joined(field, known))
    return _joined(field, stand_ins)


SOME = 0.5
"""Stand-in for a number that may change, where its default is 0 or None."""


def _joined(field: Field, numbers: list[Any]) -> Any:
    return tuple(numbers) if len(field.names) > 1 else numbers[0]


def _followers(
    cls: type[Optimizer], given: Mapping[str, Any], changing: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the options that take the first value of another one, where that one may change.

    Raises:
        ValueError: the other one is an array, whose first value is not known.
    """
    for name, field in cls.fields.items():
        leader = changing.get(field.default_from)
        if leader is None or given.get(name) is not None:
            continue
        if not callable(leader):
            told = f"{field.default_from}, which is an array here and may change"
            raise ValueError(f"{name} is by default the first value of {told}; give {name}")
        yield name, leader(0)


# -- the transformation ----------------------------------------------------------------------------------------------


def _refuse(cls: type[Optimizer], rule: Rule) -> None:
    """Raise `ValueError` for a rule that cannot be spelled in jax.numpy."""
    if rule.kind == "driver":
        why = "evaluates a closure along lines; use optax.lbfgs"
    elif rule.kind not in PLANNED_KINDS:
        why = f"multiplies and factors matrices, which no trace records; {_instead(cls)}"
    elif rule.shared is not None:
        why = f"renews numbers that all parameters share, in Python between two passes; {_instead(cls)}"
    elif rule.sparse == "lazy":
        why = "takes sparse gradients, and JAX's are dense; use 'adam'"
    elif cls.takes_estimates:
        why = f"is fed with estimates between its steps; {_instead(cls)}"
    else:
        return
    raise ValueError(f"{cls.__name__} is not for JAX: it {why}, or train in PyTorch with steepest.create")


def _instead(cls: type[Optimizer]) -> str:
    names = {name.replace("_", ""): name for name in dir(optax.contrib)}
    found = names.get(cls.__name__.lower())
    return f"use optax.contrib.{found}" if found else "look into optax.contrib"


class _Made:
    """Transformation of one optimizer under its options."""

    def __init__(self, cls: type[Optimizer], given: Mapping[str, Any]) -> None:
        self.cls = cls
        self.options = _Options.of(cls, given)
        rule = cls.rule_for(self.options.settled)
        _refuse(cls, rule)
        self.switches = groups.values(cls.fields, self.options.settled)[1]
        self._spec(rule).check()
        self.pair = optax.GradientTransformation(self.init, self.update)

    def init(self, params: Any) -> TransformationState:
        """Return the state before the first step."""
        leaves, tree = _flattened(params)
        options = {**self.options.settled, **self.options.numbers(jnp.zeros((), jnp.int32))}
        typical = self._spec(self.cls.rule_for(self.options.settled))
        numbers = {s.name: _number(_first_value(s, options)) for s in typical.existing if s.kind == "scalar"}
        made = [self._first_arrays(p, {**options, PLACE: place}) for place, p in enumerate(leaves)]
        names = dict.fromkeys([*_arrays_of(typical.existing), *(name for each in made for name in each)])
        arrays = {name: jax.tree.unflatten(tree, [each.get(name) for each in made]) for name in names}
        return TransformationState(jnp.zeros((), jnp.int32), numbers, arrays)

    def update(self, updates: Any, state: TransformationState, params: Any = None) -> tuple[Any, TransformationState]:
        """Return what is to be added to the parameters, and the new state."""
        if params is None:
            raise ValueError(f"{self.cls.__name__} needs the parameters: call update(grads, state, params)")
        leaves, tree = _flattened(params)
        grads = tree.flatten_up_to(updates)
        _check_gradients(leaves, grads)
        held = {name: tree.flatten_up_to(each) for name, each in state.arrays.items()}
        inputs = {**self._numbers(state.count, grads), **state.numbers, "t": _number(state.count) + 1}
        moves, new_numbers = [], dict(state.numbers)
        for place, (p, g) in enumerate(zip(leaves, grads, strict=True)):
            own = {name: each[place] for name, each in held.items() if each[place] is not None}
            move, new = self._step(p, g, own, inputs, state.count == 0)
            moves.append(move)
            new_numbers.update({name: new[name] for name in state.numbers if name in new})
            for name in own:
                held[name][place] = new[name]
        arrays = {name: jax.tree.unflatten(tree, each) for name, each in held.items()}
        count = optax.safe_increment(state.count)
        return jax.tree.unflatten(tree, moves), TransformationState(count, new_numbers, arrays)

    def _first_arrays(self, p: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        outline = _outline(p)
        there = _arrays_of(self._spec_of(outline).state(outline))
        return {name: _first_array(state, p, outline, options) for name, state in there.items()}

    def _spec(self, rule: Rule) -> GroupSpec:
        return GroupSpec.under(self.cls, rule, self.options.settled, self.switches)

    def _spec_of(self, outline: Tensor) -> GroupSpec:
        self.cls.check_parameter(outline)
        return self._spec(self.cls.rule_for(self.options.settled, outline))

    def _numbers(self, count: Any, grads: list[Any]) -> dict[str, Any]:
        """Return a step's numbers by the names that rule and transforms have for them."""
        settled = self.options.settled
        changing = self.options.numbers(count)
        shared = {"norm": _total_norm(grads)} if grads and transforms.read_norm(settled) else {}
        of_transforms = groups.numbers_of_transforms({**settled, **changing}, shared)
        return {**groups.values(self.cls.fields, settled)[0], **of_transforms, **changing}

    def _step(
        self, p: Any, g: Any, held: dict[str, Any], inputs: dict[str, Any], is_first: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the update of one parameter, in the dtype to compute in, and its new state."""
        outline = _outline(p)
        spec = self._spec_of(outline)
        results = [
            _run(spec.program(outline, first=first), spec.numbers, p, g, held, inputs)
            for first in ((False, True) if "first" in spec.rule.names else (False,))
        ]
        if len(results) == 1:
            return results[0]
        chosen: tuple[Any, dict[str, Any]] = jax.tree.map(lambda a, b: jnp.where(is_first, b, a), *results)
        return chosen


def _flattened(params: Any) -> tuple[list[Any], Any]:
    leaves, tree = jax.tree.flatten(params)
    return list(map(jnp.asarray, leaves)), tree


def _check_gradients(params: list[Any], grads: list[Any]) -> None:
    """Raise `ValueError` for gradients that are missing or of other shapes than the parameters."""
    for p, g in zip(params, grads, strict=True):
        if g is None:
            raise ValueError("a gradient is None; leave its parameter out with optax.masked or optax.partition")
        if jnp.shape(g) != p.shape:
            raise ValueError(f"a parameter has shape {p.shape}, and its gradient {jnp.shape(g)}; they must be equal")


def _outline(p: Any) -> Tensor:
    """Return a tensor of torch without values that has an array's shape and dtype.

    Raises:
        ValueError: the array is not one of real floats.
    """
    if not jnp.issubdtype(p.dtype, jnp.floating):
        told = f"parameters must be real arrays of floats, and one has dtype {p.dtype} and shape {tuple(p.shape)}"
        raise ValueError(f"{told}; leave it out with optax.masked, or use optax.contrib.split_real_and_imaginary")
    return torch.empty(tuple(p.shape), dtype=getattr(torch, str(p.dtype)), device="meta")


def _arrays_of(existing: Iterable[State]) -> dict[str, State]:
    return {state.name: state for state in existing if not KINDS[state.kind].is_number}


def _first_value(state: State, options: Mapping[str, Any]) -> Any:
    if callable(state.init):
        return state.init(options.get(PLACE, 0), options)
    return options[state.init] if isinstance(state.init, str) else state.init


def _first_array(state: State, p: Any, outline: Tensor, options: Mapping[str, Any]) -> Any:
    """Return the first value of a parameter's state, as `State.create` has it in torch."""
    if state.init == "param":
        return jnp.array(p)  # a copy, so that both may be donated
    kind = KINDS[state.kind]
    dtype = _computing(p.dtype) if kind.is_wide else p.dtype
    return jnp.full_like(p, _first_value(state, options), dtype=dtype, shape=kind.shape_for(outline, options))


# -- running a rule --------------------------------------------------------------------------------------------------


@cache
def _traced(program: Program, numbers: tuple[str, ...]) -> Trace:
    return trace(program, with_count(program, numbers))


def _run(
    program: Program, numbers: tuple[str, ...], p: Any, g: Any, held: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Run a rule on one parameter; return its update and its new state, arrays in their own dtypes."""
    made = _traced(program, numbers)
    dtype = _computing(p.dtype)
    wide = {name: x.astype(dtype) for name, x in {"p": p, "g": g, **held}.items()}
    known: dict[fx.Node, Any] = {node: wide[name] for name, node in made.tensors.items()}
    known |= {node: inputs[name] for name, node in made.numbers.items()}
    for node in made.graph.nodes:
        if node.op == "call_function":
            known[node] = _spell(node, known, dtype)
    results = {name: known[x] if isinstance(x, fx.Node) else x for name, x in made.state.items()}
    state = {name: jnp.broadcast_to(results[name], x.shape).astype(x.dtype) for name, x in held.items()}
    state |= {s.name: _number(results[s.name]) for s in program.scalars}
    return jnp.broadcast_to(known[made.p], p.shape).astype(dtype) - wide["p"], state


def _spell(node: fx.Node, known: Mapping[fx.Node, Any], dtype: Any) -> Any:
    """Return the value of a node. Plain numbers compute in Python, and arrays of numbers join others in their dtype."""
    target: Any = node.target
    args: list[Any] = [known[arg] if isinstance(arg, fx.Node) else arg for arg in node.args]
    if not any(map(_is_array, args)):
        return target(*args)
    if any(isinstance(arg, fx.Node) and arg.meta["extent"] > Extent.HOST for arg in node.args):
        args = [_in(dtype, x) if _is_array(x) else x for x in args]
    return SPELLED[target.name](*args) if isinstance(target, Word) else target(*args)


def _in(dtype: Any, x: Any) -> Any:
    """Return an array in a dtype; conditions stay what they are."""
    return x if x.dtype in (dtype, bool) else x.astype(dtype)


def _computing(dtype: Any) -> Any:
    """Return the dtype to compute in."""
    return jnp.dtype(str(compute_dtype(getattr(torch, str(dtype)))).removeprefix("torch."))


def _number(value: Any) -> Any:
    """Return a number as a scalar array of the widest dtype that JAX has enabled."""
    return jnp.asarray(value, dtype=jnp.result_type(float))


def _norm(x: Any) -> Any:
    """Return the Euclidean norm of an array, by its largest entry, so that no square overflows or vanishes."""
    largest = jnp.max(jnp.abs(x), initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(jnp.sum((x / scale) ** 2))


def _total_norm(grads: list[Any]) -> Any:
    return _norm(jnp.stack([_number(_norm(g.astype(_computing(g.dtype)))) for g in grads]))


def _unit_norm(x: Any) -> Any:
    return _root_of_squares(x, axis=tuple(range(1, x.ndim)), keepdims=True) if x.ndim > 1 else _norm(x)


def _root_of_squares(x: Any, **dims: Any) -> Any:
    return jnp.sqrt(jnp.sum(x * x, **dims))


def _unit_mean(x: Any) -> Any:
    return jnp.mean(x, axis=range(1, x.ndim), keepdims=True) if x.ndim > 1 else jnp.zeros((), x.dtype)


def _head_mean(x: Any, heads: Any) -> Any:
    rows = jnp.mean(x, axis=-1).reshape(*x.shape[:-2], int(heads), -1)
    means = jnp.broadcast_to(jnp.mean(rows, axis=-1, keepdims=True), rows.shape)
    return means.reshape(*x.shape[:-1], 1)


def _along(reduction: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return a reduction of all dimensions but one, which stay with size 1."""

    def reduce(x: Any, axis: Any) -> Any:
        others = tuple(dim for dim in range(x.ndim) if dim != int(axis))
        return reduction(x, axis=others, keepdims=True) if others else x

    return reduce


def _where(condition: Any, a: Any, b: Any, like: Any = None) -> Any:
    sides = (a, b) if like is None else (jnp.asarray(a, like.dtype), jnp.asarray(b, like.dtype))
    return jnp.where(condition, *sides)


SPELLED: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "sqrt": jnp.sqrt,
        "maximum": jnp.maximum,
        "minimum": jnp.minimum,
        "absolute": jnp.abs,
        "sign": lambda x: jnp.where(jnp.isnan(x), 0, jnp.sign(x)),
        "log": jnp.log,
        "exp": jnp.exp,
        "atan2": jnp.arctan2,
        "sigmoid": jax.nn.sigmoid,
        "lerp": lambda a, b, weight: a + weight * (b - a),
        "where": _where,
        "rescaled": lambda x, factor: x * factor,
        "norm": _norm,
        "rms": lambda x: _root_of_squares(x) / x.size**0.5,
        "mean": jnp.mean,
        "total": jnp.sum,
        "row_mean": lambda x: jnp.mean(x, axis=-1, keepdims=True),
        "column_mean": lambda x: jnp.mean(x, axis=-2, keepdims=True),
        "head_mean": _head_mean,
        "unit_norm": _unit_norm,
        "unit_mean": _unit_mean,
        "axis_max": _along(lambda x, **dims: jnp.max(x, initial=0, **dims) if x.size == 0 else jnp.max(x, **dims)),
        "axis_total": _along(jnp.sum),
        "axis_mean": _along(jnp.mean),
    }
)
"""The words of `steepest.vocabulary` in jax.numpy, by name."""

assert SPELLED.keys() == WORDS.keys()

__all__ = ["TransformationState", "factory", "transformation"]
