"""C of a trace: the functions of one kernel that a rule determines. All the rest is in words.c and launch.c."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import torch

from ... import codecs
from ...codecs import Codec
from ...kinds import Extent
from ...trace import Trace
from ...views import compute_dtype
from ..expressions import Expressions, is_power, is_root
from ..lowering import Op
from ..phases import Phases, result, term
from ..slots import LAYOUTS, in_order, places_of
from .accessors import DTYPES, Accessor, Slot, accessor_of, definitions, grids

BLOCK = 1024
"""Elements per block. Reductions add block by block, and threads share out whole blocks."""

LANES = 16
"""Number of parallel partial sums within a block, with which a reduction vectorises in a fixed order."""

ALONE = {"norm": "abs", "rms": "abs", "mean": "same", "total": "same"}
"""Functions that reductions are of one number."""


@dataclass(frozen=True)
class Kernel:
    """C for one program and one choice of dtypes.

    Attributes:
        generated: the C functions made from the trace.
        slots: the tensors, in the kernel's order: p, g, then the program's stored state.
        counters: names of the step count and scalar state.
        numbers: names of the run-time numbers, in the order in which the kernel takes them.
        constants, reductions, sums: the doubles that the kernel needs per set of counters, per parameter, per block.
        is_coded: whether some tensor is stored in a codec.
    """

    generated: str
    slots: tuple[Slot, ...]
    counters: tuple[str, ...]
    numbers: tuple[str, ...]
    constants: int
    reductions: int
    sums: int
    is_coded: bool

    @cached_property
    def source(self) -> str:
        """The whole translation unit."""
        own, functions = self.generated.split("\n\n", 1)
        coded = (definitions(), _resource("storage.c"), grids()) if self.is_coded else ()
        return "\n".join((_resource("words.c"), own, "", *coded, _resource("launch.c"), functions))


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
        return f"{ALONE.get(word, word)}_{self.suffix}({', '.join(args)})"

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
        self.constants, self.names, self.ops = self.expressions.constants, self.expressions.names, self.expressions.ops
        self.inputs, self.outputs = self.expressions.inputs, self.expressions.outputs
        self.phases = Phases(self.expressions)
        self.sums, self.reduced = self.phases.sums, self.phases.reduced
        counted = {name for name, _ in self.counters}
        self.numbers = tuple(name for name in self.trace.numbers if name not in counted)
        self.slots, places = in_order(self.parts), places_of(self.parts)
        accessors = (accessor_of(name, held, places.get(name, 0), self.storage) for name, held in self.parts.items())
        self.accessors = [accessor for accessor in accessors if accessor.parts[0].layout == "like"]
        self.numbers_kept = [held[0] for held in self.parts.values() if held[0].layout == "number"]

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
            max(1, len(self.constants)),
            len(self.reduced),
            len(self.sums),
            bool(self.storage),
        )

    def _definitions(self) -> str:
        names = [name for name, _ in self.counters]
        sizes = {
            "SLOTS": len(self.slots),
            "COUNTERS": len(names),
            "STEP": names.index("t") if "t" in names else -1,
            "CONSTANTS": max(1, len(self.constants)),
            "REDUCTIONS": len(self.reduced),
            "SUMS": len(self.sums),
            "PHASES": self.phases.count,
            "BLOCK": BLOCK,
            "STORAGE_BLOCK": codecs.BLOCK,
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

    def _body(self, targets: list[Op], *, rooted: bool = False) -> tuple[list[str], list[Accessor], list[str]]:
        """Return what computes ``targets``: lines before all loops, the tensors that are read, and lines inside.

        With ``rooted``, powers whose exponent is known at run time only are square roots.
        """
        cone = self.expressions.cone(targets)
        read = {*targets, *(a for op in cone for a in op.args)}
        spelling = _Spelling("d" if self.real == "double" else "f", rooted)
        inside = [f"const {self.real} {self.names[op]} = {self.expressions.spell(op, spelling)};" for op in cone]
        before = self._constants_of(cone, self.real) + [
            f"const {self.real} {self.names[op]} = ({self.real})reduced[{i}];"
            for op, i in self.reduced.items()
            if op in read
        ]
        return before, [accessor for accessor in self.accessors if self.inputs[accessor.name] in read], inside

    def _constants_of(self, ops: Iterable[Op], real: str) -> list[str]:
        return [f"const {real} c{i} = ({real})constants[{i}];" for i in self.expressions.constants_of(ops)]

    def _pointers(self, accessors: Iterable[Accessor], written: Collection[Accessor], start: str) -> list[str]:
        """Spell the addresses of the tensors that hold ``accessors``, from element ``start`` on."""
        lines = []
        for index, slot in enumerate(self.slots):
            accessor = next((f for f in accessors if slot in f.parts), None)
            if accessor is not None:
                c_type = slot.c_type if accessor in written else f"const {slot.c_type}"
                offset = f"{start} / STORAGE_BLOCK" if slot.layout == "blocks" else start
                lines.append(f"{c_type} *restrict at_{slot.name} = ({c_type} *)item->data[{index}] + {offset};")
        return lines

    def _declared(self, values: Mapping[str, str]) -> list[str]:
        return [f"const {self.real} old_{name} = {value};" for name, value in values.items()]

    # -- reductions --------------------------------------------------------------------------------------------------

    def _reduce(self) -> str:
        lines = []
        for phase in range(1, self.phases.count):
            lines += [f"if (phase == {phase}) {{", *_indented(self._reduce_phase(self.phases.sums_in(phase))), "}"]
        arguments = "int phase, const Item *item, const double *constants, const double *reduced"
        return _function(f"void reduce({arguments}, int64_t low, int64_t high, double *sums)", lines)

    def _reduce_phase(self, ops: list[Op]) -> list[str]:
        before, read, computed = self._body([op.args[0] for op in ops])
        inside = self._declared({accessor.name: accessor.load_alone() for accessor in read}) + computed
        terms = [term(op, f"(double){self.names[op.args[0]]}") for op in ops]
        inside += [f"lanes{n}[j] += {added};" for n, added in enumerate(terms)]
        yields = [
            f"for (int j = 0; j < {LANES}; j++) sums[{self.sums.index(op)}] += lanes{n}[j];" for n, op in enumerate(ops)
        ]
        return [
            *before,
            *self._pointers(read, (), "low"),
            *(f"double lanes{n}[{LANES}] = {{0}};" for n in range(len(ops))),
            f"const int64_t whole = (high - low) / {LANES} * {LANES};",
            f"for (int64_t start = 0; start < whole; start += {LANES})",
            f"  for (int j = 0; j < {LANES}; j++) {{",
            "    const int64_t i = start + j;",
            *_indented(_indented(inside)),
            "  }",
            "for (int64_t i = whole, j = 0; i < high - low; i++, j++) {",
            *_indented(inside),
            "}",
            *(f"sums[{self.sums.index(op)}] = 0;" for op in ops),
            *yields,
        ]

    def _combine(self) -> str:
        lines = []
        for phase in range(self.phases.count):
            inside = self._combine_phase(phase)
            lines += [f"if (phase == {phase}) {{", *_indented(inside), "}"] if inside else []
        arguments = "int phase, const Item *item, const double *constants, const double *sums, double *reduced"
        return _function(f"void combine({arguments})", lines)

    def _combine_phase(self, phase: int) -> list[str]:
        ops = self.phases.numbers_in(phase)
        body = [f"const double {self.names[op]} = {self._combined(op)};" for op in ops]
        lines = self._constants_of(ops, "double")
        earlier = {a for op in ops for a in op.args if a.extent == Extent.REDUCED and a not in ops}
        if phase == 0:
            for slot in self.numbers_kept:
                value = f"load_{slot.c_type}({self._number_at(slot)})"
                lines.append(f"reduced[{self.reduced[self.inputs[slot.name]]}] = {value};")
        lines += [f"const double {self.names[op]} = reduced[{i}];" for op, i in self.reduced.items() if op in earlier]
        lines += body + [f"reduced[{self.reduced[op]}] = {self.names[op]};" for op in ops]
        if phase == self.phases.count - 1:
            lines += list(self._stored_reductions())
        return lines

    def _combined(self, op: Op) -> str:
        if op not in self.sums:
            return self.expressions.spell(op, _Spelling("d"))
        return result(op, f"sums[{self.sums.index(op)}]", "(double)item->size", "sqrt")

    def _number_at(self, slot: Slot) -> str:
        return f"*({slot.c_type} *)item->data[{self.slots.index(slot)}]"

    def _stored_reductions(self) -> Iterator[str]:
        for slot in self.numbers_kept:
            new = self.outputs[slot.name]
            if new is not self.inputs[slot.name]:
                real = "double" if slot.c_type == "float64" else "float"
                value = f"({real})reduced[{self.reduced[new]}]"
                yield f"{self._number_at(slot)} = store_{slot.c_type}({value});"

    # -- the update --------------------------------------------------------------------------------------------------

    def _update(self) -> str:
        new = {accessor: self.outputs[accessor.name] for accessor in self.accessors if accessor.name in self.outputs}
        changed = {accessor: op for accessor, op in new.items() if op is not self.inputs[accessor.name]}
        lines = self._pass(changed)
        powers = [op for op in self.expressions.cone(changed.values()) if is_power(op) and not is_root(op)]
        if powers:
            tests = dict.fromkeys(f"constants[{self.constants[op.numbers[0]]}] == 0.5" for op in powers)
            roots = self._pass(changed, rooted=True)
            lines = [f"if ({' && '.join(tests)}) {{", *_indented(roots), "} else {", *_indented(lines), "}"]
        arguments = "const Item *item, const double *constants, const double *reduced, int64_t low, int64_t high"
        return _function(f"void update({arguments})", lines)

    def _pass(self, changed: Mapping[Accessor, Op], *, rooted: bool = False) -> list[str]:
        """Spell the loop that stores the new value of each tensor in ``changed``; see `_body` for ``rooted``."""
        before, read, computed = self._body(list(changed.values()), rooted=rooted)
        stores = [line for accessor, op in changed.items() for line in accessor.store(self.names[op])]
        accessors = list(dict.fromkeys([*read, *changed]))
        inside = [*self._declared({accessor.name: accessor.load() for accessor in read}), *computed, *stores]
        loop = self._blockwise if any(accessor.is_blockwise for accessor in accessors) else self._straight
        return [*before, *loop(accessors, changed, inside)]

    def _straight(self, accessors: list[Accessor], changed: Collection[Accessor], inside: list[str]) -> list[str]:
        loop = ["INDEPENDENT", "for (int64_t i = 0; i < high - low; i++) {", *_indented(inside), "}"]
        return [*self._pointers(accessors, changed, "low"), *loop]

    def _blockwise(self, accessors: list[Accessor], changed: Collection[Accessor], inside: list[str]) -> list[str]:
        within = [
            "const int32_t size = high - start < STORAGE_BLOCK ? (int32_t)(high - start) : STORAGE_BLOCK;",
            *self._pointers(accessors, changed, "start"),
            *(line for accessor in accessors for line in accessor.opening()),
            "INDEPENDENT",
            "for (int32_t i = 0; i < size; i++) {",
            *_indented(inside),
            "}",
            *(line for accessor in changed for line in accessor.closing()),
        ]
        return [
            "const uint32_t step = (uint32_t)(int64_t)read_counter(item, STEP);",
            *(line for accessor in accessors for line in accessor.once()),
            "for (int64_t start = low; start < high; start += STORAGE_BLOCK) {",
            *_indented(within),
            "}",
        ]


def _function(signature: str, lines: list[str]) -> str:
    return "\n".join([f"static {signature} {{", *_indented(lines), "}"])


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
