"""Launches over blocks of elements, and over parameters for what belongs to whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from ... import codecs
from ..lowering import Op
from ..phases import is_summed, result, term
from .accessors import Accessor, spelled
from .emitter import Emitter, indented
from .kernel import Launch
from .layouts import Blocks
from .spelling import Spelling

BLOCK = 1024
"""Elements per program of the launch: 8 for each thread of 4 warps, which 16-byte loads divide for each dtype."""

CODED_BLOCK = codecs.BLOCK
"""Elements per program where something is coded: one block, which one warp holds."""


class Elements(Emitter):
    """Writer of a kernel that sees tensors as elements in a row."""

    @property
    def layout(self) -> Blocks:
        """Blocks of elements."""
        return Blocks(self.block)

    @property
    def block(self) -> int:
        """Elements of a tile, and numbers that are added up at a time."""
        return CODED_BLOCK if self.is_coded else BLOCK

    @property
    def warps(self) -> int:
        """Warps of a program."""
        return 1 if self.is_coded else 4

    def launches(self) -> dict[Launch, list[str]]:
        """Spell sums and numbers in as few launches as their order allows, then the update."""
        written: dict[Launch, list[str]] = {}
        pending = [0] if self._numbers_of([0]) else []
        for phase in range(1, self.phases.count):
            targets = [op.args[0] for op in self.phases.sums_in(phase)]
            if pending and self._reads_numbers(targets):
                written[Launch(f"combine_{phase - 1}", "tensor")] = self._combine(pending)
                pending = []
            written[Launch(f"add_{phase}", "tiles")] = self._add(phase)
            pending.append(phase)
        if pending:
            written[Launch(f"combine_{pending[-1]}", "tensor")] = self._combine(pending)
        if update := self._update():
            written[Launch("update", "tiles")] = update
        return written

    def _numbers_of(self, phases: Iterable[int]) -> list[Op]:
        """Return the numbers per tensor that are read or computed in some phases."""
        return [op for phase in phases for op in self.phases.values if self.phases.level[op] == phase]

    def _reads_numbers(self, targets: Iterable[Op]) -> bool:
        return any(op in self.phases.numbers for op in self.read_by(targets))

    # -- tiles -------------------------------------------------------------------------------------------------------

    def _tile(self, accessors: Iterable[Accessor]) -> list[str]:
        """Spell the place of a tile in its parameter's tensors."""
        parts = [part for accessor in accessors for part in accessor.parts]
        like = [part.name for part in parts if part.layout == "like"]
        return [
            "tile = tl.program_id(0)",
            *self.row("tl.load(owners + tile)"),
            "block = tile - first",
            f"start = block * {self.block}",
            "left = size - start",
            *self.unless_left_out("left"),
            f"i = tl.arange(0, {self.block})",
            *(self.address(part, {"like": " + start", "blocks": " + block"}[part.layout]) for part in parts),
            "if IS_ALIGNED:",
            *indented([f"at_{name} = tl.multiple_of(at_{name}, 16)" for name in like]),
        ]

    def _tiled(self, changed: Mapping[str, Op], targets: list[Op], results: Callable[[str], list[str]]) -> list[str]:
        """Spell a launch over tiles: what computes ``targets``, and ``results`` of them, given a mask."""
        cone, needed = self.expressions.cone(targets), self.read_by(targets)
        read, accessors = self.used(targets, changed)
        computed = self.computed(cone)
        opening = [line for each in accessors for line in each.opening(is_written=each.name in changed)]

        reduced = [op for op in self.phases.numbers if op in needed]
        step = f"doubles + own * {self.width_of_doubles} + {self.width - self.is_on_device}"

        def body(mask: str) -> list[str]:
            loads = [f"old_{name} = {self.accessors[name].load(mask)}" for name in read]
            return [*loads, *computed, *results(mask)]

        return [
            *self._tile(accessors),
            *self.constants(cone),
            *(f"{self.names[op]} = tl.load({self._place(op)}).to({spelled(self.real)})" for op in reduced),
            *([f"step = tl.load({step}).to(tl.int64).to(tl.uint32)"] if self.reads_counts(changed) else []),
            *opening,
            f"if left >= {self.block}:",
            *indented(body("")),
            "else:",
            *indented(["inside = i < left", *body(", mask=inside")]),
        ]

    def _place(self, op: Op) -> str:
        """Spell the address of a number of the parameter."""
        return f"reduced + place * {len(self.phases.numbers)} + {self.phases.numbers[op]}"

    def _update(self) -> list[str]:
        """Spell the launch that writes new elements; empty if none are new."""
        changed = self.changed()

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
                f"tl.store(sums + tile.to(tl.int64) * {count} + {self.phases.sums[op]}, total_of({each}))"
                for op, each in zip(ops, added, strict=True)
            ]

        return self._tiled({}, [op.args[0] for op in ops], totals)

    def _combine(self, phases: list[int]) -> list[str]:
        """Spell the launch that adds up the sums of tiles and computes the numbers that follow from them."""
        made = self._numbers_of(phases)
        read = [slot for name, slot in self.kept.items() if any(self.phases.is_read(name, n) for n in phases)]
        stored = [slot for name, slot in self.kept.items() if any(self.phases.is_stored(name, n) for n in phases)]
        computed = [op for op in made if op.word != "input"]
        given = dict.fromkeys(a for op in computed for a in op.args if a in self.phases.numbers and a not in made)
        spelling, mask = Spelling(torch.float64), f", mask={self.taken} != 0" if self.is_on_device else ""
        new = [self.names[self.expressions.outputs[slot.name]] for slot in stored]
        return [
            *self.row("tl.program_id(0)"),
            *map(self.address, dict.fromkeys([*read, *stored])),
            *map(self.kept_number, read),
            *self.constants((op for op in computed if not is_summed(op)), in_double=True),
            *(f"{self.names[op]} = tl.load({self._place(op)})" for op in given),
            *self._added([op for op in self.phases.sums if self.phases.level[op] in phases]),
            *(f"{self.names[op]} = {self._number(op, spelling)}" for op in computed),
            *(f"tl.store({self._place(op)}, {self.names[op]})" for op in made if op in self.phases.numbers),
            *(self.stored_number(slot, value, mask=mask) for slot, value in zip(stored, new, strict=True)),
        ]

    def _number(self, op: Op, spelling: Spelling) -> str:
        if op not in self.phases.sums:
            return self.expressions.spell(op, spelling)
        return result(op, f"total_{self.phases.sums[op]}", "size.to(tl.float64)", "tl.sqrt")

    def _added(self, ops: list[Op]) -> list[str]:
        """Spell the sums over all tiles: each lane adds every so manieth tile, and the lanes are added as a tile is."""
        if not ops:
            return []
        indices, count = [self.phases.sums[op] for op in ops], len(self.phases.sums)
        inside = [
            "inside = at + i < last",
            *(f"lanes_{k} += tl.load(sums + (at + i) * {count} + {k}, mask=inside, other=0.0)" for k in indices),
        ]
        return [
            f"i = tl.arange(0, {self.block})",
            f"last = first + (size + {self.block - 1}) // {self.block}",
            *(f"lanes_{k} = tl.full([{self.block}], 0.0, tl.float64)" for k in indices),
            f"for at in range(first, last, {self.block}):",
            *indented(inside),
            *(f"total_{k} = total_of(lanes_{k})" for k in indices),
        ]
