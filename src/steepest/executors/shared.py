"""Numbers that parameters have in common: sums over tensors, taken before a step, and their renewal.

A rule that declares `Shared` runs in two phases. The first one runs a program of the rule's own executor, which writes
the sums of each tensor and nothing else. They are added up in double on the host, over a group or over all groups, and
over the ranks of ``norm_group``. The rule's function then renews the numbers, which the second phase reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..group import GroupSpec
from ..modes import Mode
from ..rule import Rule
from ..rule import Shared as Declared
from ..sums import added, norm_group_of, nothing, over_ranks, over_shards
from ..trace import is_additive, trace
from ..views import is_split
from . import shards
from .base import ActiveParams, Bucket, MakeBuckets

Group = dict[str, Any]

SUMS = "sums"
"""Name of what rules measure in messages."""

FAKE = "FakeTensorMode"
"""Name of the mode of tensors without values, in which steps are tried out."""


@dataclass(eq=False)
class Measurement:
    """Buckets that write the sums of some parameters.

    Attributes:
        buckets: the buckets.
        sums: for each device the sums of its tensors, (parameters, sums), in double.
        parts: for each device the parameters. None stands for one whose sums are those of the whole parameter already.
        held: the state that the buckets read, and the state of the optimizer, which must hold the same tensors.
    """

    buckets: list[Bucket]
    sums: list[Tensor]
    parts: list[list[Tensor | None]]
    held: list[tuple[dict[str, Any], dict[str, Any]]]

    @staticmethod
    def of(live: ActiveParams, spec: GroupSpec, shared: Declared, make_buckets: MakeBuckets) -> Measurement:
        """Make the buckets of parameters under a specification that measures."""
        devices = [p.device for p in live.params]
        size = len(shared.sums)
        sums = {d: torch.zeros(devices.count(d), size, dtype=torch.float64, device=d) for d in dict.fromkeys(devices)}
        rows = {device: iter(of_device.unbind()) for device, of_device in sums.items()}
        columns = [dict(zip(shared.sums, next(rows[device]).unbind(), strict=True)) for device in devices]
        states = [{**own, **column} for own, column in zip(live.states, columns, strict=True)]
        numbers = (*live.numbers, *spec.shared)
        measured = ActiveParams(spec, live.params, states, live.first, live.streams, numbers)
        held = list(zip(states, live.states, strict=True))
        adds = any(map(is_split, live.params)) and _adds(spec, live.params[0], numbers, shared)
        buckets = shards.make_buckets(measured, make_buckets=make_buckets, is_additive=adds)
        apart = (shards.steps_apart(spec, p, held, adds) for p, held in zip(live.params, live.states, strict=True))
        parts = [p if is_split(p) and own else None for p, own in zip(live.params, apart, strict=True)]
        of_devices = [[part for part, each in zip(parts, devices, strict=True) if each == device] for device in sums]
        return Measurement(list(buckets), list(sums.values()), of_devices, held)

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether the buckets still describe the parameters, their gradients and their state."""
        same = (is_(copied.get(name), x) for copied, own in self.held for name, x in own.items())
        return all(same) and all(bucket.ready([grads[i] for i in bucket.members]) for bucket in self.buckets)

    def take(self, numbers: Mapping[str, Any]) -> Tensor:
        """Run the buckets and return the sums over their tensors, in double, on the first device."""
        for bucket in self.buckets:
            bucket.step(numbers)
        return added(map(over_shards, self.sums, self.parts))


def _adds(spec: GroupSpec, p: Tensor, numbers: tuple[str, ...], shared: Declared) -> bool:
    program = spec.program(p)
    return is_additive(trace(program, (*numbers, *(["t"] if "t" in program.counted else []))), shared.sums)


def start(group: Group, rules: Iterable[Rule], others: Iterable[Group]) -> None:
    """Put the first values of shared numbers into a group that lacks them.

    Numbers of all groups start as those of ``others`` are.
    """
    known = list(others)
    for shared in (rule.shared for rule in rules if rule.shared is not None):
        running = [other for other in known if shared.over == "all" and shared.kept.keys() <= other.keys()]
        for name, first in shared.kept.items():
            value = running[0][name] if running else group[first] if isinstance(first, str) else first
            group.setdefault(name, value)


def refuse_parts(group: Group, rules: Iterable[Rule], holder: str) -> None:
    """Raise `ValueError` if sums would be those of a part of the parameters, which ``holder`` has handed over."""
    if any(rule.measuring is not None for rule in rules):
        norm_group_of([group], SUMS, holder)


@dataclass(frozen=True)
class Phase:
    """Parameters of a group that share a rule with shared numbers.

    Attributes:
        group: the group.
        declared: the rule's declaration.
        numbers: the group's run-time numbers.
        switches: the group's other options.
        measurement: the sums of these parameters; None for a rule without sums, and without gradients.
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
        """All that a renewal may read, but the sums and the loss."""
        return {**self.switches, **self.last}

    def sums(self) -> Tensor:
        """Return the sums over the phase's tensors, on their device."""
        if self.measurement is not None:
            return self.measurement.take(self.last)
        return nothing(self.group["params"], len(self.declared.sums))


@dataclass(frozen=True)
class Renewal:
    """One renewal of shared numbers: those of a group, or of all groups.

    Attributes:
        groups: all parameter groups.
        loss: the loss that the step was given.
        mode: the mode that intercepts operations, if there is one. Fake tensors have no sums: the numbers are then made
            of sums of 1, and not kept.
    """

    groups: list[Group]
    loss: Any
    mode: Mode | None

    @property
    def hides_values(self) -> bool:
        """True where tensors have no values."""
        return self.mode is not None and self.mode.hides_values

    def of(self, phases: list[Phase]) -> dict[tuple[int, int], dict[str, Any] | None]:
        """Renew the numbers of all phases, and return those of this step by identity of declaration and group.

        None stands for a step that is left out.

        Raises:
            ValueError: groups that renew one set of numbers differ in an option that the renewal reads.
            RuntimeError: the mode records operations, and would record these numbers as constants.
        """
        if phases and self.mode is not None and self.hides_values and self.mode.name != FAKE:
            kept = ", ".join(phases[0].declared.kept)
            raise RuntimeError(f"the step reads {kept} from tensors, which {self.mode.name} cannot record")
        found: dict[tuple[int, int], dict[str, Any] | None] = {}
        together: dict[Any, list[Phase]] = {}
        for phase in phases:
            key = phase.declared if phase.declared.over == "all" else (phase.declared, id(phase.group))
            together.setdefault(key, []).append(phase)
        for members in together.values():
            new = self._renewed(members)
            found.update({(id(phase.declared), id(phase.group)): new for phase in members})
            if new is not None and not self.hides_values:
                self._keep(new, members[0])
        return found

    def _keep(self, new: Mapping[str, Any], phase: Phase) -> None:
        """Keep new numbers: those of all groups in the groups without gradients too."""
        kept = phase.declared.kept
        keeping = [group for group in self.groups if kept.keys() <= group.keys()]
        for group in keeping if phase.declared.over == "all" else [phase.group]:
            group.update({name: new[name] for name in kept})

    def _renewed(self, members: list[Phase]) -> dict[str, Any] | None:
        declared = members[0].declared
        given = _common(members)
        if declared.needs_loss:
            given["loss"] = self._loss()
        given.update(zip(declared.sums, self._sums(members), strict=True))
        return declared.renew(**{name: given[name] for name in declared.read})

    def _loss(self) -> float:
        if not isinstance(self.loss, Tensor):
            return float(self.loss)
        return 1.0 if self.hides_values else float(self.loss.detach())

    def _sums(self, members: list[Phase]) -> list[float]:
        """Return the sums over all tensors of the phases, and over the ranks of their ``norm_group``."""
        if not members[0].declared.sums:
            return []
        norm_group = norm_group_of((phase.group for phase in members), SUMS)
        found = over_ranks(added(phase.sums() for phase in members), norm_group)
        numbers: list[float] = [1.0] * len(found) if self.hides_values else found.tolist()
        return numbers


def _common(members: list[Phase]) -> dict[str, Any]:
    """Return the numbers of groups that renew together. Their rates may be 0, and are otherwise equal."""
    common, *others = (phase.known for phase in members)
    for name in members[0].declared.read:
        values = [each[name] for each in (common, *others) if name in each]
        if len({value for value in values if not (name == "lr" and value == 0)}) > 1:
            told = ", ".join(map(str, values))
            allowed = "; a group that rests has lr=0" if name == "lr" else ""
            kept = ", ".join(members[0].declared.kept)
            raise ValueError(f"all groups share {kept}, so they need one {name}, not {told}{allowed}")
    return {**common, "lr": max(phase.numbers.get("lr", 0.0) for phase in members)}
