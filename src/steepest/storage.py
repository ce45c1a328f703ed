"""Storage of parameters and state: its options, the codecs that they choose, and conversion between forms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .codecs import BLOCK, Bfloat16, Codec, Int8, Kahan, decode_whole, encode_whole
from .fields import Field, Options, State, View, hyper
from .kinds import KINDS
from .rule import PLANNED_KINDS, Rule
from .sharding import is_dtensor, split_as, split_in_runs, whole

SMALLEST = 4096
"""Smallest number of elements of a parameter whose state is coded: below it, there is nothing to save."""

SLOWEST = 2.0**-8
"""Smallest relative move of an average in bfloat16: a smaller one may be lost when it is rounded to nearest."""

COMPUTED_IN_FLOAT32 = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of parameters whose state can be coded."""

STEP = State("step", "step")
"""The step count that the random bits depend on, for a rule that has none."""

COMPENSATION = Kahan().keys("p")[0]
"""Key of the Kahan compensation buffer in a parameter's state."""


def state_dtype() -> Any:
    """Declare ``state_dtype``, which every optimizer takes."""
    doc = "how state like the parameter is kept: 'bfloat16' (2 bytes) or 'int8' (1 byte); None keeps it as it is"
    aliases = ((torch.bfloat16, "bfloat16"), (torch.int8, "int8"))
    return hyper(None, doc, choices=("bfloat16", "int8"), aliases=aliases)


def state_rounding() -> Any:
    """Declare ``state_rounding``, which every optimizer takes."""
    doc = "how state is rounded to its state_dtype: 'stochastic' keeps averages unbiased, 'nearest' is for fast ones"
    return hyper("stochastic", doc, choices=("stochastic", "nearest"))


def parameter_rounding() -> Any:
    """Declare ``parameter_rounding``, which every optimizer takes."""
    doc = "how bfloat16 parameters keep small updates: 'stochastic', or 'kahan' (2 more bytes); None rounds to nearest"
    return hyper(None, doc, choices=("stochastic", "kahan"), aliases=(("nearest", None),))


def seed() -> Any:
    """Declare ``seed``, which every optimizer takes."""
    return hyper(
        0,
        "seed of a rule's random numbers and of the bits of stochastic rounding; independent of torch's generators",
        low=0,
        high=2**32,
        integer=True,
    )


def coding(states: Iterable[State], options: Options, p: Tensor) -> dict[str, Codec]:
    """Return the codecs that a group's options ask for: of a parameter (under ``"p"``) and of its state."""
    found: dict[str, Codec] = {}
    if options["parameter_rounding"]:
        found["p"] = Kahan() if options["parameter_rounding"] == "kahan" else Bfloat16()
    if options["state_dtype"] and p.numel() >= SMALLEST:
        like = (state for state in states if state.is_codable and state.where(p))
        found.update({state.name: _state_codec(state, options) for state in like})
    return found


def _state_codec(state: State, options: Options) -> Codec:
    if options["state_dtype"] == "int8":
        return Int8(state.nonnegative)
    return Bfloat16(stochastic=options["state_rounding"] == "stochastic")


def counts(states: Iterable[State], codecs: Mapping[str, Codec]) -> tuple[State, ...]:
    """Return the step count that random bits need, where nothing in ``states`` counts the steps; else nothing."""
    is_needed = any(codec.stochastic for codec in codecs.values())
    return (STEP,) if is_needed and not any(state.kind == "step" for state in states) else ()


# -- what cannot be ----------------------------------------------------------------------------------------------------


def check(name: str, rule: Rule, fields: Mapping[str, Field], options: Options) -> None:
    """Raise `ValueError` where a group's parameters and state cannot be kept as its options say.

    Args:
        name: the optimizer's name, for the message.
        rule: the group's rule.
        fields: the optimizer's fields.
        options: the group, including its parameters.
    """
    asked = {option: options[option] for option in ("state_dtype", "parameter_rounding") if options[option]}
    for option, value in asked.items():
        if rule.kind not in PLANNED_KINDS:
            raise ValueError(
                f"{option}={value!r} works with pointwise and per_tensor rules, and {name} runs {rule.fn.__name__}, a "
                f"{rule.kind} rule; leave {option}=None"
            )
        if options.get("differentiable"):
            raise ValueError(
                f"{option}={value!r} rounds, which has no derivative; leave it None, or differentiable=False"
            )
    if "parameter_rounding" in asked:
        _check_dtypes("parameter_rounding", options, (torch.bfloat16,))
    if "state_dtype" in asked:
        _check_dtypes("state_dtype", options, COMPUTED_IN_FLOAT32)
        _check_rounding(name, rule, fields, options)


def _check_dtypes(option: str, options: Options, allowed: tuple[torch.dtype, ...]) -> None:
    for p in options["params"]:
        if p.dtype not in allowed:
            words = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
            raise ValueError(
                f"{option}={options[option]!r} works with parameters of {words}, and the one of shape {tuple(p.shape)} "
                f"is {str(p.dtype).removeprefix('torch.')}; give it to a group with {option}=None"
            )


def _check_rounding(name: str, rule: Rule, fields: Mapping[str, Field], options: Options) -> None:
    if options["state_rounding"] != "nearest":
        return
    if options["state_dtype"] == "int8":
        raise ValueError(
            "state_dtype='int8' cannot be rounded to nearest: a second moment then sticks, a third too large or too "
            "small; leave state_rounding='stochastic'"
        )
    forgets = any(f.is_decay for f in fields.values() if f.name in rule.names or rule.names & set(f.names))
    if not forgets and any(s.is_codable and s.when(options) for s in rule.state):
        raise ValueError(
            f"{name} sums up without forgetting, and a bfloat16 sum rounded to nearest stops growing; leave "
            f"state_rounding='stochastic'"
        )
    check_decays(fields, options)


def check_decays(fields: Mapping[str, Field], options: Options) -> None:
    """Raise `ValueError` for an average that is too slow to be rounded to nearest in bfloat16."""
    if options["state_dtype"] is None or options["state_rounding"] != "nearest":
        return
    for declared in (f for f in fields.values() if f.is_decay):
        values = options[declared.name]
        for value in _numbers_in(values):
            if 1 - value < SLOWEST:
                raise ValueError(
                    f"state_rounding='nearest' with {declared.name}={values!r}: an average that keeps {value:g} "
                    f"of itself moves by less than bfloat16 can hold, so it would never decay; decays up to "
                    f"{1 - SLOWEST:g} are allowed, and any with state_rounding='stochastic'"
                )


def _numbers_in(values: Any) -> list[float]:
    """Return the decays among an option's values that are numbers. Schedules are checked where they are declared."""
    if isinstance(values, Mapping):
        values = tuple(values.values())
    each = values if isinstance(values, (tuple, list)) else (values,)
    return [float(value) for value in each if isinstance(value, (int, float, Tensor))]


def restore_counters(states: Iterable[State], held: dict[str, Any], p: Tensor, options: Options) -> None:
    """Make floating-point 0-dim tensors of step counts and scalars that are numbers or other tensors.

    Such values come from older files of torch, or were put there by hand.
    """
    for declared in states:
        value: Any = held.get(declared.name)
        if KINDS[declared.kind].is_number and _is_misplaced_number(value):
            held[declared.name] = replace(declared, init=float(value)).create(p, options)


def _is_misplaced_number(value: Any) -> bool:
    """Return whether a step count or scalar is one number, but not in a floating-point tensor without dimensions."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not (value.is_floating_point() and not value.dim())
    return isinstance(value, Real)


# -- from one form to another ------------------------------------------------------------------------------------------


def create(state: State, codec: Codec | None, p: Tensor, options: Options, view: View | None = None) -> dict[str, Any]:
    """Create the first value of one state of ``p`` as it is kept, by its keys; ``view`` is that of the rule."""
    if codec is None:
        return {state.name: state.create(p, options, view)}
    if state.init == 0.0:
        return _placed(codec, state.name, codec.zeros(p.detach()), p)
    return _encoded(state, codec, state.create(p, options), p)


def create_compensation(states: dict[Tensor, Any], p: Tensor, codecs: Mapping[str, Codec]) -> None:
    """Create the Kahan compensation buffer of ``p`` if the options ask for one and it is missing.

    Raises:
        RuntimeError: the buffer exists, and the options do not ask for one.
    """
    is_there = COMPENSATION in states.get(p, {})
    if isinstance(codecs.get("p"), Kahan):
        if not is_there:
            states[p][COMPENSATION] = torch.zeros_like(p.detach(), memory_format=torch.preserve_format)
    elif is_there:
        raise RuntimeError(
            "a parameter's state has a Kahan compensation, and the group's parameter_rounding is not 'kahan'; set it "
            "with optimizer.convert_state(parameter_rounding=...), which converts what there is"
        )


def kept(state: State, codec: Codec | None, values: Tensor, p: Tensor) -> dict[str, Any]:
    """Return new values of one state as it is kept, by its keys. Coded values are rounded to nearest."""
    return {state.name: values.to(p.dtype)} if codec is None else _encoded(state, codec, values, p)


def _encoded(state: State, codec: Codec, values: Tensor, p: Tensor) -> dict[str, Any]:
    """Encode ``values`` in the layout of ``p``, rounded to nearest, since they are rounded only this once."""
    if values.shape != p.shape:
        shapes = f"{tuple(values.shape)}, and its parameter {tuple(p.shape)}"
        raise ValueError(f"state {state.name!r} has shape {shapes}; load the state of the same model")
    values = whole(values).to_dense()
    like = values if is_dtensor(p) else p.detach()
    x = torch.empty_like(like, dtype=torch.float32, device=values.device, memory_format=torch.preserve_format)
    x.copy_(values)
    parts = codec.zeros(x)
    encode_whole(codec.to_nearest(), x, parts, 0)
    return _placed(codec, state.name, parts, p)


def _placed(codec: Codec, name: str, parts: Iterable[Tensor], p: Tensor) -> dict[str, Any]:
    """Return the parts of a coded tensor by their keys, split over ranks as the parameter is."""
    own = (part if is_dtensor(part) else _split(part, p) for part in parts)
    return dict(zip(codec.keys(name), own, strict=True))


def _split(part: Tensor, p: Tensor) -> Tensor:
    return split_as(p, part) if part.shape == p.shape else split_in_runs(p, part, BLOCK)


def _codecs_of(state: State) -> tuple[Codec, ...]:
    """Return all codecs that a state may be kept with."""
    return Bfloat16(), Int8(state.nonnegative)


def read(state: State, held: Mapping[str, Any]) -> Tensor | None:
    """Return the values of a state, in whatever form they are kept, or None where they are missing.

    Raises:
        ValueError: some parts of the state are there, and others are not.
    """
    plain = held.get(state.name)
    if isinstance(plain, Tensor):
        return plain
    for codec in _codecs_of(state):
        parts = [held[key] for key in codec.keys(state.name) if isinstance(held.get(key), Tensor)]
        if len(parts) == len(codec.suffixes):
            return split_as(parts[0], decode_whole(codec, list(map(whole, parts))))
        if parts:
            raise ValueError(f"state {state.name!r} is kept in {' and '.join(codec.keys(state.name))}; one is missing")
    return None


def is_absent(state: State, held: Mapping[str, Any]) -> bool:
    """Return whether a state has no entry in any form, not even an entry of None."""
    return not any(key in held for codec in (None, *_codecs_of(state)) for key in _keys(state, codec))


def is_lacking(state: State, codec: Codec | None, held: Mapping[str, Any]) -> bool:
    """Return whether a state is not there in any form.

    Raises:
        RuntimeError: the state is there in another form than the codec's, or only in part.
    """
    wanted = _keys(state, codec)
    if all(held.get(key) is not None for key in wanted):
        return False
    there = [key for other in (None, *_codecs_of(state)) for key in _keys(state, other) if held.get(key) is not None]
    if not there:
        return True
    if set(there) < set(wanted):
        raise RuntimeError(f"state {state.name!r} is kept in {' and '.join(wanted)}, and only {there[0]} is there")
    raise RuntimeError(
        f"state {state.name!r} is kept as {' and '.join(there)}, and its group's options want {' and '.join(wanted)}; "
        f"set state_dtype with optimizer.convert_state(state_dtype=...), which converts what there is"
    )


def _keys(state: State, codec: Codec | None) -> tuple[str, ...]:
    return (state.name,) if codec is None else codec.keys(state.name)


def converted(held: Mapping[str, Any], declared: Sequence[State], options: Options, p: Tensor) -> dict[str, Any]:
    """Return one parameter's state, in whatever form it is, in the form that its group's options ask for.

    Values that are in the right form already stay as they are.

    Args:
        held: the state by its keys.
        declared: all state that may exist.
        options: the group, with the options that say how state is kept.
        p: the parameter; state that is not coded will be in its dtype.
    """
    codecs = coding(declared, options, p)
    states = [state for state in declared if state.is_codable]
    owners = {key: state for state in states for codec in (None, *_codecs_of(state)) for key in _keys(state, codec)}
    spare = _spare_keys(declared, codecs)
    result: dict[str, Any] = {}
    for key, value in held.items():
        state = owners.get(key)
        if state is not None:
            result.update(_kept(state, held, codecs.get(state.name), p))
        elif key not in spare:
            result[key] = value
    return result


def _spare_keys(declared: Sequence[State], codecs: Mapping[str, Codec]) -> set[str]:
    """Return the keys that coded storage adds to a rule's state and that ``codecs`` do not need."""
    added = {STEP.name, COMPENSATION} - {state.name for state in declared}
    needed = {state.name for state in counts(declared, codecs)}
    return added - needed - ({COMPENSATION} if isinstance(codecs.get("p"), Kahan) else set())


def _kept(state: State, held: Mapping[str, Any], codec: Codec | None, p: Tensor) -> dict[str, Any]:
    keys = _keys(state, codec)
    if all(isinstance(held.get(key), Tensor) for key in keys):
        return {key: held[key] for key in keys}
    values = read(state, held)
    if values is None:
        return {}
    return kept(state, codec, values, p)


# -- files -------------------------------------------------------------------------------------------------------------

MARK = float("nan")
"""Value in a state dict under a coded state's plain name.

torch's classes fail at their first step on a number. Without the mark, torch's SGD would silently start a new momentum.
"""


def marked(held: Mapping[str, Any], states: Iterable[State]) -> dict[str, Any]:
    """Return ``held`` with a mark under the plain name of everything coded, and with whole counts as plain ints."""
    states = tuple(states)
    coded = (s.name for s in states if s.name not in held and any(key in held for key in _coded_keys(s)))
    counts = {s.name: int(held[s.name]) for s in states if s.saved_as_int and s.name in held}
    return {**held, **dict.fromkeys(coded, MARK), **counts}


def _coded_keys(state: State) -> Iterator[str]:
    return (key for codec in _codecs_of(state) for key in codec.keys(state.name))


@dataclass(frozen=True)
class Sealed:
    """Tensor that passes through torch's ``load_state_dict``, which casts tensors to their parameter's dtype."""

    tensor: Tensor


def sealed(held: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return ``held`` with the tensors under ``names`` sealed."""
    return {key: Sealed(value) if key in names and isinstance(value, Tensor) else value for key, value in held.items()}


def unseal(held: dict[str, Any], p: Tensor) -> None:
    """Take sealed tensors out again, on the parameter's device."""
    held.update({key: value.tensor.to(p.device) for key, value in held.items() if isinstance(value, Sealed)})
