"""The part of the emitter that launches over blocks of elements and over tiles of matrices have in common."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch

from ...codecs import Codec
from ...trace import Trace
from ...views import compute_dtype
from ..expressions import Expressions
from ..lowering import Op
from ..phases import Phases, is_summed
from ..plan import compiled, host_source
from ..slots import Slot, in_order, places_of
from .accessors import HALVES, Accessor, accessor_of, functions, rounded, spelled
from .count import counting as spelled_counting
from .kernel import ARGUMENTS, Kernel, Launch
from .layouts import Layout
from .spelling import Spelling, words


class Emitter(ABC):
    """Writer of one kernel; a subclass spells the launches."""

    fixed: tuple[str, ...] = ("IS_ALIGNED",)
    """Names of the constants that a launch is compiled with."""

    def __init__(
        self,
        trace: Trace,
        parts: Mapping[str, tuple[Slot, ...]],
        storage: Mapping[str, Codec],
        counters: tuple[tuple[str, torch.dtype], ...] | None,
    ) -> None:
        """Lower the trace; for the arguments see `emit.emit`."""
        self.trace, self.slots, self.counters = trace, in_order(parts), counters
        self.expressions = Expressions(trace)
        self.names = self.expressions.names
        self.phases = Phases(self.expressions)
        self.real = compute_dtype(self.slots[0].dtype)
        places = places_of(parts)
        self.accessors = {
            name: accessor_of(name, held, places.get(name, 0), self.real, storage)
            for name, held in parts.items()
            if held[0].layout == "like"
        }
        self.kept = {name: held[0] for name, held in parts.items() if name not in self.accessors}
        self.is_coded = any(accessor.is_coded for accessor in self.accessors.values())
        self.is_on_device = counters is not None
        self.is_random = any(codec.stochastic for codec in storage.values())
        self.is_counted = self.is_random or self.is_on_device
        for op in self.expressions.ops:  # first of all: this says which constants are needed
            if not is_summed(op):
                self.expressions.spell(op, Spelling(self.real))

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The way in which parameters are cut into programs."""

    @property
    @abstractmethod
    def block(self) -> int:
        """Numbers that are added up at a time."""

    @property
    @abstractmethod
    def warps(self) -> int:
        """Warps of a program."""

    @abstractmethod
    def launches(self) -> dict[Launch, list[str]]:
        """Spell the lines of each launch, in order."""

    def kernel(self) -> Kernel:
        """Spell the whole kernel."""
        written = self.launches()
        texts = [line for launch, lines in written.items() for line in self._function(launch, lines)]
        head = ["import triton", "import triton.language as tl", "", ""]
        counting = None
        if self.counters is not None:
            counting = spelled_counting(self.trace, self.expressions, self.counters, self.real)
            texts = [*texts, counting.source]
        source = "\n".join([*head, *self._resources("\n".join(texts)), *texts]).rstrip() + "\n"
        return Kernel(
            source,
            tuple(written),
            self.slots,
            compiled(host_source(self.trace, self.expressions.lowering, self.expressions.constants))["host"],
            self.layout,
            self.warps,
            self.phases.counted(self.phases.numbers, "tensor"),
            self.phases.counted(self.phases.sums, "tensor"),
            self.is_counted,
            counting,
        )

    def _function(self, launch: Launch, lines: list[str]) -> list[str]:
        fixed = [f"{name}: tl.constexpr" for name in self.fixed]
        signature = f"def {launch.function}({', '.join([*ARGUMENTS, *fixed])}):"
        return ["@triton.jit", signature, *indented(self._without_unused(lines)), "", ""]

    def _resources(self, text: str) -> list[str]:
        """Return the functions that the launched ones call."""
        resources = [words(), ""] if "_f(" in text else []
        resources += [functions(), ""] if self.is_coded else []
        return [*resources, *total_of(self.block)] if "total_of(" in text else resources

    def _without_unused(self, lines: list[str]) -> list[str]:
        """Leave out columns of the table that no other line reads."""
        text = "\n".join(lines)
        columns = {f"{name} = tl.load(row + ": name for name in self.layout.columns}
        unused = [start for start, name in columns.items() if len(re.findall(rf"\b{name}\b", text)) == 1]
        return [line for line in lines if not line.startswith(tuple(unused))]

    def read_by(self, targets: Iterable[Op]) -> set[Op]:
        """Return all values that the elements of ``targets`` are computed from, and these."""
        targets = list(targets)
        return {*targets, *(a for op in self.expressions.cone(targets) for a in op.args)}

    def used(self, targets: Iterable[Op], changed: Iterable[str]) -> tuple[list[str], list[Accessor]]:
        """Return the tensors that ``targets`` are computed from, and the accessors of these and of changed ones."""
        needed = self.read_by(targets)
        read = [name for name in self.accessors if self.expressions.inputs[name] in needed]
        return read, [self.accessors[name] for name in dict.fromkeys([*read, *changed])]

    def computed(self, ops: Iterable[Op]) -> list[str]:
        """Spell operations on elements."""
        spelling = Spelling(self.real)
        return [f"{self.names[op]} = {self.expressions.spell(op, spelling)}" for op in ops]

    def changed(self) -> dict[str, Op]:
        """Return the tensors of which the step computes new elements."""
        outputs, inputs = self.expressions.outputs, self.expressions.inputs
        return {name: op for name, op in outputs.items() if name in self.accessors and op is not inputs[name]}

    def reads_counts(self, changed: Iterable[str]) -> bool:
        """Return whether writing these tensors takes random bits."""
        return self.is_random and any(self.accessors[name].is_coded for name in changed)

    # -- places ------------------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Numbers in a row of constants. On the device the last one says whether the step is taken."""
        return len(self.expressions.constants) + 1 if self.is_on_device else max(1, len(self.expressions.constants))

    @property
    def width_of_doubles(self) -> int:
        """Numbers in a row of constants in double."""
        return self.width + self.is_counted

    def row(self, place: str) -> list[str]:
        """Spell the lookup of a parameter's row in the table."""
        columns = self.layout.columns
        count = len(self.slots)
        loads = [f"{name} = tl.load(row + {place})" for place, name in enumerate(columns, count)]
        return [f"place = {place}.to(tl.int64)", f"row = table + place * {count + len(columns)}", *loads]

    def address(self, slot: Slot, start: str = "") -> str:
        """Spell the address of a tensor."""
        pointer = f"tl.load(row + {self.slots.index(slot)}).to(tl.pointer_type({spelled(slot.dtype)}))"
        return f"at_{slot.name} = {pointer}{start}"

    def constants(self, ops: Iterable[Op], *, in_double: bool = False) -> list[str]:
        """Spell the loads of the constants that operations read."""
        table, width = ("doubles", self.width_of_doubles) if in_double else ("constants", self.width)
        return [f"c{i} = tl.load({table} + own * {width} + {i})" for i in self.expressions.constants_of(ops)]

    def kept_number(self, slot: Slot, index: str = "", mask: str = "") -> str:
        """Spell the value of state that has fewer numbers than the parameter, in double."""
        by_way = ".to(tl.float32)" if slot.dtype in HALVES else ""
        return f"old_{slot.name} = tl.load(at_{slot.name}{index}{mask}){by_way}.to(tl.float64)"

    def stored_number(self, slot: Slot, value: str, index: str = "", mask: str = "") -> str:
        """Spell the store of such a value."""
        return f"tl.store(at_{slot.name}{index}, {rounded(value, slot.dtype, torch.float64)}{mask})"

    def unless_left_out(self, bound: str) -> list[str]:
        """Spell what leaves a launch over tiles nothing to do where the device leaves the step out."""
        kept = f"tl.load(constants + own * {self.width} + {self.width - 1})"
        return [f"{bound} *= {kept}.to(tl.int64)"] if self.is_on_device else []

    @property
    def taken(self) -> str:
        """The number that is 0 where the device leaves the step out, and else 1."""
        return f"tl.load(doubles + own * {self.width_of_doubles} + {self.width_of_doubles - 1})"


def total_of(size: int) -> list[str]:
    """Spell a sum in a fixed order: neighbours are added, then neighbouring sums, so that no layout changes a bit."""
    sizes = [size >> n for n in range(1, size.bit_length())]
    halved = [f"x = tl.sum(tl.reshape(x, [{each}, 2]), 1)" for each in sizes if each > 1]
    return ["@triton.jit", "def total_of(x):", *indented([*halved, "return tl.sum(x, 0)"]), "", ""]


def indented(lines: list[str]) -> list[str]:
    """Put lines deeper by one level."""
    return [f"    {line}" for line in lines]
