"""Parameters that the launches of a Triton kernel serve, remembered from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ...group import GroupSpec
from ...rule import Program, TensorSlot
from ...trace import RuleError, trace, with_count
from ...views import compute_dtype
from ..base import ActiveParams, Batch, UnsupportedError
from ..memory import copied_like, same_layout
from ..partition import BatchBucket, StepCounters, kinds
from ..phases import refused_sums, view_of
from ..slots import Slot, parts_of, plain_dtypes
from .count import FUNCTION, LANES
from .counters import DeviceCounters, HostCounters
from .elements import CODED_BLOCK
from .emit import emit
from .kernel import Kernel
from .layouts import Layout
from .library import launch
from .spelling import unknown_words
from .tables import Addresses, Constants, Tables, is_capturing

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""The dtypes of parameters, gradients and plain state."""


@cache
def unsupported_program(program: Program, numbers: tuple[str, ...], real: torch.dtype) -> str:
    """Return why no kernel that computes in ``real`` can be made of a program; empty if one can.

    It is empty too for a rule with a mistake in it, about which the first step teaches.
    """
    try:
        traced = trace(program, numbers)
    except RuleError:
        return ""
    if refusal := refused_sums(traced):
        return f"the Triton executor {refusal}"
    if view_of(traced) != "elements" and any(codec.stochastic for codec in program.storage.values()):
        return "the Triton executor rounds nothing stochastically beside sums of rows or columns"
    words = ", ".join(unknown_words(traced, real))
    return f"the Triton executor does not have {words} yet" if words else ""


@cache
def kernel_for(
    program: Program,
    numbers: tuple[str, ...],
    dtypes: tuple[torch.dtype, ...],
    counters: tuple[torch.dtype, ...] | None = None,
) -> Kernel:
    """Make the kernel of a program for these dtypes of tensors (p, g, stored state), only once.

    ``counters`` are the dtypes of counters that stay on the device; None where the host counts.

    Raises:
        UnsupportedError: no kernel can be made of the program, or not for these dtypes.
    """
    plain = [dtype for dtype, stored in zip(dtypes, (None, None, *program.stored), strict=True) if _is_plain(stored)]
    if unknown := [dtype for dtype in plain if dtype not in FLOATS]:
        known = ", ".join(map(str, FLOATS))
        raise UnsupportedError(f"the Triton executor computes with {known}, not {unknown[0]}")
    if reason := unsupported_program(program, numbers, compute_dtype(dtypes[0])):
        raise UnsupportedError(reason)
    traced = trace(program, numbers)
    counted = None if counters is None else tuple(zip(program.counted, counters, strict=True))
    return emit(traced, parts_of(program, traced, dtypes, Slot), program.storage, counted)


def _is_plain(stored: TensorSlot | None) -> bool:
    return stored is None or stored.codec is None


def kernel_like(spec: GroupSpec, p: Tensor) -> Kernel:
    """Return the kernel for a parameter like ``p``, with a gradient and plain state of the parameter's dtype.

    Raises:
        UnsupportedError: no kernel can be made for it.
    """
    program = spec.program(p)
    is_on_device = spec.options.get("capturable")
    counters = tuple(s.counter_dtype(True) for s in program.counted.values()) if is_on_device else None
    return kernel_for(program, with_count(program, spec.numbers), plain_dtypes(program, p.dtype.to_real()), counters)


@dataclass(eq=False)
class Launcher:
    """The launches of one kernel, with the tables and the room that they keep on the device."""

    kernel: Kernel

    def __post_init__(self) -> None:
        """Keep nothing yet."""
        elements = [place for place, slot in enumerate(self.kernel.slots) if slot.layout == "like"]
        self._tables, self._rounded, self._doubles = Tables(self.kernel.layout, elements), Constants(), Constants()
        self._room: dict[str, Any] = {}

    def run(self, batch: Batch, counters: Any) -> dict[str, list[float]]:
        """Run ``batch`` and return the new scalar state of each parameter.

        Parameters and state are written in place. ``counters`` are `HostCounters`. Parameters with equal ones share a
        row of constants.
        """
        kernel = self.kernel
        counts = counters.rows or [()] * len(batch.params)
        places = {count: place for place, count in enumerate(dict.fromkeys(counts))}
        made = [kernel.host(**batch.numbers, **dict(zip(counters.values, count, strict=True))) for count in places]
        rows = [places[count] for count in counts]
        steps = [dict(zip(counters.values, count, strict=True)).get("t", 0.0) for count in places]
        self._launch(batch, rows, self._constants([row for row, _ in made], steps, batch.params[0].device))
        return {s.name: [made[row][1][s.name] for row in rows] for s in batch.program.scalars}

    def _launch(self, batch: Batch, rows: list[int], constants: tuple[Tensor, Tensor]) -> None:
        """Run all launches, given the row of constants of each parameter."""
        tables = self._tables
        table = tables.of(batch.slots, rows, batch.streams)
        room, fixed = self._room_for(len(rows), table.device), tables.fixed
        for each in self.kernel.launches:
            owners = tables.owners[each.grid]
            if len(owners):
                launch(self.kernel, each.function, len(owners), (table, owners, *constants, *room), **fixed)

    def _constants(
        self, rows: list[tuple[float, ...]], steps: list[float], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of constants, in the dtype to compute in and in double with the step count, if it is read."""
        rounded = self._rounded.of(rows, self.kernel.real, device)
        if not self.kernel.reads_doubles:
            return rounded, rounded
        filled = [row or (0.0,) for row in rows]
        wide = [(*row, t) for row, t in zip(filled, steps, strict=True)] if self.kernel.is_counted else filled
        return rounded, self._doubles.of(wide, torch.float64, device)

    def _room_for(self, params: int, device: torch.device) -> tuple[Tensor, ...]:
        """Return room for the sums of each tile, the numbers of each parameter and those of its lines, in double."""
        sizes = {
            "sums": len(self._tables.owners["tiles"]) * self.kernel.sums,
            "reduced": params * self.kernel.reductions,
            "room": self._tables.space,
        }
        for name, size in sizes.items():
            if name not in self._room or self._room[name].numel() < size:
                self._room[name] = torch.empty(max(1, size), dtype=torch.float64, device=device)
        return tuple(self._room[name] for name in sizes)


@dataclass(eq=False)
class DeviceLauncher(Launcher):
    """The launches of one kernel whose first one counts steps and computes constants on the device."""

    def __post_init__(self) -> None:
        """Keep nothing yet."""
        super().__post_init__()
        self._numbers, self._counters = Constants(), Addresses()

    def run(self, batch: Batch, counters: Any) -> dict[str, list[float]]:
        """Run ``batch`` and return nothing to store: parameters, state and `DeviceCounters` are written in place."""
        counting, count, device = self.kernel.counting, len(batch.params), batch.params[0].device
        assert counting is not None
        addresses = self._counters.of([counters.columns[name] for name in counting.counters], device)
        numbers = self._on_device([batch.numbers[name] for name in counting.numbers], counting.literals, device)
        constants, doubles = self._rows(count, counting.constants, device)
        programs = -(-count // LANES)
        launch(self.kernel, FUNCTION, programs, (addresses, numbers, constants, doubles, count))
        self._launch(batch, list(range(count)), (constants, doubles))
        return {}

    def _on_device(self, values: list[Any], literals: tuple[float, ...], device: torch.device) -> Tensor:
        """Return the numbers of a step in double. Those that are on the device already are copied there."""
        known = [0.0 if isinstance(value, Tensor) else float(value) for value in values]
        numbers = self._numbers.of([(*known, *literals)], torch.float64, device).view(-1)
        for place, value in enumerate(values):
            if isinstance(value, Tensor):
                numbers[place].copy_(value)
        return numbers

    def _rows(self, count: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        sizes = {"constants": (count * (width + 1), self.kernel.real), "doubles": (count * (width + 2), torch.float64)}
        for name, (size, dtype) in sizes.items():
            if name not in self._room:
                self._room[name] = torch.empty(size, dtype=dtype, device=device)
        return self._room["constants"], self._room["doubles"]


def _fits(layout: Layout, slot: Slot, x: Tensor, p: Tensor) -> bool:
    """Return whether a tensor of a parameter is laid out as its slot wants it."""
    if slot.layout == "like":
        return x.shape == p.shape and same_layout(x, p)
    if slot.layout == "tensor":
        return x.numel() == 1
    expected = (-(-p.numel() // CODED_BLOCK),) if slot.layout == "blocks" else layout.shape_of(slot.layout, p.shape)
    return tuple(x.shape) == tuple(expected) and x.is_contiguous()


def _fitted(g: Tensor, p: Tensor) -> Tensor:
    """Return a gradient in the layout of its parameter, and not as a negated view."""
    g = g.resolve_neg()
    return g if same_layout(g, p) else copied_like(g, p)


def _in_rows(batch: Batch, like: Iterable[str]) -> tuple[Batch, list[tuple[Tensor, Tensor]]]:
    """Return a batch whose parameters are contiguous, with their state named in ``like``, and the pairs of copies."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def contiguous(tensors: list[Tensor]) -> list[Tensor]:
        made = list(map(Tensor.contiguous, tensors))
        pairs.extend((x, copy) for x, copy in zip(tensors, made, strict=True) if copy is not x)
        return made

    state = {name: contiguous(held) if name in like else held for name, held in batch.state.items()}
    return replace(batch, params=contiguous(batch.params), state=state), pairs


@dataclass(eq=False)
class LaunchBucket(BatchBucket):
    """Parameters of one device that share a kernel."""

    kernel: Kernel

    def __post_init__(self) -> None:
        """Refuse tensors that the kernel cannot read."""
        super().__post_init__()
        if reason := self._elsewhere() or self._refused_layout():
            raise UnsupportedError(reason)

    def _refused_layout(self) -> str:
        written = self._written()
        if any(map(Tensor.is_neg, written)) or any(map(Tensor.is_conj, written)):
            return "a parameter or its state is a negated or conjugate view; give resolve_neg().resolve_conj()"
        layout = self.kernel.layout
        for p, held in zip(self.params, self.states, strict=True):
            named = f"the parameter of shape {tuple(p.shape)}"
            if not layout.takes(p):
                return f"{named} is no matrix, or a complex one"
            if not same_layout(p, p) or not all(
                _fits(layout, slot, held[slot.name], p) for slot in self.kernel.slots[2:]
            ):
                return f"{named} or its state has gaps in its memory; give contiguous()"
        return ""

    def _elsewhere(self) -> str:
        """Return which tensor is not on its parameter's device; empty if all are."""
        counted = () if isinstance(self.counters, HostCounters) else self.program.counted.values()
        for p, held in zip(self.params, self.states, strict=True):
            for name in (*(s.name for s in self.program.stored), *(s.name for s in counted)):
                if held[name].device != p.device:
                    where = f"{name} of the parameter of shape {tuple(p.shape)} is on {held[name].device}"
                    return f"{where}, and the parameter on {p.device}; load_state_dict puts state where parameters are"
        return ""

    def ready(self, grads: list[Tensor]) -> bool:
        """Return whether tensors and counters are as they were, and the tensors still have no gaps."""
        return super().ready(grads) and not self._refused_layout()

    def step(self, numbers: Any) -> None:
        """Count the step, launch the kernel, and store new scalar state.

        Raises:
            RuntimeError: a graph is captured, and the host counts.
        """
        if isinstance(self.counters, HostCounters) and is_capturing(self.params[0].device):
            raise RuntimeError(
                f"a graph is being captured, and its replays would repeat this step's count and rates; give "
                f"{self.program.rule.fn.__name__} capturable=True where its class has it, or step outside of the graph"
            )
        self.counters.advance()
        batch = self._batch(numbers)
        like = [slot.name for slot in self.kernel.slots[2:] if slot.layout == "like"]
        batch, copies = _in_rows(batch, like) if self.kernel.layout.wants_rows else (batch, [])
        fitted = [_fitted(g, p) for g, p in zip(batch.grads, batch.params, strict=True)]
        self.counters.store(self.run(replace(batch, grads=fitted), self.counters))
        for original, copy in copies:
            original.copy_(copy)
        increment_version(self._written())


def make_buckets(live: ActiveParams) -> Iterator[LaunchBucket]:
    """Put parameters together that share a kernel.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    for program, members in live.grouped_by(kinds):
        params, states, streams = live.at(members)
        tensors = (params[0], params[0].grad, *(states[0][s.name] for s in program.stored))
        dtypes = tuple(x.dtype.to_real() for x in tensors if x is not None)
        numbers = with_count(program, live.numbers)
        run: Callable[..., dict[str, Any]]
        counters: StepCounters
        if live.spec.options.get("capturable"):
            columns = {name: [held[s.name] for held in states] for name, s in program.counted.items()}
            kernel = kernel_for(program, numbers, dtypes, tuple(column[0].dtype for column in columns.values()))
            run, counters = DeviceLauncher(kernel).run, DeviceCounters(columns, {})
        else:
            kernel = kernel_for(program, numbers, dtypes)
            run, counters = Launcher(kernel).run, HostCounters.of_each(program.counted, states)
        yield LaunchBucket(run, program, members, params, states, counters, streams, kernel)
