"""Parameters that one kernel call serves, remembered from step to step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ... import codecs
from ...rule import Program
from ...trace import RuleError, trace, with_count
from ...versions import distinct_versions
from ..base import ActiveParams, UnsupportedError
from ..memory import Memory, copied_like, same_layout
from ..phases import refused_sums
from ..slots import parts_of, plain_dtypes
from .accessors import DTYPES, FLOATS, Slot
from .compiler import find_compiler
from .emit import Kernel, emit
from .library import THREADS, interpreter, library_of, parallel

GRAD = attrgetter("grad")
Row = tuple[torch.dtype, ...]

REASONS = {
    1: "is a subclass of Tensor, or no dense tensor",
    2: "has another dtype than before, or is not on the CPU",
    3: "has another shape or layout than its parameter",
    4: "is missing",
    5: "has gaps in its memory",
    6: "shares memory with a parameter or its state",
    7: "has no memory of its own",
    8: "is no matrix, or a complex one",
    9: f"has rows that are no multiple of {codecs.BLOCK} long, the blocks in which its codes are kept",
}
"""Reasons by the code that launch.c returns for a tensor that it cannot run; see item.c."""

PLACE = 16
"""Factor of the tensor's place in what launch.c returns."""

COUNTED = (torch.float32, torch.float64)
"""The dtypes of step counts and scalar state, which launch.c reads and writes."""

MENDED = {3, 5, 6}
"""Codes of the reasons that a copy may remove."""


@cache
def kernel_for(program: Program, numbers: tuple[str, ...], dtypes: Row, counters: Row) -> Kernel:
    """Make the kernel of a program for these dtypes of tensors (p, g, stored state) and counters, only once."""
    if refusal := unknown_sums(program, numbers):
        raise UnsupportedError(refusal)
    traced = trace(program, numbers)
    parts = parts_of(program, traced, dtypes, Slot)
    return emit(traced, parts, tuple(zip(program.counted, counters, strict=True)), program.storage)


@cache
def unknown_sums(program: Program, numbers: tuple[str, ...]) -> str:
    """Return why the kernel's loops cannot run a program; empty if they can.

    It is empty too for a rule with a mistake in it, about which the first step teaches.
    """
    try:
        refusal = refused_sums(trace(program, numbers))
    except RuleError:
        return ""
    return f"the native executor {refusal}" if refusal else ""


def kernel_like(program: Program, numbers: tuple[str, ...], p: Tensor, is_fused: bool) -> Kernel:
    """Return the kernel for a parameter like ``p``, with a gradient and plain state of the parameter's dtype.

    ``is_fused`` says whether the group asks for ``fused=True``: step counts then have another dtype.
    """
    dtype = _real(p)
    _check_dtypes([dtype], FLOATS)
    counters = tuple(s.counter_dtype(is_fused) for s in program.counted.values())
    return kernel_for(program, with_count(program, numbers), plain_dtypes(program, dtype), counters)


def check_machine() -> None:
    """Raise `UnsupportedError` without a compiler, or with a torch that cannot describe its tensors."""
    find_compiler()
    interpreter()


class KernelBucket:
    """Parameters that share a kernel.

    Step counts and scalar state stay with each parameter, where the kernel reads and writes them.
    """

    def __init__(
        self,
        program: Program,
        numbers: tuple[str, ...],
        members: list[int],
        params: list[Tensor],
        states: list[dict[str, Any]],
        streams: list[int],
    ) -> None:
        """Compile the kernel that these parameters need, or raise `UnsupportedError`."""
        self.program, self.members, self.params, self.states = program, members, params, states
        dtypes, counters = _dtypes(program, params[0], states[0])
        self.kernel = kernel_for(program, numbers, dtypes, counters)
        self.library = library_of(self.kernel)
        keys = ["p", "g", *(s.name for s in program.stored), *(s.name for s in program.counted.values())]
        self._keys = list(map(sys.intern, keys))
        self._items = ctypes.create_string_buffer(max(1, len(params) * self.library.item_size))
        self._changed, self._needed = ctypes.c_int64(1), ctypes.c_int64(0)
        self._before = ctypes.byref(interpreter()), self._items, len(params)
        names = (ctypes.c_void_p * len(keys))(*map(id, self._keys))
        written = ctypes.create_string_buffer(self.library.written_size(len(params)))
        streamed = (ctypes.c_int64 * len(streams))(*streams)
        self._after = names, ctypes.byref(self._changed), streamed, written, ctypes.byref(self._needed)
        self._numbers = (ctypes.c_double * max(1, len(self.kernel.numbers)))()
        self._scratch: Any = (ctypes.c_double * 0)()
        self._blocks = 0
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._grads: list[Any] = []
        self._written: list[Tensor] = []

    def ready(self, grads: list[Tensor]) -> bool:
        """Read the current addresses of all tensors, and return whether the kernel can still run them."""
        try:
            self.read(grads)
        except UnsupportedError:
            self._grads = []
            return False
        return True

    def read(self, grads: list[Tensor]) -> None:
        """Read the current addresses of all tensors, or raise `UnsupportedError`."""
        self._copies, self._grads = [], grads
        self._blocks = self._load(self.params, self.states)
        if self._blocks < 0 and self._answer in MENDED:
            self._blocks = self._load_copies()
        if self._blocks < 0:
            raise UnsupportedError(self._reason())
        if self._changed or self.params[0].is_complex():  # a conjugate view lies where its tensor does
            written = [*self.params, *(held[name] for name in self._keys[2:] for held in self.states)]
            _refuse_views(written)
            if self._changed:
                self._written = distinct_versions(written)
                self._changed.value = 0

    @property
    def _answer(self) -> int:
        return (-1 - self._blocks) % PLACE

    def _reason(self) -> str:
        index, place = divmod(-1 - self._blocks, 1024)
        name = (*self._keys[: len(self.kernel.slots)], "step count or scalar state")[place // PLACE]
        shape = tuple(self.params[index].shape)
        return f"{name} of the parameter of shape {shape} {REASONS[self._answer]}"

    def _load(self, params: list[Tensor], states: list[dict[str, Any]]) -> int:
        if any(map(Tensor.is_neg, self._grads)) or self.params[0].is_complex():
            self._grads = [g.resolve_conj().resolve_neg() for g in self._grads]
        return int(self.library.load(*self._before, params, self._grads, states, *self._after))

    def _load_copies(self) -> int:
        """Copy tensors whose layout has gaps or is not their parameter's, and gradients that the step would write."""
        params = [self._fitted(p, p if self.kernel.view == "elements" else _row_major(p)) for p in self.params]
        written = Memory((*self.params, *(held[s.name] for s in self.program.stored for held in self.states)))
        pairs = zip(self._grads, params, strict=True)
        self._grads = [g if same_layout(g, p) and not written.holds(g) else copied_like(g, p) for g, p in pairs]
        like = [slot.name for slot in self.kernel.slots[2:] if slot.layout == "like" and slot.dtype in FLOATS]
        states = [
            {**held, **{name: self._fitted(held[name], p) for name in like}}
            for held, p in zip(self.states, params, strict=True)
        ]
        return self._load(params, states)

    def _fitted(self, x: Tensor, like: Tensor) -> Tensor:
        """Return ``x`` itself, or room for a dense copy in the layout of ``like``.

        The step fills the copy and writes it back. It is not filled here, because buckets that share memory with this
        one may step first.
        """
        if same_layout(x, like):
            return x
        if any(size > 1 and stride == 0 for size, stride in zip(x.shape, x.stride(), strict=True)):
            raise UnsupportedError(
                f"a tensor of shape {tuple(x.shape)} overlaps itself (expand); give the optimizer its clone()"
            )
        copy = torch.empty_like(like, dtype=x.dtype)
        self._copies.append((x, copy))
        return copy

    def step(self, numbers: Mapping[str, Any]) -> None:
        """Run the kernel over the tensors that `ready` has read."""
        kernel = self.kernel
        self._numbers[:] = [numbers[name] for name in kernel.numbers] or [0.0]
        count = len(self.params)
        if len(self._scratch) < self._needed.value:
            self._scratch = (ctypes.c_double * self._needed.value)()
        arguments = self._numbers, self._scratch, parallel(), THREADS.count()
        for original, copy in self._copies:
            copy.copy_(original)
        self.library.run(self._items, count, self._blocks, *arguments)
        self._grads = []
        increment_version(self._written)
        for original, copy in self._copies:
            original.copy_(copy)
        self._copies = []


def _row_major(p: Tensor) -> Tensor:
    """Return ``p`` itself, or room of its shape, if its rows do not lie one after the other."""
    return p if p.is_contiguous() else torch.empty(p.shape, dtype=p.dtype)


def _refuse_views(tensors: list[Tensor]) -> None:
    """Raise `UnsupportedError` for a view that negates or conjugates its memory, which the kernel cannot see."""
    if any(map(Tensor.is_neg, tensors)) or any(map(Tensor.is_conj, tensors)):
        raise UnsupportedError(
            "a parameter or its state is a negated or conjugate view; give resolve_neg().resolve_conj()"
        )


def _dtypes(program: Program, p: Tensor, held: dict[str, Any]) -> tuple[Row, Row]:
    """Return the dtypes of p, g and the tensor state, and of the counters, as real numbers."""
    tensors = [_real(x) for x in (p, p.grad, *(held[s.name] for s in program.stored))]
    counters = [held[s.name].dtype for s in program.counted.values()]
    _check_dtypes(tensors, DTYPES)
    _check_dtypes(tensors[:2], FLOATS)
    _check_dtypes(counters, COUNTED, "counts")
    return tuple(tensors), tuple(counters)


def _check_dtypes(dtypes: list[torch.dtype], known: Collection[torch.dtype], what: str = "computes") -> None:
    unknown = next((d for d in dtypes if d not in known), None)
    if unknown is not None:
        told = ", ".join(map(str, FLOATS if known is DTYPES else known))
        raise UnsupportedError(f"the native executor {what} with {told}, not {unknown}")


def _real(x: Any) -> torch.dtype:
    dtype: torch.dtype = x.dtype
    return dtype.to_real()


def make_buckets(live: ActiveParams) -> Iterator[KernelBucket]:
    """Put parameters together that share a kernel: equal dtypes, and equal age where it makes a difference.

    Raises:
        UnsupportedError: some parameter cannot be run.
    """
    for program, members in live.grouped_by(_dtypes):
        bucket = KernelBucket(program, with_count(program, live.numbers), members, *live.at(members))
        bucket.read(list(map(GRAD, bucket.params)))
        yield bucket
