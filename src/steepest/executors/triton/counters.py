"""Step counts and scalar state of each parameter of a launch, known on the host without waiting for their device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from ...fields import State
from ..partition import StepCounters
from .tables import uploaded

VERSION = attrgetter("_version")


@dataclass(eq=False)
class HostCounters(StepCounters):
    """Counters whose values may differ from parameter to parameter: ``values`` has a list for each name.

    They live in 0-dim tensors on the parameters' device, where torch keeps them. A tensor on a device is read, which
    waits for the device, only if its version counter has moved since a step of ours wrote it. A write through ``.data``
    moves no version counter and is not seen there. On a CPU, where reading is free, all are read at every step.
    """

    _versions: dict[str, list[int]] = field(default_factory=dict)

    @staticmethod
    def of_each(counted: Mapping[str, State], states: list[dict[str, Any]]) -> HostCounters:
        """Return the counters of parameters, and read them."""
        columns = {name: [state[s.name] for state in states] for name, s in counted.items()}
        made = HostCounters(columns, {})
        made._read()
        return made

    @property
    def rows(self) -> list[tuple[float, ...]]:
        """The numbers of each parameter, in the order of ``values``; empty without counters."""
        return list(zip(*self.values.values(), strict=True))

    def is_current(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Return whether the state still holds the same tensors, and read those that were written by others."""
        if not self.holds_tensors_of(counted, states):
            return False
        self._read()
        return True

    def _read(self) -> None:
        for name, column in self.columns.items():
            if self._versions.get(name) is None or self._versions[name] != list(map(VERSION, column)):
                self.values[name] = torch.stack(column).tolist()
        self._note()

    def _note(self) -> None:
        """Remember the versions of all tensors that are not read at every step."""
        kept = {name: column for name, column in self.columns.items() if not any(map(is_read_always, column))}
        self._versions = {name: list(map(VERSION, column)) for name, column in kept.items()}

    def advance(self) -> None:
        """Count one step in the tensors, and on the host in double."""
        if "t" in self.columns:
            torch._foreach_add_(self.columns["t"], 1)
            self.values["t"] = [t + 1 for t in self.values["t"]]

    def store(self, new: Mapping[str, list[float]]) -> None:
        """Store new scalar state of each parameter, and round all values as their tensors are."""
        for name, column in self.columns.items():
            rounded = torch.tensor(new.get(name, self.values[name]), dtype=column[0].dtype, device="cpu")
            if name in new:
                torch._foreach_copy_(column, list(uploaded(rounded, column[0].device).unbind()))
            self.values[name] = rounded.tolist()
        self._note()


@dataclass(eq=False)
class DeviceCounters(StepCounters):
    """Counters that launches read and write, for ``capturable=True``. The host never knows their values."""

    def advance(self) -> None:
        """Count nothing, as a launch does it."""

    def store(self, new: Mapping[str, Any]) -> None:
        """Store nothing, as a launch does it."""

    def is_current(self, counted: Mapping[str, State], states: list[dict[str, Any]]) -> bool:
        """Return whether the state still holds the same tensors."""
        return self.holds_tensors_of(counted, states)


def is_read_always(x: Tensor) -> bool:
    """Return whether a counter is read at every step: where that is free, or where it has no version counter."""
    return x.is_cpu or x.is_inference()
