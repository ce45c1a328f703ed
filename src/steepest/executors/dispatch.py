"""Dispatch of a group's parameters to the executors that run them, remembered from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor

from .. import group as groups
from .. import storage, sums, transforms
from ..fields import settle
from ..group import NOTHING, GroupSpec
from ..modes import Mode
from ..norms import norm_over_ranks, total_norm
from ..rule import Rule, Shared
from ..transforms.unscale import FOUND_INF, GRAD_SCALE
from . import shards, sparse
from .base import PLAIN_TYPES, ActiveParams, Bucket, ExecutorChoice, ExecutorName, MakeBuckets, UnsupportedError
from .choose import EXECUTORS, after_refusal, beside_sparse, choose, under_mode
from .compiled import COMPILED
from .partition import Buckets, in_waves
from .shared import Measurement, Phase

Group = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """The data that one step has for all groups.

    Attributes:
        groups: all parameter groups.
        state: the optimizer's state, by parameter.
        shared: the numbers that are the same for all groups.
        mode: the mode that intercepts operations, if there is one.
    """

    groups: list[Group]
    state: Any
    shared: Mapping[str, Any]
    mode: Mode | None


@dataclass(frozen=True)
class Resolved:
    """The values of a group's options, as numbers and switches.

    Attributes:
        options: the options as they were read.
        numbers: the run-time numbers.
        switches: the other options.
    """

    options: tuple[Any, ...]
    numbers: Mapping[str, Any]
    switches: Mapping[str, Any]

    @property
    def is_lasting(self) -> bool:
        """True if the same objects always mean the same values. A tensor or a list may be written in place."""
        return all(type(x) in LASTING or (type(x) is tuple and LASTING.issuperset(map(type, x))) for x in self.options)


NORMS = "the norms that max_norm and zclip clip by"
"""Name of the norm of all gradients in messages."""

LASTING = frozenset({float, int, bool, str, type(None)})
"""Types of options whose value cannot change in place."""


@dataclass(frozen=True)
class Known:
    """The buckets of a group at its last step.

    Attributes:
        samples: a parameter of each shape, with its rule.
        places: for each rule, the places of its parameters among those with gradients.
        of_rules: for each rule, the buckets of its parameters.
    """

    samples: list[tuple[Tensor, Rule]]
    places: list[list[int]]
    of_rules: list[Buckets]

    @property
    def buckets(self) -> Iterable[Bucket]:
        """All buckets of the group."""
        return (bucket for buckets in self.of_rules for bucket in buckets.buckets)


@dataclass(frozen=True)
class Prepared:
    """A group that is ready for one step: its buckets, and the values of its options."""

    group: Group
    known: Known
    resolved: Resolved

    @property
    def phases(self) -> list[Phase]:
        """The parts of the group whose rules have shared numbers."""
        return [
            Phase(
                self.group, buckets.spec.rule.shared, self.resolved.numbers, self.resolved.switches, buckets.measurement
            )
            for buckets in self.known.of_rules
            if buckets.spec.rule.shared is not None
        ]

    def run(self, shared: Mapping[tuple[int, int], Mapping[str, Any] | None]) -> None:
        """Run the step; ``shared`` has the shared numbers of each rule, or None for one that leaves the step out."""
        numbers = self.resolved.numbers
        for buckets in self.known.of_rules:
            declared = buckets.spec.rule.shared
            own = shared[id(declared), id(self.group)] if declared is not None else NOTHING
            if own is not None:
                for bucket in buckets.buckets:
                    bucket.step({**numbers, **own} if own else numbers)


class Dispatch:
    """The executors and buckets that run the parameter groups of one optimizer.

    Attributes:
        known: the buckets of each group at its last step, by the group's identity.
        ran: the specifications of each group at its last step, and the choices that ran them.
    """

    def __init__(self, cls: Any) -> None:
        """Remember nothing yet; ``cls`` is the optimizer's class."""
        self._cls = cls
        self._read = itemgetter(*cls.fields)
        stands_alone = "lr" in cls.fields and not any(field.default_from for field in cls.fields.values())
        self._rate = list(cls.fields).index("lr") if stands_alone else None
        self._resolved: dict[int, Resolved] = {}
        self.ran: dict[int, tuple[tuple[GroupSpec, ...], tuple[ExecutorChoice, ...]]] = {}
        self.forget_buckets()

    def forget_buckets(self) -> None:
        """Forget the buckets, which were made from parameters and state."""
        self.known: dict[int, Known] = {}
        self._held: list[dict[str, Any]] = []

    def forget_stale(self, state: Mapping[Tensor, dict[str, Any]]) -> None:
        """Forget the buckets if the state has been replaced (by load_state_dict, or a reset)."""
        if len(state) != len(self._held) or not all(map(is_, state.values(), self._held)):
            self.known, self._held = {}, list(state.values())

    def compiled(self, group: Group) -> None:
        """Remember that a group's step has become a graph."""
        self.known.pop(id(group), None)
        specs = tuple(groups.specs_of(self._cls, group, group["params"]).values())
        self.ran[id(group)] = specs, (COMPILED,)

    def name(self, group: Group) -> ExecutorName:
        """Return the name of the executor that ran a group or, before the first step, of the one that would run it."""
        specs = tuple(groups.specs_of(self._cls, group, group["params"]).values())
        ran = self.ran.get(id(group))
        choices = ran[1] if ran is not None and ran[0] == specs else (shards.choose_for(spec)[1] for spec in specs)
        return ExecutorName.of(choices)

    def reads_found_inf(self, param_groups: list[Group]) -> bool:
        """Return whether the executors of all groups read ``found_inf`` on the device, so that the host need not."""
        if not all(group.get("fused") and group.get("capturable") for group in param_groups):
            return False
        if not all(type(p) in PLAIN_TYPES for group in param_groups for p in group["params"]):
            return False
        specs = (s for group in param_groups for s in groups.specs_of(self._cls, group, group["params"]).values())
        return all(choose(spec).executor.is_capturable for spec in specs)

    def prepare(self, group: Group, step: Step) -> Prepared | None:
        """Return the buckets and numbers of a group for one step; None for a group without a part in it."""
        grads = [g for p in group["params"] if (g := p.grad) is not None]
        if not grads:
            return self._resting(group, step)
        resolved, is_unchanged = self._resolve(group, step)
        known = self.known.get(id(group))
        live: list[Tensor] = group["params"]
        if len(grads) < len(live):
            live = [p for p in live if p.grad is not None]
        if (
            known is None
            or not (is_unchanged or self._means_the_same(known, group, resolved, step))
            or not self._is_ready(known, live, grads, step)
        ):
            known = self._cut(group, list(live), resolved, step)
        self._remember(group, resolved, step)
        return Prepared(group, known, resolved)

    def _resting(self, group: Group, step: Step) -> Prepared | None:
        """Return a group without gradients, for sums that other ranks take too; None without such sums."""
        rules = dict.fromkeys(groups.rules_of(self._cls, group, group["params"]))
        if group["norm_group"] is None or all(rule.measuring is None for rule in rules):
            return None
        resolved, _ = self._resolve(group, step)
        specs = (GroupSpec.under(self._cls, rule, group, resolved.switches, step.shared) for rule in rules)
        made = [Buckets([], spec, choose(spec), []) for spec in specs]
        return Prepared(group, Known([], [[] for _ in made], made), resolved)

    def _resolve(self, group: Group, step: Step) -> tuple[Resolved, bool]:
        """Return a group's numbers and switches, and whether its rules must be those of the last step.

        Resolving takes as long as a small kernel, and most steps change nothing, or the learning rate only. That never
        decides about rules, state or transforms.
        """
        options = self._read(group)
        last = self._resolved.get(id(group))
        if last is not None and not step.shared:
            same = list(map(is_, options, last.options))
            if all(same):
                return last, True
            rate = self._rate
            if rate is not None and sum(same) == len(same) - 1 and not same[rate] and type(options[rate]) is float:
                return Resolved(options, {**last.numbers, "lr": options[rate]}, last.switches), True
        storage.check_decays(self._cls.fields, group)
        return Resolved(options, *groups.values(self._cls.fields, group, step.shared)), False

    def _remember(self, group: Group, resolved: Resolved, step: Step) -> None:
        """Remember the options that the group's buckets are now known to follow."""
        if self._resolved.get(id(group)) is not resolved:
            self._resolved.pop(id(group), None)
            if resolved.is_lasting and not step.shared:
                self._resolved[id(group)] = resolved

    def _means_the_same(self, known: Known, group: Group, resolved: Resolved, step: Step) -> bool:
        """Return whether the group's options call for the rules and specifications that its buckets were made for."""
        if not all(self._cls.rule_for(group, p) is rule for p, rule in known.samples):
            return False
        return all(
            GroupSpec.under(self._cls, buckets.spec.rule, group, resolved.switches, step.shared) == buckets.spec
            for buckets in known.of_rules
        )

    def _is_ready(self, known: Known, live: list[Tensor], grads: list[Tensor], step: Step) -> bool:
        """Return whether the parameters and gradients are those that the buckets were made from."""
        if sum(map(len, known.places)) != len(live):
            return False
        for places, buckets in zip(known.places, known.of_rules, strict=True):
            is_whole = len(places) == len(live)
            own = (live, grads) if is_whole else ([live[i] for i in places], [grads[i] for i in places])
            if not buckets.ready(*own, step.mode):
                return False
        return True

    def _cut(self, group: Group, live: list[Tensor], resolved: Resolved, step: Step) -> Known:
        """Make the buckets of a group, and the state that its parameters lack.

        Under a mode that intercepts operations, only buckets that the mode can see are made, and none are remembered.
        """
        settle(self._cls.fields, group)
        numbers, switches = tuple(resolved.numbers), resolved.switches
        rules = groups.rules_of(self._cls, group, live)
        places = {rule: [i for i, own in enumerate(rules) if own is rule] for rule in dict.fromkeys(rules)}
        specs = [GroupSpec.under(self._cls, rule, group, switches, step.shared) for rule in places]
        streams = groups.streams(step.groups, group, live, places)
        made: list[Buckets] = []
        has_first = False
        for spec, members in zip(specs, places.values(), strict=True):
            own = [live[i] for i in members]
            sparse.check(spec, own)
            shards.check(own)
            spec.check()
            before = [set(step.state.get(p, ())) for p in own]
            first = [spec.create_state(step.state, p) for p in own]
            has_first = has_first or any(first)
            states = [step.state.get(p, {}) for p in own]
            params = ActiveParams(spec, own, states, first, [streams[i] for i in members], numbers)
            try:
                made.append(self._buckets(params, step))
            except BaseException:
                _forget_new(step.state, own, before)
                raise
        known = Known(self._samples(live, rules), list(places.values()), made)
        self.ran[id(group)] = tuple(specs), tuple(buckets.choice for buckets in made)
        is_waiting = switches.get("capturable") and not all(buckets.choice.executor.is_capturable for buckets in made)
        if has_first or step.mode or is_waiting or switches.get("differentiable"):
            self.known.pop(id(group), None)
        else:
            self.known[id(group)] = known
        return known

    def _samples(self, live: list[Tensor], rules: list[Rule]) -> list[tuple[Tensor, Rule]]:
        """Return the parameters that `rule_for` is asked about at each step.

        One of each shape and dtype is enough: `rule_for` decides by the options and by a parameter's shape.
        """
        if self._cls.has_one_rule:
            return []
        of_shapes = {(p.shape, p.dtype): (p, rule) for p, rule in zip(live, rules, strict=True)}
        return list(of_shapes.values())

    def _buckets(self, params: ActiveParams, step: Step) -> Buckets:
        mode = step.mode
        spec, chosen = (params.spec, choose(params.spec)) if mode else shards.choose_for(params.spec)
        params = replace(params, spec=spec)
        choice = beside_sparse(under_mode(chosen, spec, mode) if mode else chosen, params)
        try:
            return self._made(params, choice, step)
        except UnsupportedError as refusal:
            return self._made(params, beside_sparse(after_refusal(chosen, spec, refusal), params), step)

    def _made(self, params: ActiveParams, choice: ExecutorChoice, step: Step) -> Buckets:
        make, shared = choice.executor.make_buckets, params.spec.rule.shared
        measuring = params.spec.measuring(step.shared)
        measurement = None
        if shared is not None:
            measurement = None if measuring is None else _measurement(params, measuring, shared, make)
            params = replace(params, numbers=(*params.numbers, *params.spec.shared))
        make = partial(in_waves, make_buckets=make)
        buckets = list(shards.make_buckets(params, make_buckets=make, executor=choice.executor))
        return Buckets(params.params, params.spec, choice, buckets, measurement)


def _measurement(params: ActiveParams, spec: GroupSpec, shared: Shared, make: MakeBuckets) -> Measurement:
    """Return what takes the sums of a rule; of parameters that are split over ranks from parts, where these add up."""
    in_parts = shards.measured_in_parts(params, spec, shared.sums)
    adds = any(p is not None for p in in_parts)
    wrapped = partial(shards.make_buckets, make_buckets=make, is_additive=adds)
    return Measurement.of(params, spec, shared, wrapped, in_parts)


def _forget_new(states: dict[Tensor, dict[str, Any]], params: list[Tensor], before: list[set[str]]) -> None:
    """Forget state that was made for a step that cannot run, so that the next step is again the first."""
    for p, known in zip(params, before, strict=True):
        held = states.pop(p, {})
        if kept := {name: value for name, value in held.items() if name in known}:
            states[p] = kept


def source(spec: GroupSpec) -> str:
    """Return the code that runs for a group, from the first executor that generates code and suits it.

    Raises:
        RuntimeError: the executor cannot run the rule. For a group that suits none it is the last one that says why.
    """
    generating = [(executor, executor.source) for executor in EXECUTORS if executor.source is not None]
    of_group = next((source for executor, source in generating if executor.suits(spec)), generating[-1][1])
    return of_group(spec)


def shared_numbers(cls: Any, param_groups: list[Group], scale: Any, found: Any, holder: str) -> dict[str, Any]:
    """Return the numbers that all groups of a step share: the gradients' scale, and their norm if a group clips.

    Args:
        cls: the optimizer's class.
        param_groups: the optimizer's groups.
        scale: the factor by which the gradients are still multiplied; None for 1.
        found: the tensor that is not 0 where the step is left out, for executors that read it; None for others.
        holder: the wrapper that handed over only a part of the parameters; see `sums.holder_of_parts`.
    """
    numbers = {} if scale is None else {GRAD_SCALE: scale}
    numbers |= {} if found is None else {FOUND_INF: found}
    clipping = clipping_groups(param_groups)
    if not clipping:
        return numbers
    for group in clipping:
        for spec in groups.specs_of(cls, group, group["params"]).values():
            sparse.check(spec, [p for p in group["params"] if p.grad is not None])
    with torch.set_grad_enabled(any(group.get("differentiable") for group in clipping)):
        norm = _norm(clipping, 1 if scale is None else scale, sums.norm_group_of(clipping, NORMS, holder))
    return numbers if norm is None else {**numbers, "norm": norm}


def clipping_groups(param_groups: list[Group]) -> list[Group]:
    """Return the groups that clip by the norm of all their gradients."""
    return [group for group in param_groups if transforms.read_norm(group)]


def _norm(clipping: list[Group], scale: Any, norm_group: str | None) -> Tensor | None:
    """Return the norm of the groups' gradients, over all ranks that have a part of them; None without a gradient."""
    params = [p for group in clipping for p in group["params"]]
    grads = [p.grad for p in params if p.grad is not None]
    if not grads and norm_group is None:
        return None
    return norm_over_ranks(total_norm(grads, scale) if grads else sums.nothing(params), norm_group)
