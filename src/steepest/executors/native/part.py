"""Parameters that one kernel call serves, remembered from step to step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ...rule import Program
from ...trace import Rank, trace
from ..errors import UnsupportedError
from .compiler import find_compiler
from .emit import DTYPES, Kernel, Slot, emit
from .library import GRAIN, THREADS, interpreter, library_of, parallel

GRAD = attrgetter("grad")
Row = tuple[torch.dtype, ...]

REASONS = {
    1: "is a subclass of Tensor, or no dense tensor",
    2: "has another dtype than before, or is not on the CPU",
    3: "has another shape or layout than its parameter",
    4: "is missing",
    5: "has gaps in its memory",
}
"""What launch.c answers about a tensor that it cannot run."""

MENDED = {3, 5}
"""The answers that a copy mends."""


@cache
def kernel_for(program: Program, numbers: tuple[str, ...], dtypes: Row, counters: Row) -> Kernel:
    """The kernel of a program for tensors (p, g, state) and counters of these dtypes; traced and written once."""
    traced = trace(program, numbers)
    slots = (
        Slot(name, dtype, node.meta["rank"] == Rank.REDUCED)
        for (name, node), dtype in zip(traced.tensors.items(), dtypes, strict=True)
    )
    return emit(traced, tuple(slots), tuple(zip(program.counted, counters, strict=True)))


def kernel_like(program: Program, numbers: tuple[str, ...], p: Tensor) -> Kernel:
    """The kernel for a parameter like ``p``, with a gradient and state of its dtype."""
    dtype = _real(p)
    _check_dtypes([dtype])
    count = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    row = (dtype,) * (2 + len(program.tensors)), (count,) * len(program.counted)
    return kernel_for(program, _names(program, numbers), *row)


def _names(program: Program, numbers: tuple[str, ...]) -> tuple[str, ...]:
    return (*numbers, "t") if "t" in program.counted else numbers


def check_machine() -> None:
    """Raise `UnsupportedError` where no kernel can run: no compiler, or a torch that cannot describe its tensors."""
    find_compiler()
    interpreter()


class KernelPart:
    """Parameters that share a kernel. Step counts and scalar state stay with each parameter, where the kernel reads
    and writes them.
    """

    def __init__(self, program: Program, numbers: tuple[str, ...], params: list[Tensor], states: list[dict[str, Any]]):
        """Compile what these parameters need, or raise `UnsupportedError`."""
        self.program, self.params, self.states = program, params, states
        dtypes, counters = _dtypes(program, params[0], states[0])
        self.kernel = kernel_for(program, numbers, dtypes, counters)
        self.library = library_of(self.kernel)
        keys = ["p", "g", *(s.name for s in program.tensors), *(s.name for s in program.counted.values())]
        self._keys = list(map(sys.intern, keys))
        self._names = (ctypes.c_void_p * len(keys))(*map(id, self._keys))
        self._interpreter = interpreter()
        self._items = ctypes.create_string_buffer(max(1, len(params) * self.library.item_size))
        self._numbers = (ctypes.c_double * max(1, len(self.kernel.numbers)))()
        self._scratch: Any = (ctypes.c_double * 0)()
        self._blocks = 0
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._grads: list[Any] = []
        self._changed = ctypes.c_int64(1)
        self._written: list[Tensor] = []

    def ready(self) -> bool:
        """Read where everything lies now; whether all of it is still such that this kernel can run it."""
        self._copies, self._grads = [], list(map(GRAD, self.params))
        self._blocks = self._load(self.params, self.states)
        if self._blocks < 0 and self._answer in MENDED:
            self._blocks = self._load_copies()
        if self._blocks < 0:
            return False
        if self._changed:
            self._written = [*self.params, *(held[name] for name in self._keys[2:] for held in self.states)]
            self._changed.value = 0
        return True

    @property
    def _answer(self) -> int:
        return (-1 - self._blocks) % 8

    def reason(self) -> str:
        """Why the part is not ready."""
        index, place = divmod(-1 - self._blocks, 1024)
        name = (*self._keys[: len(self.kernel.slots)], "step count or scalar state")[place // 8]
        shape = tuple(self.params[index].shape)
        return f"{name} of the parameter of shape {shape} {REASONS[self._answer]}"

    def _load(self, params: list[Tensor], states: list[dict[str, Any]]) -> int:
        if any(map(Tensor.is_neg, self._grads)) or self.params[0].is_complex():
            self._grads = [g.resolve_conj().resolve_neg() for g in self._grads]
        arguments = params, self._grads, states, self._names, ctypes.byref(self._changed)
        return int(self.library.load(ctypes.byref(self._interpreter), self._items, len(params), *arguments))

    def _load_copies(self) -> int:
        """Give every tensor whose layout is not its parameter's, or has gaps, a copy that fits."""
        params = [self._fitted(p, p) for p in self.params]
        pairs = zip(self._grads, params, strict=True)
        self._grads = [g if _fits(g, p) else torch.empty_like(p, dtype=g.dtype).copy_(g) for g, p in pairs]
        like = [s.name for s in self.program.tensors if s.kind == "like"]
        states = [
            {**held, **{name: self._fitted(held[name], p) for name in like}}
            for held, p in zip(self.states, params, strict=True)
        ]
        return self._load(params, states)

    def _fitted(self, x: Tensor, like: Tensor) -> Tensor:
        """``x`` itself, or a dense copy in the layout of ``like`` that is written back after the step."""
        if _fits(x, like):
            return x
        if any(size > 1 and stride == 0 for size, stride in zip(x.shape, x.stride(), strict=True)):
            raise UnsupportedError(
                f"a tensor of shape {tuple(x.shape)} overlaps itself (expand); give the optimizer its clone()"
            )
        copy = torch.empty_like(like, dtype=x.dtype).copy_(x)
        self._copies.append((x, copy))
        return copy

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Run the kernel over what `ready` has found."""
        kernel = self.kernel
        self._numbers[:] = [numbers[name] for name in kernel.numbers] or [0.0]
        count = len(self.params)
        needed = count * (kernel.constants + kernel.reductions + 1) + self._blocks * kernel.sums
        if len(self._scratch) < needed:
            self._scratch = (ctypes.c_double * needed)()
        pool = THREADS.count(), GRAIN
        self.library.run(self._items, count, self._blocks, self._numbers, self._scratch, parallel(), *pool)
        self._grads = []
        increment_version(self._written)
        for original, copy in self._copies:
            original.copy_(copy)
        self._copies = []


def _fits(x: Tensor, like: Tensor) -> bool:
    return x.stride() == like.stride() and torch.ops.aten.is_non_overlapping_and_dense(x)


def _dtypes(program: Program, p: Tensor, held: dict[str, Any]) -> tuple[Row, Row]:
    """The dtypes of p, g and the tensor state, and of the counters, as real numbers."""
    tensors = [p, p.grad, *(held[s.name] for s in program.tensors)]
    counters = [held[s.name] for s in program.counted.values()]
    dtypes = [_real(x) for x in (*tensors, *counters)]
    _check_dtypes(dtypes)
    return tuple(dtypes[: len(tensors)]), tuple(dtypes[len(tensors) :])


def _check_dtypes(dtypes: list[torch.dtype]) -> None:
    unknown = next((d for d in dtypes if d not in DTYPES), None)
    if unknown is not None:
        raise UnsupportedError(f"the native executor computes with {', '.join(map(str, DTYPES))}, not {unknown}")


def _real(x: Any) -> torch.dtype:
    dtype: torch.dtype = x.dtype
    return dtype.to_real()


def cut(
    live: list[Tensor],
    states: list[dict[str, Any]],
    first: list[bool],
    make_program: Callable[[bool], Program],
    numbers: tuple[str, ...],
) -> Iterator[KernelPart]:
    """Put parameters together that share a kernel: the same dtypes, and the same age where it makes a difference.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    together: dict[Any, list[int]] = {}
    for index, (p, held, is_first) in enumerate(zip(live, states, first, strict=True)):
        together.setdefault((is_first, _dtypes(make_program(is_first), p, held)), []).append(index)
    for (is_first, _), members in together.items():
        program = make_program(is_first)
        part = KernelPart(program, _names(program, numbers), [live[i] for i in members], [states[i] for i in members])
        if not part.ready():
            raise UnsupportedError(part.reason())
        yield part
