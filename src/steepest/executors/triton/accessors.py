"""Accessors: the lines of Triton that read and write a rule's tensor in a tile, plain or coded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from ... import codecs
from ...codecs import Bfloat16, Codec, Int8, Kahan
from ..base import UnsupportedError
from ..slots import Slot

HALVES = (torch.bfloat16, torch.float16)


def spelled(dtype: torch.dtype) -> str:
    """Return Triton's name of a dtype."""
    return str(dtype).replace("torch.", "tl.")


def rounded(value: str, dtype: torch.dtype, real: torch.dtype) -> str:
    """Spell the conversion of a result to its tensor's dtype. Doubles become halves by way of float32, as in C."""
    by_way = ".to(tl.float32)" if dtype in HALVES and real == torch.float64 else ""
    return f"{value}{by_way}.to({spelled(dtype)})"


class Accessor:
    """A plain tensor: the elements of its only part, converted.

    Attributes:
        name: the rule's tensor: ``p``, ``g`` or a state.
        parts: the tensors that hold the rule's tensor.
        place: its number among the rule's tensors, for the key of random bits.
        real: the dtype to compute in.
    """

    is_coded = False
    """True for a tensor that is stored in a codec of our own spelling, of which a tile is one block."""

    def __init__(self, name: str, parts: tuple[Slot, ...], place: int, real: torch.dtype) -> None:
        self.name, self.parts, self.place, self.real = name, parts, place, real

    def opening(self, *, is_written: bool) -> list[str]:
        """Return the lines before the loads of a tile."""
        return []

    def load(self, mask: str) -> str:
        """Return the expression for the values of a tile."""
        return self._part(0, mask)

    def store(self, value: str, mask: str) -> list[str]:
        """Return the lines that write ``value`` to the tile."""
        return [self._stored(0, rounded(value, self.parts[0].dtype, self.real), mask)]

    def _part(self, index: int, mask: str) -> str:
        return f"tl.load(at_{self.parts[index].name} + i{mask}).to({spelled(self.real)})"

    def _stored(self, index: int, value: str, mask: str) -> str:
        return f"tl.store(at_{self.parts[index].name} + i, {value}{mask})"


class _Random(Accessor):
    """A tensor that is rounded with random bits."""

    is_coded = True

    def opening(self, *, is_written: bool) -> list[str]:
        key = f"block_key(key_of(stream.to(tl.uint32), step, {self.place}), (stream >> 32) + block)"
        return [f"random_{self.name} = random_bits({key}, i)"] if is_written else []


class _StochasticBfloat16(_Random):
    def store(self, value: str, mask: str) -> list[str]:
        return [self._stored(0, f"stochastic_bfloat16({value}, random_{self.name})", mask)]


class _Int8(_Random):
    def __init__(self, name: str, parts: tuple[Slot, ...], place: int, real: torch.dtype, codec: Int8) -> None:
        super().__init__(name, parts, place, real)
        self.codec = codec

    def opening(self, *, is_written: bool) -> list[str]:
        if is_written and not self.codec.stochastic:
            raise UnsupportedError("the Triton executor rounds int8 state stochastically only")
        scale = f"tl.load(at_{self.parts[1].name})"
        unit = f"unit_{self.name} = unit_of({scale}, {self.codec.grid.largest!r})"
        return [*super().opening(is_written=is_written), unit]

    def load(self, mask: str) -> str:
        grid = self.codec.grid
        code = f"tl.load(at_{self.parts[0].name} + i{mask})"
        return f"level_of({code}, {grid.top}, {grid.shift}, {grid.sign}) * unit_{self.name}"

    def store(self, value: str, mask: str) -> list[str]:
        grid, fresh = self.codec.grid, f"fresh_{self.name}"
        kept = f"tl.where(inside, {value}, 0.0)" if mask else value
        given = (
            f"{fresh}, scale_{self.name}, random_{self.name}, {grid.top}, {grid.shift}, {grid.sign}, {grid.largest!r}"
        )
        return [
            f"{fresh} = {kept}",
            f"scale_{self.name} = scale_of({fresh}, {grid.smallest_scale!r})",
            self._stored(0, f"codes_of({given})", mask),
            f"tl.store(at_{self.parts[1].name}, scale_{self.name}{', mask=left > 0' if mask else ''})",
        ]


class _Kahan(Accessor):
    is_coded = True

    def load(self, mask: str) -> str:
        return f"{self._part(0, mask)} + {self._part(1, mask)}"

    def store(self, value: str, mask: str) -> list[str]:
        kept = f"kept_{self.name}"
        return [
            f"{kept} = {value}.to(tl.bfloat16)",
            self._stored(0, kept, mask),
            self._stored(1, f"compensation({value}, {kept})", mask),
        ]


def _bfloat16(codec: Any, *given: Any) -> Accessor:
    return (_StochasticBfloat16 if codec.stochastic else Accessor)(*given)


ACCESSORS: dict[type[Codec], Callable[..., Accessor]] = {
    Bfloat16: _bfloat16,
    Int8: lambda codec, name, parts, place, real: _Int8(name, parts, place, real, codec),
    Kahan: lambda codec, *given: _Kahan(*given),
}
"""Functions that make the accessor of each codec."""


def accessor_of(
    name: str, parts: tuple[Slot, ...], place: int, real: torch.dtype, storage: Mapping[str, Codec]
) -> Accessor:
    """Return the accessor of the rule's tensor ``name``."""
    codec = storage.get(name)
    given = (name, parts, place, real)
    return Accessor(*given) if codec is None else ACCESSORS[type(codec)](codec, *given)


@cache
def functions() -> str:
    """Return the Triton of coded storage, with the constants and the hash that codecs.py declares."""
    constants = [f"{name} = tl.constexpr({getattr(codecs, name):#x})" for name in codecs.SPELLED]
    rounds = [f"    x = (x ^ (x >> {shift})) * {factor:#x}" for shift, factor in codecs.MIX]
    mixed = ["@triton.jit", "def mixed(x):", *rounds, f"    return x ^ (x >> {codecs.LAST_SHIFT})"]
    text = files(__package__).joinpath("storage.txt").read_text(encoding="utf-8")
    return "\n".join([*constants, "", "", *mixed, "", "", text])
