"""Accessors: the lines of C in the emitter's loops that read and write a rule's tensor, plain or coded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ... import codecs
from ...codecs import Bfloat16, Codec, Int8, Kahan
from .. import slots
from ..base import UnsupportedError

FLOATS = {torch.float32: (2, 32), torch.float64: (2, 64), torch.bfloat16: (4, 16), torch.float16: (2, 16)}
"""The dtypes of parameters, gradients and plain state, with DLPack's type code and width in bits."""

DTYPES = {**FLOATS, torch.uint8: (1, 8)}
"""The dtypes of all tensors that a kernel reads."""


@dataclass(frozen=True)
class Slot(slots.Slot):
    """A slot in C."""

    @cached_property
    def c_type(self) -> str:
        """The C type of an element, which also names the functions that load and store it."""
        return {torch.uint8: "uint8_t"}.get(self.dtype, str(self.dtype).removeprefix("torch."))

    @property
    def at(self) -> str:
        """The loop's current element, in C."""
        return f"at_{self.name}[i]"


class Accessor:
    """A plain tensor: one element of its only part, converted.

    Attributes:
        name: the rule's tensor: ``p``, ``g`` or a state.
        parts: the tensors that hold the rule's tensor.
        place: its number among the rule's tensors, for the key of random bits.
    """

    is_blockwise = False
    """True for a tensor that is written 256 elements at a time."""

    def __init__(self, name: str, parts: tuple[Slot, ...], place: int) -> None:
        self.name, self.parts, self.place = name, parts, place

    def once(self) -> list[str]:
        """Return the lines before all loops of an update."""
        return []

    def opening(self) -> list[str]:
        """Return the lines at the start of each block of an update."""
        return []

    def load(self) -> str:
        """Return the expression for the element's value in an update."""
        return f"load_{self.parts[0].c_type}({self.parts[0].at})"

    def load_alone(self) -> str:
        """Return the expression for the element's value outside an update, where nothing was prepared for the block."""
        return self.load()

    def store(self, value: str) -> list[str]:
        """Return the lines that write ``value`` to the element."""
        return [f"{self.parts[0].at} = store_{self.parts[0].c_type}({value});"]

    def closing(self) -> list[str]:
        """Return the lines at the end of each block in which the tensor was stored."""
        return []


class _Random(Accessor):
    """A tensor that is rounded with random bits."""

    is_blockwise = True

    def once(self) -> list[str]:
        return [f"const uint32_t stream_{self.name} = key_of(item->stream, step, {self.place});"]

    def opening(self) -> list[str]:
        return [f"const uint32_t key_{self.name} = block_key(stream_{self.name}, item->first + start);"]


class _StochasticBfloat16(_Random):
    def store(self, value: str) -> list[str]:
        return [f"{self.parts[0].at} = store_stochastic({value}, random_bits(key_{self.name}, i));"]


class _Int8(_Random):
    def __init__(self, name: str, parts: tuple[Slot, ...], place: int, nonnegative: bool) -> None:
        super().__init__(name, parts, place)
        self.grid = "nonnegative" if nonnegative else "signed"

    def opening(self) -> list[str]:
        unit = f"const float unit_of_{self.name} = unit_{self.grid}(*at_{self.parts[1].name});"
        return [*super().opening(), unit, f"float fresh_{self.name}[STORAGE_BLOCK];", f"uint32_t most_{self.name} = 0;"]

    def load(self) -> str:
        return f"level_{self.grid}({self.parts[0].at}) * unit_of_{self.name}"

    def load_alone(self) -> str:
        return f"level_{self.grid}({self.parts[0].at}) * unit_{self.grid}(at_{self.parts[1].name}[i / STORAGE_BLOCK])"

    def store(self, value: str) -> list[str]:
        largest = f"magnitude_of({value}) > most_{self.name} ? magnitude_of({value}) : most_{self.name}"
        return [f"fresh_{self.name}[i] = {value};", f"most_{self.name} = {largest};"]

    def closing(self) -> list[str]:
        codes, scale = (f"at_{part.name}" for part in self.parts)
        return [f"encode_{self.grid}(fresh_{self.name}, most_{self.name}, size, {codes}, {scale}, key_{self.name});"]


class _ReadInt8(_Int8):
    """State that a kernel reads and never writes, because it takes sums."""

    def store(self, value: str) -> list[str]:
        raise UnsupportedError("the native executor rounds int8 state stochastically alone")


class _Kahan(Accessor):
    def load(self) -> str:
        return " + ".join(f"load_bfloat16({part.at})" for part in self.parts)

    def store(self, value: str) -> list[str]:
        rounded, compensation = (part.at for part in self.parts)
        return [f"{rounded} = store_bfloat16({value});", f"{compensation} = store_compensation({value}, {rounded});"]


def _bfloat16(codec: Any, name: str, parts: tuple[Slot, ...], place: int) -> Accessor:
    return (_StochasticBfloat16 if codec.stochastic else Accessor)(name, parts, place)


def _int8(codec: Any, name: str, parts: tuple[Slot, ...], place: int) -> Accessor:
    return (_Int8 if codec.stochastic else _ReadInt8)(name, parts, place, codec.nonnegative)


def _kahan(codec: Any, name: str, parts: tuple[Slot, ...], place: int) -> Accessor:
    return _Kahan(name, parts, place)


ACCESSORS: dict[type[Codec], Callable[[Any, str, tuple[Slot, ...], int], Accessor]] = {
    Bfloat16: _bfloat16,
    Int8: _int8,
    Kahan: _kahan,
}
"""Functions that make the accessor of each codec."""


def accessor_of(name: str, parts: tuple[Slot, ...], place: int, storage: Mapping[str, Codec]) -> Accessor:
    """Return the accessor of the rule's tensor ``name``."""
    codec = storage.get(name)
    return Accessor(name, parts, place) if codec is None else ACCESSORS[type(codec)](codec, name, parts, place)


def definitions() -> str:
    """Spell the constants and the hash's rounds that codecs.py declares, which stand before storage.c."""
    constants = {name: getattr(codecs, name) for name in codecs.SPELLED}
    rounds = [f"  x ^= x >> {shift}; x *= {factor:#x}u;" for shift, factor in codecs.MIX]
    mixed = [*rounds, f"  x ^= x >> {codecs.LAST_SHIFT};", "  return x;"]
    lines = [f"#define {name} {value:#x}" for name, value in constants.items()]
    lanes = ", ".join(f"{lane * codecs.LANE_STEP % 2**32:#x}" for lane in range(codecs.BLOCK))
    lines.append(f"static const uint32_t LANE_BITS[STORAGE_BLOCK] = {{{lanes}}};")
    return "\n".join([*lines, "static inline uint32_t mixed(uint32_t x) {", *mixed, "}"])


def grids() -> str:
    """Spell the grids of 8-bit values, which stand after storage.c."""
    return "\n".join(
        f"GRID({name}, {grid.top}, {grid.shift}, {grid.sign:#x}, {_float(grid.largest)}, {_float(grid.smallest_scale)})"
        for name, grid in (("nonnegative", codecs.NONNEGATIVE), ("signed", codecs.SIGNED))
    )


def _float(value: float) -> str:
    return f"{value.hex()}f"
