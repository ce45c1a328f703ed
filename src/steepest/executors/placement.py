"""Placement of the results of list operations, and the spelling of the calls.

An operation may write over an operand at the operand's last use. The chain that leads from a state's old value to its
new one runs in the state's own memory. Every other result is a temporary, which is deleted after its last use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .lifting import BOXED, NUMBER, TAKE_ONE_TENSOR
from .lowering import ONE, REDUCTIONS, Op

IN_PLACE = {"add": 1, "addcmul": 1, "addcdiv": 1, "mul": 2, "div": 1, "lerp": 1, "maximum": 2, "minimum": 2}
"""Number of leading operands that an operation may write over (1 for all functions of one tensor)."""
NEVER_IN_PLACE = {"input", "select", *REDUCTIONS}


def _writable(op: Op) -> tuple[Op, ...]:
    """Return the operands that ``op`` could write over, if they were not needed any more."""
    if op.word in NEVER_IN_PLACE or op.pattern:
        return ()
    count = 2 if op.word == "add" and op.numbers == (ONE,) else IN_PLACE.get(op.word, 1)
    return tuple(a for a in op.args[:count] if a.extent == op.extent)


@dataclass(eq=False)
class Placement:
    """The place of each operation's result, and the lines that call the operations."""

    inputs: dict[str, Op]
    outputs: dict[str, Op]
    ops: list[Op]
    names: dict[Op, str] = field(default_factory=dict)
    homes: dict[Op, Op] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    constants: dict[tuple[str, bool], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find last uses, then the chains that run inside an input's memory."""
        self.position = {op: i for i, op in enumerate(self.ops)}
        self.last = self._last_uses()
        for name, result in self.outputs.items():
            self.homes.update(self._chain(result, self.inputs[name]) or {})

    def _last_uses(self) -> dict[Op, int]:
        last: dict[Op, int] = dict.fromkeys(self.outputs.values(), len(self.ops))
        for op in reversed(self.ops):
            # What select picks is one of its operands: they live as long as the pick does.
            until = last.get(op, 0) if op.word == "select" else self.position[op]
            for arg in op.args:
                last[arg] = max(last.get(arg, 0), until)
        return last

    def _chain(self, op: Op, home: Op) -> dict[Op, Op] | None:
        """Find the operand that each operation from ``home`` to ``op`` writes over; None if no such chain exists."""
        if op is home:
            return {}
        for operand in _writable(op):
            if self.last[operand] == self.position[op] and op not in self.homes:
                rest = self._chain(operand, home)
                if rest is not None:
                    return rest | {op: operand}
        return None

    def emit(self) -> list[str]:
        """Spell every operation, then copies of the results that were computed outside their own memory."""
        self.names.update({op: spelled(name) for name, op in self.inputs.items()})
        for together in self._at_once():
            numbers = (a for op in together for a in op.args if a.word in (NUMBER, BOXED))
            self.names.update({a: self._constant(a.numbers[0], a.word == BOXED) for a in numbers})
            if together[0].word in REDUCTIONS:
                self._emit_reductions(together)
            else:
                self._emit(together[0])
            for op in together:
                self._free(op)
        self._emit_copies()
        return self.lines

    def _at_once(self) -> Iterator[list[Op]]:
        """Yield the operations, those reductions together that stand together and do not need each other."""
        held: list[Op] = []
        for op in self.ops:
            if held and (op.word not in REDUCTIONS or any(a in held for a in op.args)):
                yield held
                held = []
            held.append(op)
            if op.word not in REDUCTIONS:
                yield held
                held = []
        if held:
            yield held

    def _free(self, op: Op) -> None:
        """Delete the temporaries that ``op`` is the last to read."""
        needed = {self.names[other] for other in self.names if self.last.get(other, 0) > self.position[op]}
        spent = dict.fromkeys(name for a in op.args if (name := self.names[a]).startswith(("t_", "s_")))
        self.lines += [f"del {name}" for name in spent if name not in needed]

    def _emit(self, op: Op) -> None:
        if op.word == "select":
            a, b = (self.names[x] for x in op.args)
            self._assign(op, f"{a} if {self._constant(op.numbers[0])} else {b}")
        elif op.pattern:
            self._emit_each(op)
        else:
            self._emit_list_call(op)

    def _emit_each(self, op: Op) -> None:
        held = [f"x{i}" for i in range(len(op.args))]
        tensors, numbers = iter(held), iter(map(self._constant, op.numbers))
        spelled = ", ".join(next(tensors if is_tensor else numbers) for is_tensor in op.pattern)
        lists = ", ".join(self.names[a] for a in op.args)
        self._assign(op, f"[{op.word}({spelled}) for {', '.join(held)}, in zip({lists}, strict=True)]")

    def _emit_reductions(self, ops: list[Op]) -> None:
        """Spell reductions as one call for whole lists, which may add up parts on several ranks."""
        calls = [self._reduction(op) for op in ops]
        names = [f"t_{len(self.lines)}_{place}" for place in range(len(ops))]
        self.names.update(zip(ops, names, strict=True))
        self.lines.append(f"{', '.join(names)}{',' * (len(ops) == 1)} = reduced({', '.join(calls)})")

    def _reduction(self, op: Op) -> str:
        (x,) = op.args
        numbers = "".join(f", {self._constant(n)}" for n in op.numbers)
        return f"({op.word}, {int(x.extent)}, {self.names[x]}{numbers})"

    def _emit_list_call(self, op: Op) -> None:
        target = self.homes.get(op) or next((a for a in _writable(op) if self._is_spent(a, op)), None)
        if target is None:
            self._assign(op, self._call(op, op.args, ""))
            return
        first = op.args.index(target)
        args = (target, *op.args[:first], *op.args[first + 1 :])
        self.lines.append(self._call(op, args, "_"))
        self.names[op] = self.names[target]

    def _is_spent(self, operand: Op, op: Op) -> bool:
        """Return whether ``operand`` is a temporary that ``op`` is the last to use.

        An input is written only by its own chain.
        """
        spent = self.names[operand].startswith("t_") and self.last[operand] == self.position[op]
        # What select picked is the memory of one of its operands, which may be needed for longer.
        picked = operand.args if operand.word == "select" else ()
        return spent and all(a.extent == operand.extent and self._is_spent(a, op) for a in picked)

    def _call(self, op: Op, args: tuple[Op, ...], suffix: str) -> str:
        words = [self.names[a] for a in args]
        keyword = {"add": "alpha=", "addcmul": "value=", "addcdiv": "value="}.get(op.word, "") if len(args) > 1 else ""
        boxed = op.word in TAKE_ONE_TENSOR and not keyword
        words += [keyword + self._constant(n, boxed) for n in op.numbers if not (keyword and n == ONE)]
        is_with_number = op.word == "add" and (boxed or op.args[-1].word == BOXED)
        return f"{'plus' if is_with_number else f'torch._foreach_{op.word}'}{suffix}({', '.join(words)})"

    def _assign(self, op: Op, value: str) -> None:
        aliases_input = op.word == "select" and not all(self.names[a].startswith("t_") for a in op.args)
        self.names[op] = f"{'s' if aliases_input else 't'}_{len(self.lines)}"
        self.lines.append(f"{self.names[op]} = {value}")

    def _constant(self, expression: str, boxed: bool = False) -> str:
        return self.constants.setdefault((expression, boxed), f"{'b' if boxed else 'c'}_{len(self.constants)}")

    def _emit_copies(self) -> None:
        wanted = {spelled(name): op for name, op in self.outputs.items()}
        moved = {name: op for name, op in wanted.items() if self.names[op] != name}
        for op in dict.fromkeys(moved.values()):
            if not self.names[op].startswith("t_") and op is not self.inputs["g"]:
                # A list that is another input's memory, which may itself be about to change.
                self._assign(op, f"[x.clone() for x in {self.names[op]}]")
        self.lines += [f"torch._foreach_copy_({name}, {self.names[op]})" for name, op in moved.items()]


def spelled(name: str) -> str:
    """Return an input's name in the generated code, with a prefix that no temporary and no function has."""
    return f"in_{name}"
