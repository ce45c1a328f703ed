"""Resolved options of a parameter group: its rule, state, transforms, switches, codecs and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from . import storage, transforms
from .codecs import Codec, stream_of
from .fields import PLACE, Fields, Options, State
from .kinds import RANK
from .modes import intercepting
from .rule import Kind, Program, Rule, Structure, Wrapper, assembled, only, program
from .versions import share_versions

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class GroupSpec:
    """Meaning of a group's options for all parameters that share a rule. Equal specifications run the same programs.

    Attributes:
        name: the name of the optimizer's class, for messages.
        fields: the declared arguments.
        rule: the rule.
        declared: all state that the rule and the transforms declare.
        existing: the declared state that exists under the options.
        wrappers: the transforms that do something under the options, from the rule outwards.
        kind: the scope of the rule in its transforms.
        is_by_element: whether each transform looks at one element at a time.
        is_real: whether the rule or a transform refuses complex parameters.
        switches: the options that are not numbers, and numbers that are None, by the names that rules use.
        options: the group itself.
        shared: names of the numbers, shared by parameters, that programs read in addition to the group's own.
        writes: whether parameters and state are written. They are not where only sums are taken.
    """

    name: str
    fields: Fields = field(compare=False)
    rule: Rule
    declared: tuple[State, ...]
    existing: tuple[State, ...]
    wrappers: tuple[Wrapper, ...]
    kind: Kind
    is_by_element: bool
    is_real: bool
    switches: Mapping[str, Any]
    options: Options = field(compare=False)
    shared: tuple[str, ...] = ()
    writes: bool = True

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of all run-time numbers of the group's programs, but the counters."""
        return *values(self.fields, self.options)[0], *self.shared

    @staticmethod
    def of(cls: Any, options: Options, p: Tensor | None = None) -> GroupSpec:
        """Resolve a group for one of its parameters or, without a parameter, for any of them."""
        return GroupSpec.under(cls, cls.rule_for(options, p), options, values(cls.fields, options)[1])

    @staticmethod
    def under(
        cls: Any,
        rule: Rule,
        options: Options,
        switches: Mapping[str, Any],
        shared: Mapping[str, Any] = NOTHING,
    ) -> GroupSpec:
        """Resolve a group under a known rule and known switches; ``shared`` has a step's values for all groups."""
        own = {name: options[name] for name in cls.fields}  # a key that is not a field does nothing
        own.update(shared)
        declared = declared_by(rule)
        existing = tuple([state for state in declared if state.when(options)])
        wrapping = [(transform, transform.wrapper(rule, own)) for transform in transforms.order()]
        active = [(transform, wrapper) for transform, wrapper in wrapping if wrapper is not None]
        wrappers = tuple([wrapper for _, wrapper in active])
        is_by_element = all(transform.kind == "pointwise" for transform, _ in active)
        kind: Kind = "per_tensor" if rule.kind == "pointwise" and not is_by_element else rule.kind
        is_real = rule.is_real or any(transform.is_real for transform, _ in active)
        names = () if rule.shared is None else rule.shared.numbers
        return GroupSpec(
            cls.__name__,
            cls.fields,
            rule,
            declared,
            existing,
            wrappers,
            kind,
            is_by_element,
            is_real,
            switches,
            options,
            names,
        )

    def state(self, p: Tensor | None = None) -> tuple[State, ...]:
        """Return the state that exists for ``p``, or for any parameter."""
        return self.existing if p is None else tuple(state for state in self.existing if state.where(p))

    def codecs(self, p: Tensor) -> dict[str, Codec]:
        """Return the codecs of ``p`` and its state, where they are not plain, whether or not the state exists."""
        return storage.coding(self.declared, self.options, p)

    def program(self, p: Tensor | None = None, *, first: bool = False) -> Program:
        """Return the program that runs for a parameter at, or after, its first step.

        Args:
            p: the parameter. Its shape and dtype decide which state it has and how the state is kept. None stands for
                plain values with all state that exists.
            first: whether the parameter's state has just been made.

        Raises:
            RuntimeError: the parameter is complex and the rule is for real numbers, in torch's words.
        """
        rule = self.rule
        if self.is_real and p is not None and p.is_complex():
            raise RuntimeError(f"{self.name} does not support complex parameters; give them to another class")
        eps = torch.finfo(torch.get_default_dtype() if p is None else p.dtype).eps
        settled = {**self.switches, "first": first, "machine_eps": eps, "precision": rule.precision}
        named = tuple((name, settled[name]) for name in settled if name in rule.names)
        existing = self.state(p)
        codecs = {} if p is None else storage.coding(existing, self.options, p)
        if not self.writes:
            codecs = {name: codec.to_nearest() for name, codec in codecs.items()}
        state = (*storage.counts(existing, codecs), *existing)
        make = assembled if torch.compiler.is_compiling() else program
        return make(Structure(rule, state, self.wrappers, named, tuple(codecs.items()), self.kind))

    def programs(self) -> tuple[Program, ...]:
        """Return the programs that run for the group's parameters, each once; none for those that the rule refuses."""
        samples = {(p.shape, p.dtype): p for p in self.options["params"] if not (self.is_real and p.is_complex())}
        return tuple(dict.fromkeys(map(self.program, samples.values())))

    def measuring(self, shared: Mapping[str, Any] = NOTHING) -> GroupSpec | None:
        """Return the specification under which the rule's sums are taken, before the step; None without sums.

        ``shared`` has a step's values for all groups.
        """
        rule = self.rule.measuring
        if rule is None or self.rule.shared is None:
            return None
        own = {**{name: self.options[name] for name in self.fields}, **shared}
        found = (transform.wrapper(self.rule, own) for transform in transforms.before_rule())
        sums = rule.state[len(rule.state) - len(self.rule.shared.sums) :]
        read = (*rule.state, *(s for transform in transforms.before_rule() for s in transform.state_around(self.rule)))
        existing = (*(s for s in self.existing if s in read), *sums)
        wrappers = (*(wrapper for wrapper in found if wrapper is not None), only(self.rule.shared.sums))
        return replace(
            self,
            rule=rule,
            existing=existing,
            wrappers=wrappers,
            kind="per_tensor",
            shared=tuple(self.rule.shared.kept),
            writes=False,
        )

    def check(self) -> None:
        """Raise `ValueError` for options that the transforms, or the storage of state, cannot do with the rule."""
        for transform in transforms.order():
            if transform.check is not None:
                transform.check(self.rule, self.options)
        storage.check(self.name, self.rule, self.fields, self.options)

    def create_state(self, states: Any, p: Tensor, *, at_construction: bool = False) -> bool:
        """Create the state that ``p`` lacks.

        Args:
            states: the optimizer's state by parameter.
            p: the parameter.
            at_construction: create only the state that torch creates in the constructor.

        Returns:
            Whether any of the rule's own state was created. State of a transform may be created later.
        """
        held, codecs, existing = states.get(p, {}), self.codecs(p), self.state(p)
        storage.restore_counters(self.declared, held, p, self.options)
        for state in existing if RANK in self.fields else ():
            state.refuse_other_shape(held, p, self.options, self.rule.view)
        lacking = [
            state
            for state in (*storage.counts(existing, codecs), *existing)
            if (state.at_construction or not at_construction)
            and state.kind != "shared"
            and storage.is_lacking(state, codecs.get(state.name), held)
        ]
        options = {**self.options, PLACE: len(states)} if any(callable(s.init) for s in lacking) else self.options
        others = states.values()
        for state in lacking:
            made = storage.create(state, codecs.get(state.name), p, options, self.rule.view)
            states[p].update(made if options.get("differentiable") else share_versions(made, others))
        if not at_construction:
            storage.create_compensation(states, p, codecs)
        return any(state in self.rule.state for state in lacking)


def declared_by(rule: Rule) -> tuple[State, ...]:
    """Return all state that a rule and the transforms around it declare."""
    return (*rule.state, *(state for transform in transforms.order() for state in transform.state_around(rule)))


def rules_of(cls: Any, options: Options, params: Sequence[Tensor]) -> list[Rule]:
    """Return the rule of each parameter."""
    return [cls.rule] * len(params) if cls.has_one_rule else [cls.rule_for(options, p) for p in params]


def specs_of(cls: Any, options: Options, params: Sequence[Tensor]) -> dict[Rule, GroupSpec]:
    """Return the specification of each rule that a group's parameters have; of a typical rule without parameters."""
    switches = values(cls.fields, options)[1]
    rules = dict.fromkeys(rules_of(cls, options, params) or [cls.rule_for(options)])
    return {rule: GroupSpec.under(cls, rule, options, switches) for rule in rules}


def kept_by(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return the names of the numbers that the rules keep in a group."""
    return tuple(name for rule in rules if rule.shared is not None for name in rule.shared.kept)


def values(
    fields: Fields, options: Options, shared: Mapping[str, Any] = NOTHING
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a group's run-time numbers and its switches; ``shared`` has a step's values for all groups."""
    numbers: dict[str, Any] = {}
    switches: dict[str, Any] = {}
    for name, declared in fields.items():
        value = options[name]
        kind = type(value)
        if name not in fields.numbers:
            switches[declared.names[-1]] = (
                value if kind is bool or kind is str or value is None else declared.settle(value)
            )
        elif kind is float or kind is int:
            numbers[name] = value
        elif value is None and declared.default_from:
            numbers[name] = options[declared.default_from]
        elif value is None:
            switches[name] = value
        else:
            for entry, v in declared.unpack(declared.settle(value)).items():
                (switches if v is None else numbers)[entry] = v
    numbers.update(numbers_of_transforms(options, shared))
    if any(isinstance(v, Tensor) for v in numbers.values()):
        read = Tensor.squeeze if _stay_tensors(options) else Tensor.item
        numbers = {n: read(v) if isinstance(v, Tensor) else v for n, v in numbers.items()}
    return numbers, switches


def numbers_of_transforms(options: Options, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run-time numbers that transforms read in addition to a group's own; see `Transform.numbers`."""
    numbers: dict[str, Any] = {}
    for transform in transforms.order():
        if transform.numbers is not None:
            numbers.update(transform.numbers(options, shared))
    return numbers


def _stay_tensors(options: Options) -> bool:
    """Return whether numbers in tensors are left there, because they stay on their device or cannot be read."""
    if options.get("capturable") or options.get("differentiable") or torch.compiler.is_compiling():
        return True
    mode = intercepting()
    return mode is not None and mode.hides_values


def streams(groups: Iterable[Options], group: Options, live: list[Tensor], rules: Iterable[Rule]) -> list[int]:
    """Return the streams of random bits of parameters; zeros where neither storage nor rules take any.

    A stream depends on the seed and on the parameter's place among all parameters.
    """
    if not (group["state_dtype"] or group["parameter_rounding"] or any(rule.takes_stream for rule in rules)):
        return [0] * len(live)
    params = (p for each in groups for p in each["params"])
    places = {id(p): place for place, p in enumerate(params)}
    return [stream_of(group["seed"], places[id(p)]) for p in live]
