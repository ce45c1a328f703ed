"""Numbers that parameters have in common: sums over tensors, taken before a step, and their renewal.

A rule that declares `Shared` runs in two phases. The first one runs a program of the rule's own executor, which writes
the sums of each tensor and nothing else. They are added up in double on the host, over a group or over all groups, and
over the ranks of ``norm_group``. The rule's function then renews the numbers, which the second phase reads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..group import GroupSpec
from ..rule import Rule
from ..rule import Shared as Declared
from ..transforms.clip import added_over_ranks
from .base import ActiveParams, Bucket, MakeBuckets

Group = dict[str, Any]


@dataclass(eq=False)
class Measurement:
    """Buckets that write the sums of some parameters.

    Attributes:
        buckets: the buckets.
        sums: the sums of each tensor, (parameters, sums), in double.
        held: the state that the buckets read, and the state of the optimizer, which must hold the same tensors.
    """

    buckets: list[Bucket]
    sums: Tensor
    held: list[tuple[dict[str, Any], dict[str, Any]]]

    @staticmethod
    def of(live: ActiveParams, spec: GroupSpec, shared: Declared, make_buckets: MakeBuckets) -> Measurement:
        """Make the buckets of parameters under a specification that measures."""
        names = shared.sums
        sums = torch.zeros(len(live.params), len(names), dtype=torch.float64, device=live.params[0].device)
        columns = [dict(zip(names, row.unbind(), strict=True)) for row in sums.unbind()]
        states = [{**own, **column} for own, column in zip(live.states, columns, strict=True)]
        numbers = (*live.numbers, *shared.kept)
        measured = ActiveParams(spec, live.params, states, live.first, live.streams, numbers)
        return Measurement(list(make_buckets(measured)), sums, list(zip(states, live.states, strict=True)))

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether the buckets still describe the parameters, their gradients and their state."""
        same = (is_(copied.get(name), x) for copied, own in self.held for name, x in own.items())
        return all(same) and all(bucket.ready([grads[i] for i in bucket.members]) for bucket in self.buckets)

    def take(self, numbers: Mapping[str, Any]) -> Tensor:
        """Run the buckets and return the sums over their tensors, in double."""
        for bucket in self.buckets:
            bucket.step(numbers)
        return self.sums.sum(0)


def start(fields: Mapping[str, Any], group: Group, rules: Iterable[Rule]) -> None:
    """Put the first values of shared numbers into a group that lacks them.

    Raises:
        TypeError: a shared number has the name of one of the class's ``fields``.
    """
    for shared in (rule.shared for rule in rules if rule.shared is not None):
        for name, first in shared.kept.items():
            if name in fields:
                raise TypeError(f"the shared number {name!r} has the name of an option; give it another name")
            group.setdefault(name, group[first] if isinstance(first, str) else first)


@dataclass(frozen=True)
class Phase:
    """Parameters of a group that share a rule with shared numbers.

    Attributes:
        group: the group.
        declared: the rule's declaration.
        numbers: the group's run-time numbers.
        switches: the group's other options.
        measurement: the sums of these parameters; None for a rule without sums.
    """

    group: Group
    declared: Declared
    numbers: Mapping[str, Any]
    switches: Mapping[str, Any]
    measurement: Measurement | None

    @property
    def last(self) -> dict[str, Any]:
        """The group's run-time numbers and the shared ones of the last step."""
        return {**self.numbers, **{name: self.group[name] for name in self.declared.kept}}

    @property
    def known(self) -> dict[str, Any]:
        """All that a renewal may read, but the sums."""
        return {**self.switches, **self.last}

    def sums(self) -> list[float]:
        """Return the sums over the phase's tensors."""
        if self.measurement is None:
            return []
        found = self.measurement.take(self.last)
        name = self.group["norm_group"]
        return (found if name is None else added_over_ranks(found, name)).tolist()


def renewed(phases: list[Phase]) -> dict[tuple[int, int], dict[str, Any] | None]:
    """Renew the shared numbers of all groups, and return those of this step by identity of declaration and group.

    None stands for a step that is left out.

    Raises:
        ValueError: groups that renew one set of numbers differ in an option that the renewal reads.
    """
    found: dict[tuple[int, int], dict[str, Any] | None] = {}
    together: dict[Any, list[Phase]] = {}
    for phase in phases:
        key = phase.declared if phase.declared.over == "all" else (phase.declared, id(phase.group))
        together.setdefault(key, []).append(phase)
    for members in together.values():
        declared = members[0].declared
        sums = [sum(column) for column in zip(*(phase.sums() for phase in members), strict=True)]
        given = {**_common(members), **dict(zip(declared.sums, sums, strict=True))}
        names = inspect.signature(declared.renew).parameters
        new = declared.renew(**{name: given[name] for name in names})
        for phase in members:
            found[id(declared), id(phase.group)] = new
            if new is not None:
                phase.group.update({name: new[name] for name in declared.kept})
    return found


def _common(members: list[Phase]) -> dict[str, Any]:
    """Return the numbers of groups that renew together. Their rates may be 0, and are otherwise equal."""
    rates = {phase.numbers["lr"] for phase in members if phase.numbers.get("lr")}
    common = members[0].known
    names = inspect.signature(members[0].declared.renew).parameters
    for phase in members[1:]:
        differing = [n for n in names if n in common and n != "lr" and phase.known[n] != common[n]]
        if differing or len(rates) > 1:
            name = differing[0] if differing else "lr"
            told = ", ".join(str(each.known[name]) for each in members)
            allowed = "; a group that rests has lr=0" if name == "lr" else ""
            raise ValueError(
                f"all groups share {', '.join(members[0].declared.kept)}, so they need one {name}, not {told}{allowed}"
            )
    return {**common, "lr": max(rates, default=0.0)}
