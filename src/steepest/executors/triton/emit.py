"""Triton of a trace: the kernel of one program, and the host part that computes its constants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from ... import codecs
from ...codecs import Codec
from ...kinds import Extent
from ...trace import Trace
from ...views import compute_dtype
from ..base import UnsupportedError
from ..expressions import REDUCTIONS, ROOTS, Expressions, is_power, is_root
from ..lowering import Op
from ..phases import Phases, is_summed, made_of, result, term
from ..plan import Host, compiled, host_source
from ..slots import Slot, in_order, places_of
from .accessors import HALVES, Accessor, accessor_of, functions, rounded, spelled
from .count import Counting
from .count import counting as spelled_counting
from .tables import COLUMNS

BLOCK = 1024
"""Elements per program of the launch: 8 for each thread of 4 warps, which 16-byte loads divide for each dtype."""

WORDS = {
    "maximum": "tl.where({1} > {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "minimum": "tl.where({1} < {0}, {1}, tl.where({1} == {1}, {0}, {1}))",
    "abs": "tl.abs({0})",
    "same": "{0}",
    "sign": "({0} > 0).to({real}) - ({0} < 0).to({real})",
    "where": "tl.where({0} != 0, {1}, {2})",
    "filled": "tl.broadcast_to({1}, {0}.shape)",
    "lerp": "tl.where(tl.abs({2}) < 0.5, {0} + {2} * ({1} - {0}), {1} + ({2} - 1) * ({1} - {0}))",
    "gt": "({0} > {1}).to({real})",
    "ge": "({0} >= {1}).to({real})",
    "lt": "({0} < {1}).to({real})",
    "le": "({0} <= {1}).to({real})",
    "eq": "({0} == {1}).to({real})",
    "ne": "({0} != {1}).to({real})",
}
"""Words and comparisons as words.c has them: a maximum keeps NaN and the first of two zeros."""

FUNCTIONS = ("log", "exp", "sigmoid", "atan2", "cube_root")
"""Functions of float32 numbers in words.txt. Of doubles there are none, as C takes those from its library."""

PRECISE = {
    torch.float32: ("tl.sqrt_rn({0})", "tl.div_rn({0}, {1})"),
    torch.float64: ("tl.sqrt({0})", "{0} / {1}"),
}
"""Root and quotient that IEEE 754 rounds, by the dtype to compute in. Those of doubles have no other form."""

SPELLED_ALIKE = ("add", "addcmul", "addcdiv", "mul", "div", "reciprocal", "select")
"""Operations that `Expressions.spell` writes without a word."""


TILE = codecs.BLOCK
"""Elements per program where something is coded: one block, which one warp holds."""


@dataclass(frozen=True)
class Launch:
    """One launch of a step.

    Attributes:
        function: the function of the kernel's source.
        is_tiled: whether there is a program for each tile; else one for each parameter.
    """

    function: str
    is_tiled: bool


@dataclass(frozen=True)
class Kernel:
    """Triton for one program and one choice of dtypes.

    Attributes:
        source: Python with the functions of the launches, which Triton compiles.
        launches: the launches of a step, in order.
        slots: the tensors, in the kernel's order: p, g, then the program's stored state.
        host: the host part, which computes the kernel's constants.
        block: the number of elements of a tile.
        warps: the number of warps of a program.
        reductions, sums: the doubles that the launches keep for each parameter, and for each tile.
        is_counted: whether the launches read the step count after the constants in double.
        counting: the launch before these, which counts steps on the device; None where the host counts.
    """

    source: str
    launches: tuple[Launch, ...]
    slots: tuple[Slot, ...]
    host: Host
    block: int
    warps: int
    reductions: int
    sums: int
    is_counted: bool
    counting: Counting | None = None

    @property
    def real(self) -> torch.dtype:
        """The dtype to compute in, and of the constants of elements."""
        return compute_dtype(self.slots[0].dtype)

    @property
    def reads_doubles(self) -> bool:
        """True if launches read constants in double."""
        return self.is_counted or self.reductions > 0


@dataclass(frozen=True)
class _Spelling:
    """Triton in one dtype."""

    real: torch.dtype

    def call(self, word: str, args: list[str]) -> str:
        if word in REDUCTIONS:
            word = "abs" if made_of(word).of_squares else "same"
        if word in FUNCTIONS:
            return f"{word}_f({', '.join(args)})"
        template = PRECISE[self.real][0] if word == "sqrt" else WORDS[word]
        return template.format(*args, real=spelled(self.real))

    def quotient(self, a: str, b: str) -> str:
        return PRECISE[self.real][1].format(a, b)

    def choice(self, number: str, a: str, b: str) -> str:
        return f"tl.where({number} != 0, {a}, {b})"

    def power(self, base: str, exponent: str) -> str:
        return f"tl.where({exponent} == 0.5, {self.call('sqrt', [base])}, power_f({base}, {exponent}))"


def unknown_words(trace: Trace, real: torch.dtype) -> list[str]:
    """Return the words of a trace that no kernel computing in ``real`` has to the bits of the CPU, in order.

    C takes square roots where all exponents of the step are 1/2, and so several exponents are refused. Numbers of whole
    tensors are computed in double.
    """
    expressions = Expressions(trace)
    full = [op for op in expressions.ops if op.extent == Extent.FULL]
    exponents = {op.numbers for op in full if is_power(op) and not is_root(op)}
    dtypes = {op: real if op in full else torch.float64 for op in expressions.ops if not is_summed(op)}
    unknown = {word for op, dtype in dtypes.items() if (word := _unknown_word(op, dtype))}
    return sorted(unknown | ({"powers by several numbers"} if len(exponents) > 1 else set()))


def _unknown_word(op: Op, real: torch.dtype) -> str:
    """Return the word of an operation that cannot be spelled; empty for an operation that can."""
    word = ROOTS[op.numbers[0]] if is_root(op) else "power" if is_power(op) else op.word
    if word in ("sqrt", *SPELLED_ALIKE) and (is_power(op) or not op.pattern):
        return ""
    is_known = word in (*WORDS, *REDUCTIONS) or (word in (*FUNCTIONS, "power") and real == torch.float32)
    return "" if is_known else f"{word} of {real}".replace("torch.", "")


def emit(
    trace: Trace,
    parts: Mapping[str, tuple[Slot, ...]],
    storage: Mapping[str, Codec],
    counters: tuple[tuple[str, torch.dtype], ...] | None = None,
) -> Kernel:
    """Write the kernel of ``trace``.

    Args:
        trace: the program's trace.
        parts: the tensors that hold p, g and each tensor state, in the trace's order.
        storage: the codecs of coded tensors, by name.
        counters: names and dtypes of ``t`` and scalar state, where they stay on the device; None where the host counts.

    Raises:
        UnsupportedError: the trace has words that Triton's functions do not round as the CPU does.
    """
    slots = in_order(parts)
    if words := unknown_words(trace, compute_dtype(slots[0].dtype)):
        raise UnsupportedError(f"the Triton executor does not have {', '.join(words)} yet")
    return _Emitter(trace, parts, slots, storage, counters).kernel()


ARGUMENTS = ("table", "owners", "constants", "doubles", "sums", "reduced")
"""Arguments of every function that is launched: the tables of parameters and tiles, the constants of elements, those of
numbers in double, and room for each tile's sums and each parameter's numbers.
"""


class _Emitter:
    def __init__(
        self,
        trace: Trace,
        parts: Mapping[str, tuple[Slot, ...]],
        slots: tuple[Slot, ...],
        storage: Mapping[str, Codec],
        counters: tuple[tuple[str, torch.dtype], ...] | None,
    ) -> None:
        self.trace, self.slots, self.counters = trace, slots, counters
        self.expressions = Expressions(trace)
        self.names = self.expressions.names
        self.phases = Phases(self.expressions)
        self.real = compute_dtype(slots[0].dtype)
        places = places_of(parts)
        self.accessors = {
            name: accessor_of(name, held, places.get(name, 0), self.real, storage)
            for name, held in parts.items()
            if held[0].layout == "like"
        }
        self.kept = {name: held[0] for name, held in parts.items() if held[0].layout == "number"}
        self.is_coded = any(accessor.is_coded for accessor in self.accessors.values())
        self.is_on_device = counters is not None
        self.is_random = any(codec.stochastic for codec in storage.values())
        self.is_counted = self.is_random or self.is_on_device
        self.block = TILE if self.is_coded else BLOCK

    def kernel(self) -> Kernel:
        """Spell the whole kernel. Expressions come first: they say which constants they need."""
        for op in self.expressions.ops:
            self.expressions.spell(op, _Spelling(self.real))
        written: dict[Launch, list[str]] = {}
        pending = [0] if self._numbers_of([0]) else []
        for phase in range(1, self.phases.count):
            targets = [op.args[0] for op in self.phases.sums_in(phase)]
            if pending and self._reads_numbers(targets):
                written[Launch(f"combine_{phase - 1}", False)] = self._combine(pending, is_last=False)
                pending = []
            written[Launch(f"add_{phase}", True)] = self._add(phase)
            pending.append(phase)
        if pending:
            written[Launch(f"combine_{pending[-1]}", False)] = self._combine(pending, is_last=True)
        if update := self._update():
            written[Launch("update", True)] = update
        functions = [line for launch, lines in written.items() for line in self._function(launch, lines)]
        head = ["import triton", "import triton.language as tl", "", ""]
        counting = None
        if self.counters is not None:
            counting = spelled_counting(self.trace, self.expressions, self.counters, self.real)
            functions = [*functions, counting.source]
        source = "\n".join([*head, *self._resources("\n".join(functions)), *functions]).rstrip() + "\n"
        host = compiled(host_source(self.trace, self.expressions.lowering, self.expressions.constants))["host"]
        sizes = len(self.phases.reduced), len(self.phases.sums)
        warps = 1 if self.is_coded else 4
        return Kernel(source, tuple(written), self.slots, host, self.block, warps, *sizes, self.is_counted, counting)

    def _function(self, launch: Launch, lines: list[str]) -> list[str]:
        signature = f"def {launch.function}({', '.join(ARGUMENTS)}, IS_ALIGNED: tl.constexpr):"
        return ["@triton.jit", signature, *_indented(_without_unused(lines)), "", ""]

    def _resources(self, text: str) -> list[str]:
        """Return the functions that the launched ones call."""
        resources = [words(), ""] if "_f(" in text else []
        resources += [functions(), ""] if self.is_coded else []
        return [*resources, *self._total()] if "total_of(" in text else resources

    def _numbers_of(self, phases: Iterable[int]) -> list[Op]:
        """Return the numbers per tensor that are known in some phases, kept ones in phase 0 among them."""
        kept = [self.expressions.inputs[name] for name in self.kept] if 0 in phases else []
        return [*kept, *(op for phase in phases for op in self.phases.numbers_in(phase))]

    def _reads_numbers(self, targets: Iterable[Op]) -> bool:
        return any(op in self.phases.reduced for op in self._read_by(targets))

    def _read_by(self, targets: Iterable[Op]) -> set[Op]:
        """Return all values that the elements of ``targets`` are computed from, and these."""
        targets = list(targets)
        return {*targets, *(a for op in self.expressions.cone(targets) for a in op.args)}

    # -- tiles -------------------------------------------------------------------------------------------------------

    def _row(self, place: str) -> list[str]:
        """Spell the lookup of a parameter's row in the table."""
        count = len(self.slots)
        columns = [f"{name} = tl.load(row + {place})" for place, name in enumerate(COLUMNS, count)]
        return [f"place = {place}.to(tl.int64)", f"row = table + place * {count + len(COLUMNS)}", *columns]

    def _address(self, slot: Slot, start: str = "") -> str:
        pointer = f"tl.load(row + {self.slots.index(slot)}).to(tl.pointer_type({spelled(slot.dtype)}))"
        return f"at_{slot.name} = {pointer}{start}"

    @property
    def _width(self) -> int:
        """Numbers in a row of constants. On the device the last one says whether the step is taken."""
        return len(self.expressions.constants) + 1 if self.is_on_device else max(1, len(self.expressions.constants))

    @property
    def _width_of_doubles(self) -> int:
        """Numbers in a row of constants in double."""
        return self._width + self.is_counted

    def _tile(self, accessors: Iterable[Accessor]) -> list[str]:
        """Spell the place of a tile in its parameter's tensors."""
        parts = [part for accessor in accessors for part in accessor.parts]
        like = [part.name for part in parts if part.layout == "like"]
        kept = f"constants + own * {self._width} + {self._width - 1}"
        return [
            "tile = tl.program_id(0)",
            *self._row("tl.load(owners + tile)"),
            "block = tile - first",
            f"start = block * {self.block}",
            "left = size - start",
            *([f"left *= tl.load({kept}).to(tl.int64)"] if self.is_on_device else []),
            f"i = tl.arange(0, {self.block})",
            *(self._address(part, {"like": " + start", "blocks": " + block"}[part.layout]) for part in parts),
            "if IS_ALIGNED:",
            *_indented([f"at_{name} = tl.multiple_of(at_{name}, 16)" for name in like]),
        ]

    def _tiled(self, changed: Mapping[str, Op], targets: list[Op], results: Callable[[str], list[str]]) -> list[str]:
        """Spell a launch over tiles: what computes ``targets``, and ``results`` of them, given a mask."""
        cone, needed = self.expressions.cone(targets), self._read_by(targets)
        read = [name for name in self.accessors if self.expressions.inputs[name] in needed]
        accessors = [self.accessors[name] for name in dict.fromkeys([*read, *changed])]
        spelling = _Spelling(self.real)
        computed = [f"{self.names[op]} = {self.expressions.spell(op, spelling)}" for op in cone]
        is_random = any(self.accessors[name].is_coded for name in changed) and self.is_random
        opening = [line for each in accessors for line in each.opening(is_written=each.name in changed)]

        reduced = [op for op in self.phases.reduced if op in needed]
        step = f"doubles + own * {self._width_of_doubles} + {self._width - self.is_on_device}"

        def body(mask: str) -> list[str]:
            loads = [f"old_{name} = {self.accessors[name].load(mask)}" for name in read]
            return [*loads, *computed, *results(mask)]

        return [
            *self._tile(accessors),
            *self._constants("constants", self._width, self.expressions.constants_of(cone)),
            *(f"{self.names[op]} = tl.load({self._place(op)}).to({spelled(self.real)})" for op in reduced),
            *([f"step = tl.load({step}).to(tl.int64).to(tl.uint32)"] if is_random else []),
            *opening,
            f"if left >= {self.block}:",
            *_indented(body("")),
            "else:",
            *_indented(["inside = i < left", *body(", mask=inside")]),
        ]

    def _place(self, op: Op) -> str:
        """Spell the address of a number of the parameter."""
        return f"reduced + place * {len(self.phases.reduced)} + {self.phases.reduced[op]}"

    def _constants(self, table: str, width: int, indices: Iterable[int]) -> list[str]:
        return [f"c{i} = tl.load({table} + own * {width} + {i})" for i in indices]

    def _update(self) -> list[str]:
        """Spell the launch that writes new elements; empty if none are new."""
        outputs, inputs = self.expressions.outputs, self.expressions.inputs
        changed = {name: op for name, op in outputs.items() if name in self.accessors and op is not inputs[name]}

        def stores(mask: str) -> list[str]:
            return [line for name, op in changed.items() for line in self.accessors[name].store(self.names[op], mask)]

        return self._tiled(changed, list(changed.values()), stores) if changed else []

    # -- sums --------------------------------------------------------------------------------------------------------

    def _add(self, phase: int) -> list[str]:
        """Spell the launch that takes the sums of each tile."""
        ops = self.phases.sums_in(phase)

        def totals(mask: str) -> list[str]:
            terms = [term(op, f"{self.names[op.args[0]]}.to(tl.float64)") for op in ops]
            added = [f"tl.where(inside, {each}, 0.0)" if mask else each for each in terms]
            count = len(self.phases.sums)
            return [
                f"tl.store(sums + tile.to(tl.int64) * {count} + {self.phases.sums.index(op)}, total_of({each}))"
                for op, each in zip(ops, added, strict=True)
            ]

        return self._tiled({}, [op.args[0] for op in ops], totals)

    def _total(self) -> list[str]:
        """Spell the sum of a tile: neighbours are added, then neighbouring sums, so that no layout changes a bit."""
        sizes = [self.block >> n for n in range(1, self.block.bit_length())]
        halved = [f"x = tl.sum(tl.reshape(x, [{size}, 2]), 1)" for size in sizes if size > 1]
        return ["@triton.jit", "def total_of(x):", *_indented([*halved, "return tl.sum(x, 0)"]), "", ""]

    def _combine(self, phases: list[int], *, is_last: bool) -> list[str]:
        """Spell the launch that adds up the sums of tiles and computes the numbers that follow from them."""
        made = self._numbers_of(phases)
        state = set(self.expressions.inputs.values())
        given = {a for op in made if op not in state for a in op.args if a in self.phases.reduced and a not in made}
        later = {a for op in self.expressions.ops if op not in made for a in op.args}
        later |= set() if is_last else {self.expressions.outputs[name] for name in self.kept}
        spelling = _Spelling(torch.float64)
        results = [f"{self.names[op]} = {self._number(op, spelling)}" for op in made if op not in state]
        width = self._width_of_doubles
        return [
            *self._row("tl.program_id(0)"),
            *(line for slot in self.kept.values() for line in self._kept(slot, is_read=0 in phases)),
            *self._constants("doubles", width, self.expressions.constants_of(made)),
            *(f"{self.names[op]} = tl.load({self._place(op)})" for op in given),
            *self._added([op for op in self.phases.sums if self.phases.level[op] in phases]),
            *results,
            *(f"tl.store({self._place(op)}, {self.names[op]})" for op in made if op in later),
            *(self._stored_numbers(made, width) if is_last else []),
        ]

    def _kept(self, slot: Slot, *, is_read: bool) -> list[str]:
        by_way = ".to(tl.float32)" if slot.dtype in HALVES else ""
        value = f"old_{slot.name} = tl.load(at_{slot.name}){by_way}.to(tl.float64)"
        return [self._address(slot), *([value] if is_read else [])]

    def _number(self, op: Op, spelling: _Spelling) -> str:
        if op not in self.phases.sums:
            return self.expressions.spell(op, spelling)
        return result(op, f"total_{self.phases.sums.index(op)}", "size.to(tl.float64)", "tl.sqrt")

    def _added(self, ops: list[Op]) -> list[str]:
        """Spell the sums over all tiles: each lane adds every so manieth tile, and the lanes are added as a tile is."""
        if not ops:
            return []
        indices, count = [self.phases.sums.index(op) for op in ops], len(self.phases.sums)
        inside = [
            "inside = at + i < last",
            *(f"lanes_{k} += tl.load(sums + (at + i) * {count} + {k}, mask=inside, other=0.0)" for k in indices),
        ]
        return [
            f"i = tl.arange(0, {self.block})",
            f"last = first + (size + {self.block - 1}) // {self.block}",
            *(f"lanes_{k} = tl.full([{self.block}], 0.0, tl.float64)" for k in indices),
            f"for at in range(first, last, {self.block}):",
            *_indented(inside),
            *(f"total_{k} = total_of(lanes_{k})" for k in indices),
        ]

    def _stored_numbers(self, made: list[Op], width: int) -> Iterator[str]:
        """Spell the new values of numbers that are kept as state."""
        mask = f", mask=tl.load(doubles + own * {width} + {width - 1}) != 0" if self.is_on_device else ""
        for name, slot in self.kept.items():
            new = self.expressions.outputs[name]
            if new is not self.expressions.inputs[name]:
                value = self.names[new] if new in made else f"tl.load({self._place(new)})"
                yield f"tl.store(at_{slot.name}, {rounded(value, slot.dtype, torch.float64)}{mask})"


@cache
def words() -> str:
    """Return the Triton of all `FUNCTIONS`, and of powers."""
    return files(__package__).joinpath("words.txt").read_text(encoding="utf-8")


def _without_unused(lines: list[str]) -> list[str]:
    """Leave out columns of the table that no other line reads."""
    text = "\n".join(lines)
    columns = {f"{name} = tl.load(row + ": name for name in COLUMNS}
    unused = [start for start, name in columns.items() if len(re.findall(rf"\b{name}\b", text)) == 1]
    return [line for line in lines if not line.startswith(tuple(unused))]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
