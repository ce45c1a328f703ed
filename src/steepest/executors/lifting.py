"""Numbers on the device, for a plan: its list calls take lists of 0-dim tensors where they took a number.

Under ``capturable=True`` the host never knows a step count, nor what follows from it; see `steepest.executors.vectors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..kinds import Extent
from .lowering import FOLDS, ONE, Op

NUMBER, BOXED = "number", "boxed"
"""Words of operands that are numbers on the device. A call takes a boxed one also as a single tensor for all."""

TAKE_ONE_TENSOR = {"add", "mul"}
"""List calls that take their number also as a 0-dim tensor. A CPU wraps a plain number into a float64 tensor for every
tensor of the list and converts it back. On small tensors this costs three times the call itself."""


def reading(lines: Iterable[tuple[str, str]], names: Iterable[str]) -> Callable[[str], bool]:
    """Return the predicate of host expressions that depend on a number in ``names``.

    ``lines`` are the host part; see `Lowering.host_lines`.
    """
    found = set(names)

    def reads(expression: str) -> bool:
        return bool(found) and not found.isdisjoint(compile(expression, "<steepest plan>", "eval").co_names)

    for name, expression in lines:
        if reads(expression):
            found.add(name)
    return reads


def lift(ops: list[Op], reads: Callable[[str], bool]) -> list[Op]:
    """Make operands of the numbers that ``reads`` says to be on the device, in operations that are folded.

    The factor of a sum becomes a product before the sum, which rounds as the sum with a factor does. What a number
    selects is picked by `torch.where`.
    """
    operands: dict[tuple[str, str], Op] = {}
    lifted: list[Op] = []

    def operand(expression: str, word: str) -> Op:
        kind = BOXED if word in TAKE_ONE_TENSOR else NUMBER
        return operands.setdefault((kind, expression), Op(kind, numbers=(expression,), extent=Extent.REDUCED))

    for op in ops:
        if not any(map(reads, op.numbers)):
            pass
        elif op.word in FOLDS.values() or (op.word == "add" and len(op.args) == 2):
            base, scaled, *rest = op.args
            product = Op("mul", (scaled, operand(op.numbers[0], "mul")), extent=scaled.extent)
            lifted.append(product)
            op.args, op.numbers = (base, product, *rest), (ONE,)
        elif op.word == "select":
            op.word, op.pattern = "where", (True, True, True)
            op.args, op.numbers = (operand(op.numbers[0], "where"), *op.args), ()
        elif op.pattern:
            _lift_each(op, reads, operand)
        else:
            op.args, op.numbers = (*op.args, *(operand(n, op.word) for n in op.numbers)), ()
        lifted.append(op)
    return lifted


def _lift_each(op: Op, reads: Callable[[str], bool], operand: Callable[[str, str], Op]) -> None:
    """Make operands of the numbers of a call for each tensor, in their places."""
    tensors, numbers = iter(op.args), iter(op.numbers)
    arguments = [next(tensors) if is_tensor else next(numbers) for is_tensor in op.pattern]
    found = [operand(x, op.word) if isinstance(x, str) and reads(x) else x for x in arguments]
    op.pattern = tuple(isinstance(x, Op) for x in found)
    op.args = tuple(x for x in found if isinstance(x, Op))
    op.numbers = tuple(x for x in found if isinstance(x, str))
