"""C of a trace: the functions of one kernel that a rule determines. All the rest is in words.c and launch.c."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import torch

from ... import codecs
from ...codecs import Codec
from ...trace import Trace
from ...views import compute_dtype
from ..expressions import Expressions, is_power, is_root
from ..lowering import Op
from ..phases import DIMENSIONS, Phases, is_element, is_summed, line_of, result, summed_over, term
from ..slots import LAYOUTS, in_order, places_of
from .accessors import DTYPES, Accessor, Slot, accessor_of, definitions, grids
from .loops import BLOCK, PLACES, Body, Elements, Loops, for_each, indented, number_at
from .tiles import Tiles

LOOPS: dict[str, Loops] = {"elements": Elements(), "matrices": Tiles(), "units": Tiles()}
"""Loops of each view of `phases.VIEWS`."""


@dataclass(frozen=True)
class Kernel:
    """C for one program and one choice of dtypes.

    Attributes:
        generated: the C functions made from the trace.
        slots: the tensors, in the kernel's order: p, g, then the program's stored state.
        counters: names of the step count and scalar state.
        numbers: names of the run-time numbers, in the order in which the kernel takes them.
        view: how the kernel sees tensors, a key of `phases.VIEWS`.
        is_coded: whether some tensor is stored in a codec.
    """

    generated: str
    slots: tuple[Slot, ...]
    counters: tuple[str, ...]
    numbers: tuple[str, ...]
    view: str
    is_coded: bool

    @cached_property
    def source(self) -> str:
        """The whole translation unit."""
        own, functions = self.generated.split("\n\n", 1)
        coded = (definitions(), _resource("storage.c"), grids()) if self.is_coded else ()
        parts = _resource("item.c"), _resource(LOOPS[self.view].resource), _resource("launch.c")
        return "\n".join((_resource("words.c"), own, "", *coded, *parts, functions))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def emit(
    trace: Trace,
    parts: Mapping[str, tuple[Slot, ...]],
    counters: tuple[tuple[str, torch.dtype], ...],
    storage: Mapping[str, Codec],
) -> Kernel:
    """Write the C of ``trace``.

    Args:
        trace: the program's trace.
        parts: the tensors that hold p, g and each tensor state, in the trace's order.
        counters: names and dtypes of ``t`` (if the program counts steps) and scalar state.
        storage: the codecs of coded tensors, by name.
    """
    return _Emitter(trace, parts, counters, storage).kernel()


@dataclass(frozen=True)
class _Spelling:
    """C in float (suffix f) or double (d). With ``rooted``, powers by a number of the step are square roots."""

    suffix: str
    rooted: bool = False

    def call(self, word: str, args: list[str]) -> str:
        return f"{word}_{self.suffix}({', '.join(args)})"

    def quotient(self, a: str, b: str) -> str:
        return f"{a} / {b}"

    def choice(self, number: str, a: str, b: str) -> str:
        return f"{number} != 0 ? {a} : {b}"

    def power(self, base: str, exponent: str) -> str:
        return self.call("sqrt", [base]) if self.rooted else self.call("power", [base, exponent])


@dataclass(eq=False)
class _Emitter:
    trace: Trace
    parts: Mapping[str, tuple[Slot, ...]]
    counters: tuple[tuple[str, torch.dtype], ...]
    storage: Mapping[str, Codec]

    def __post_init__(self) -> None:
        self.expressions = Expressions(self.trace, "n_")
        self.constants, self.names = self.expressions.constants, self.expressions.names
        self.inputs, self.outputs = self.expressions.inputs, self.expressions.outputs
        self.phases = Phases(self.expressions)
        self.loops = LOOPS[self.phases.view]
        counted = {name for name, _ in self.counters}
        self.numbers = tuple(name for name in self.trace.numbers if name not in counted)
        self.slots, places = in_order(self.parts), places_of(self.parts)
        self.accessors = [
            accessor_of(name, held, places.get(name, 0), self.storage)
            for name, held in self.parts.items()
            if held[0].layout == "like"
        ]
        self.kept = [held[0] for held in self.parts.values() if held[0].layout in DIMENSIONS]

    @property
    def real(self) -> str:
        return "double" if compute_dtype(self.slots[0].dtype) == torch.float64 else "float"

    def kernel(self) -> Kernel:
        functions = [self._reduce(), self._combine(), self._update()]  # first: they say which constants they need
        parts = [self._definitions(), self._host(), *functions]
        return Kernel(
            "\n\n".join(parts) + "\n",
            self.slots,
            tuple(name for name, _ in self.counters),
            self.numbers,
            self.phases.view,
            bool(self.storage),
        )

    def _definitions(self) -> str:
        names = [name for name, _ in self.counters]
        sizes = {
            "SLOTS": len(self.slots),
            "COUNTERS": len(names),
            "STEP": names.index("t") if "t" in names else -1,
            "CONSTANTS": max(1, len(self.constants)),
            "NUMBERS": len(self.phases.values),
            "REDUCTIONS": self.phases.counted(self.phases.numbers, "tensor"),
            "SUMS": self.phases.counted(self.phases.sums, "tensor"),
            "PHASES": self.phases.count,
            "ADDING": sum(1 << phase for phase in range(self.phases.count) if self.phases.sums_in(phase)),
            **self.loops.sizes(self.phases),
            "BLOCK": BLOCK,
            "STORAGE_BLOCK": codecs.BLOCK,
            "IN_BLOCKS": int(any(accessor.is_blockwise for accessor in self.accessors)),
        }
        dtypes = [slot.dtype for slot in self.slots] + [dtype for _, dtype in self.counters]
        codes = ", ".join(f"{{{code}, {bits}}}" for code, bits in map(DTYPES.__getitem__, dtypes))
        layouts = ", ".join(str(LAYOUTS.index(slot.layout)) for slot in self.slots)
        return "\n".join(
            [f"#define {name} {value}" for name, value in sizes.items()]
            + ["typedef struct { uint8_t code, bits; } Dtype;", f"enum {{ {', '.join(map(str.upper, LAYOUTS))} }};"]
            + [f"static const Dtype DTYPES[] = {{{codes}}};", f"static const uint8_t LAYOUTS[] = {{{layouts}}};"]
        )

    # -- the host part -----------------------------------------------------------------------------------------------

    def _host(self) -> str:
        counted = [name for name, _ in self.counters]
        inputs = [f"const double n_{name} = numbers[{i}];" for i, name in enumerate(self.numbers)]
        inputs += [f"const double n_{name} = counters[{i}];" for i, name in enumerate(counted)]
        lowering = self.expressions.lowering
        lines = [f"const double {name} = {expression};" for name, expression in lowering.host_lines(self.trace)]
        results = [f"constants[{i}] = {expression};" for expression, i in self.constants.items()]
        state = lowering.host_state(self.trace)
        results += [f"fresh[{counted.index(name)}] = {expression};" for name, expression in state]
        arguments = "const double *numbers, const double *counters, double *constants, double *fresh"
        return _function(f"void host({arguments})", [*inputs, *lines, *results])

    def _body(self, targets: list[Op], *, rooted: bool = False) -> Body:
        """Return what computes ``targets`` of each element.

        With ``rooted``, powers whose exponent is known at run time only are square roots.
        """
        cone = self.expressions.cone(targets)
        needed = {*targets, *(a for op in cone for a in op.args)}
        spelling = _Spelling("d" if self.real == "double" else "f", rooted)
        inside = [f"const {self.real} {self.names[op]} = {self.expressions.spell(op, spelling)};" for op in cone]
        return Body(
            self.real,
            self.slots,
            self._constants_of(cone, self.real),
            {self.names[op]: (line_of(op), i) for op, i in self.phases.numbers.items() if op in needed},
            [accessor for accessor in self.accessors if self.inputs[accessor.name] in needed],
            inside,
        )

    def _constants_of(self, ops: Iterable[Op], real: str) -> list[str]:
        return [f"const {real} c{i} = ({real})constants[{i}];" for i in self.expressions.constants_of(ops)]

    # -- sums and numbers --------------------------------------------------------------------------------------------

    def _reduce(self) -> str:
        lines = []
        for phase in range(1, self.phases.count):
            if ops := self.phases.sums_in(phase):
                body = self._body([op.args[0] for op in ops])
                sums = [
                    (line_of(op), self.phases.sums[op], term(op, f"(double){self.names[op.args[0]]}")) for op in ops
                ]
                lines += [f"if (phase == {phase}) {{", *indented(self.loops.add(body, sums)), "}"]
        arguments = "int phase, const Item *item, const double *constants, const double *reduced"
        return _function(f"void reduce({arguments}, const Part *part, double *sums)", lines)

    def _combine(self) -> str:
        lines = []
        for phase in range(self.phases.count):
            inside = [line for kind in DIMENSIONS for line in self._combine_line(phase, kind)]
            made = (op for line in DIMENSIONS for op in self.phases.numbers_in(phase, line))
            read = [op for op in made if not is_summed(op)]
            inside = [*self._constants_of(read, "double"), *inside]
            lines += [f"if (phase == {phase}) {{", *indented(inside), "}"] if inside else []
        arguments = "int phase, const Item *item, const double *constants, const double *sums, double *reduced"
        return _function(f"void combine({arguments})", lines)

    def _combine_line(self, phase: int, line: str) -> list[str]:
        """Spell the loop that computes the numbers of a phase which belong to a line, and reads and stores state."""
        slots = [slot for slot in self.kept if slot.layout == line]
        loaded = {self.inputs[slot.name]: slot for slot in slots if self.phases.is_read(slot.name, phase)}
        stored = {slot: self.outputs[slot.name] for slot in slots if self.phases.is_stored(slot.name, phase)}
        made = [*loaded, *self.phases.numbers_in(phase, line)]
        read = [*(a for op in made if not is_summed(op) for a in op.args), *stored.values()]
        inside = [
            *(f"const double {self.names[op]} = {self._loaded(slot)};" for op, slot in loaded.items()),
            *(f"const double {self.names[op]} = {self._number(op)};" for op in dict.fromkeys(read) if op not in made),
            *(each for op in made if op not in loaded for each in self._computed(op)),
            *(f"{self._number(op)} = {self.names[op]};" for op in made if op in self.phases.numbers),
            *(self._stored(slot, op) for slot, op in stored.items()),
        ]
        return for_each(DIMENSIONS[line], inside) if inside else []

    def _number(self, op: Op) -> str:
        return number_at(line_of(op), self.phases.numbers[op])

    def _computed(self, op: Op) -> list[str]:
        """Spell a number. A sum of other numbers is added up here, and one of elements from the sums of parts."""
        name = self.names[op]
        if not is_summed(op):
            return [f"const double {name} = {self.expressions.spell(op, _Spelling('d'))};"]
        (summed,), total = op.args, f"sum_{name}"
        if is_element(summed):
            terms = self.loops.parts(line_of(op), self.phases.sums[op], total)
        else:
            added = for_each(summed_over(op), [f"{total} += {term(op, self._number(summed))};"])
            terms = [f"double {total} = 0;", *added]
        size = f"(double)({self.loops.count(summed_over(op))})"
        return [*terms, f"const double {name} = {result(op, total, size, 'sqrt')};"]

    def _loaded(self, slot: Slot) -> str:
        return f"load_{slot.c_type}({self._kept_at(slot)})"

    def _stored(self, slot: Slot, new: Op) -> str:
        real = "double" if slot.c_type == "float64" else "float"
        return f"{self._kept_at(slot)} = store_{slot.c_type}(({real}){self.names[new]});"

    def _kept_at(self, slot: Slot) -> str:
        return f"(({slot.c_type} *)item->data[{self.slots.index(slot)}])[{PLACES[slot.layout]}]"

    # -- the update --------------------------------------------------------------------------------------------------

    def _update(self) -> str:
        new = {accessor: self.outputs[accessor.name] for accessor in self.accessors if accessor.name in self.outputs}
        changed = {accessor: op for accessor, op in new.items() if op is not self.inputs[accessor.name]}
        lines = self._pass(changed)
        powers = [op for op in self.expressions.cone(changed.values()) if is_power(op) and not is_root(op)]
        if powers:
            tests = dict.fromkeys(f"constants[{self.constants[op.numbers[0]]}] == 0.5" for op in powers)
            roots = self._pass(changed, rooted=True)
            lines = [f"if ({' && '.join(tests)}) {{", *indented(roots), "} else {", *indented(lines), "}"]
        arguments = "const Item *item, const double *constants, const double *reduced, const Part *part"
        return _function(f"void update({arguments})", lines)

    def _pass(self, changed: Mapping[Accessor, Op], *, rooted: bool = False) -> list[str]:
        """Spell the loop that stores the new value of each tensor in ``changed``; see `_body` for ``rooted``."""
        values = {accessor: self.names[op] for accessor, op in changed.items()}
        return self.loops.update(self._body(list(changed.values()), rooted=rooted), values)


def _function(signature: str, lines: list[str]) -> str:
    return "\n".join([f"static {signature} {{", *indented(lines), "}"])
