"""Storage codecs: float32 values in fewer bytes.

A codec works on one flat tensor in memory order (see `memory_order`). Each codec exists twice, in torch operations here
and in generated C, and both must write the same bytes. A codec is therefore specified to the bit: every operation
rounds to float32 by itself, in the order written, and nothing is contracted. Only the payload of a NaN is left open,
and its sign at the nearest rounding to bfloat16.

Stochastic rounding adds random bits below the last bit kept and cuts. A value between two that can be kept becomes the
upper one as often as it is near to it. The mean of the rounded value is therefore exact. Without random bits, an
average that moves by less than half a step would never move. For example, a bfloat16 second moment of 1.0 with beta2 =
0.999 would stay at 1.0 for ever. The random bits are a hash of (seed, parameter, step, slot, element). They do not
depend on threads, chunks or torch's generators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 256
"""Number of elements that share one scale and one key of the random bits."""

WORD = 0xFFFFFFFF
"""Mask of the bits of a uint32. torch computes in int64 and cuts back to these bits, which a product's overflow does
not reach."""
MIX = ((16, 0x7FEB352D), (15, 0x846CA68B))
"""The two rounds of the hash lowbias32, each a shift and a factor. They were found by a search for a flat avalanche."""
LAST_SHIFT = 16
"""The last shift of the hash."""
LANE_STEP = 0x9E3779B1
"""Step of the random bits from one element of a block to the next: a golden section of 2**32, rounded to a prime."""
BLOCK_STEP = 0x9E3779B9
"""Step of the hash's argument from one block to the next."""
FAR_BLOCK_STEP = 0x85EBCA6B
"""Step of the hash's argument from one group of 2**32 blocks to the next."""

SPELLED = ("BLOCK_STEP", "FAR_BLOCK_STEP", "LANE_STEP", "DROPPED_BITS", "QUIET", "ONE")
"""Names of the constants that kernels spell in their own language."""

Unsigned = TypeVar("Unsigned", int, Tensor)
"""A uint32, or an int64 tensor of them."""


def lowbias32(x: Unsigned) -> Unsigned:
    """Hash 32 bits to 32 bits; a bijection, so that what differs stays different."""
    x = x & WORD  # a tensor of its own, which all that follows may write over
    for shift, factor in MIX:
        x ^= x >> shift
        x *= factor
        x &= WORD
    x ^= x >> LAST_SHIFT
    return x


def stream_key(seed: int, parameter: int, step: Unsigned, slot: int) -> Unsigned:
    """Return the key of the random bits of one tensor at one step.

    Args:
        seed: the optimizer's seed.
        parameter: the parameter's position among all of the optimizer's parameters.
        step: the parameter's own step count: an int, or an int64 tensor where the count stays on its device.
        slot: number of the tensor: 0 for the parameter itself, from 1 for its state in the program's order.
    """
    return key_of(stream_of(seed, parameter), step, slot)


def stream_of(seed: int, parameter: int) -> int:
    """Return the part of `stream_key` that stays from step to step, for a seed and a parameter's position."""
    return lowbias32(lowbias32(seed) + parameter)


def starting_at(stream: int, element: int) -> int:
    """Return a stream for a part of a tensor that starts at this element, a multiple of 256; see `start_of`."""
    _check_start(element)
    return stream + (element // BLOCK << 32)


def start_of(stream: int) -> int:
    """Return the element at which a part starts in its tensor: what lies above the 32 bits of a stream."""
    return (stream >> 32) * BLOCK


def key_of(stream: int, step: Unsigned, slot: int) -> Unsigned:
    """Return the key for a stream from `stream_of`, a step and a slot."""
    return lowbias32(lowbias32(step + (stream & WORD)) + slot)


def random_bits(key: int | Tensor, start: int, count: int, device: torch.device | str) -> Tensor:
    """Return 32 random bits, as int64, for each of ``count`` elements from ``start`` (a multiple of 256).

    The upper bits are the best. A block has a key of its own, hashed anew at each step, and its elements lie a golden
    section apart from there. Each element's bits are uniform and independent from step to step. Together they are
    spread evenly, so that a block's rounding errors nearly cancel. An element costs one addition, where a hash for each
    element cost more than the rule.
    """
    _check_start(start)
    blocks = torch.arange(start // BLOCK, _blocks_in(start + count), device=device)
    keys = lowbias32(key + (blocks & WORD) * BLOCK_STEP + (blocks >> 32) * FAR_BLOCK_STEP)
    lanes = torch.arange(BLOCK, device=device) * LANE_STEP
    return ((keys[:, None] + lanes) & WORD).view(-1)[:count]


def memory_order(x: Tensor) -> Tensor:
    """Return a 1-D view of ``x`` in the order of its memory, whatever the order of its strides.

    Raises:
        ValueError: the elements overlap, or leave gaps between them.
    """
    views = flat([x])
    if views is None:
        raise ValueError(
            f"memory_order needs a dense tensor whose elements do not overlap, not shape {tuple(x.shape)} with strides "
            f"{x.stride()}; copy it with .contiguous() first"
        )
    return views[0]


def flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """View all tensors as one dimension, in the same order of elements.

    Return None where the layouts of the tensors do not agree.
    """
    if any(x.shape != tensors[0].shape for x in tensors):
        return None
    order = sorted(range(tensors[0].dim()), key=tensors[0].stride, reverse=True)
    ordered = [x.permute(order) for x in tensors]
    return [x.view(-1) for x in ordered] if all(x.is_contiguous() for x in ordered) else None


class Codec(ABC):
    """Form in which the values of one tensor are kept. Equal codecs are interchangeable and hash alike.

    A parameter is its own first part. Its further parts are in its state under their bare suffixes. All parts of a
    state ``name`` are in the parameter's state under ``name_suffix``.

    Attributes:
        name: the name that a user gives.
        suffixes: a name for each part.
        dtypes: the dtype of each part.
        stochastic: whether the codec rounds with random bits. A codec without random bits ignores the key.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[torch.dtype, ...]]
    stochastic: bool

    def keys(self, name: str) -> tuple[str, ...]:
        """Return the keys that the parts of ``name`` have in a parameter's state.

        A parameter, ``"p"``, is its own first part, which has no key.
        """
        return self.suffixes[1:] if name == "p" else tuple(f"{name}_{suffix}" for suffix in self.suffixes)

    def sizes(self, count: int) -> tuple[int, ...]:
        """Return the number of elements of each part for ``count`` values."""
        return (count,) * len(self.suffixes)

    def zeros(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of a tensor full of zeros, in the shape and strides of ``like``."""
        keep = torch.preserve_format
        return tuple(torch.zeros_like(like, dtype=dtype, memory_format=keep) for dtype in self.dtypes)

    def narrow(self, parts: Sequence[Tensor], start: int, count: int) -> tuple[Tensor, ...]:
        """Return the pieces of flat ``parts`` that hold ``count`` values from ``start`` (a multiple of 256)."""
        _check_start(start)
        return tuple(part[self.span(index, start, count)] for index, part in enumerate(parts))

    def span(self, part: int, start: int, count: int) -> slice:
        """Return the slice of a flat part that holds ``count`` values from ``start``."""
        return slice(self.sizes(start)[part], self.sizes(start + count)[part])

    def to_nearest(self) -> Codec:
        """Return this codec with rounding to nearest, for values that are written once and not step by step."""
        return self

    @abstractmethod
    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """Return, in float32, the values that flat ``parts`` hold."""

    def encode(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int = 0) -> None:
        """Write ``x`` into flat ``parts``.

        Args:
            x: the values, float32 and flat; they are not changed.
            parts: the tensors to write, of the sizes that `sizes` returns.
            key: the key of the random bits, from `stream_key`.
            start: the place of ``x`` in its tensor; a multiple of 256.
        """
        _check_start(start)
        given = tuple(map(Tensor.numel, parts))
        if x.dtype != torch.float32 or x.dim() != 1 or given != self.sizes(x.numel()):
            raise ValueError(
                f"{self.name} encodes a flat float32 tensor x into parts of {self.sizes(x.numel())} elements; x is "
                f"{x.dtype} of shape {tuple(x.shape)}, the parts have {given}"
            )
        self._write(x, parts, key, start)

    @abstractmethod
    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        """Write as `encode` does, after all arguments were checked."""


@dataclass(frozen=True)
class Bfloat16(Codec):
    """Codec that keeps the upper 16 bits of a float32: one step is 2**-8 to 2**-7 of the value.

    Infinities stay, and NaN stays NaN. The largest finite values may round up to infinity in both roundings.
    """

    name: ClassVar[str] = "bfloat16"
    suffixes: ClassVar[tuple[str, ...]] = ("bfloat16",)
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16,)
    stochastic: bool = True

    def to_nearest(self) -> Bfloat16:
        """Return this codec with rounding to nearest."""
        return replace(self, stochastic=False)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the values that ``parts`` hold; this is exact."""
        return parts[0].float()

    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        parts[0].copy_(_upper_half(x, random_bits(key, start, x.numel(), x.device)) if self.stochastic else x)


DROPPED_BITS = 16
"""Number of bits of a float32 that bfloat16 lacks."""
QUIET = 0x0040
"""The bit that keeps a NaN a NaN where only dropped bits made it one."""


def _upper_half(x: Tensor, random: Tensor) -> Tensor:
    """Round to bfloat16 by adding random bits below the cut; a carry into the exponent is the right rounding."""
    bits = x.view(torch.int32)
    kept = torch.where(x.isfinite(), bits + (random >> DROPPED_BITS).int(), bits) >> DROPPED_BITS
    return torch.where(x.isnan(), kept | QUIET, kept).short().view(torch.bfloat16)


@dataclass(frozen=True)
class Grid:
    """Grid of the values that 8 bits stand for, as parts of a block's scale: a float of few bits, minus one.

    Code ``c`` (without its sign) stands for ``f(c) / largest``. Here f(c) is the float32 with the bits ``(c << shift) +
    ONE``, minus 1. So f(0) is 0, and the first 2**mantissa_bits steps are equal. From there on a step is 1/16 to 1/8 of
    f + 1. The grid is even at first and geometric afterwards, with no search and no table.

    Attributes:
        exponent_bits, mantissa_bits: the numbers of bits of the small float.
        sign: the sign's bit; 0 where no value is negative.
    """

    exponent_bits: int
    mantissa_bits: int
    sign: int

    @property
    def top(self) -> int:
        """The largest code, sign aside."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def shift(self) -> int:
        """Position of a code's lowest bit among the bits of a float32."""
        return MANTISSA_BITS - self.mantissa_bits

    @property
    def half(self) -> int:
        """Number that rounding to nearest adds before the cut."""
        return 1 << (self.shift - 1)

    @cached_property
    def largest(self) -> float:
        """The value f(top) as a float32. The 1 is lost to rounding where the exponent has five bits."""
        return torch.tensor(
            2.0**self._octaves * (1 - 2.0 ** -(self.mantissa_bits + 1)) - 1, dtype=torch.float32, device="cpu"
        ).item()

    @property
    def smallest_scale(self) -> float:
        """The smallest scale above 0; smaller scales are raised to it.

        Below it, scale / largest would be a denormal or zero. Little is lost: relative to this scale the smallest
        normal float32 is still seven steps above zero.
        """
        return 2.0 ** (self._octaves - 126)

    @property
    def _octaves(self) -> int:
        return 1 << self.exponent_bits

    def levels(self, codes: Tensor) -> Tensor:
        """Return f of each code, with the code's sign."""
        magnitude = (((codes.int() & self.top) << self.shift) + ONE).view(torch.float32) - 1
        return torch.where(codes & self.sign != 0, -magnitude, magnitude) if self.sign else magnitude


MANTISSA_BITS = 23
"""Number of mantissa bits of a float32."""
ONE = 127 << MANTISSA_BITS
"""The bits of 1.0 in float32."""

NONNEGATIVE = Grid(exponent_bits=5, mantissa_bits=3, sign=0)
"""Grid without signs, down to 3.1e-11 of the block's maximum: squares of g from 1 to 180,000 fit in one block."""
SIGNED = Grid(exponent_bits=4, mantissa_bits=3, sign=0x80)
"""Grid with signs, down to 2.0e-6 of the block's maximum, and zero."""


@dataclass(frozen=True)
class Int8(Codec):
    """Codec of 8 bits a value and a float32 scale for each block of 256: the block's largest absolute value.

    A block that holds a NaN or an infinity decodes to NaN throughout, so that the error is seen.

    Attributes:
        nonnegative: whether the values cannot be negative, such as second moments. A value above zero then never
            becomes zero: a momentum divided by a vanished root is an enormous step. Rounding noise below zero becomes
            zero.
    """

    name: ClassVar[str] = "int8"
    suffixes: ClassVar[tuple[str, ...]] = ("int8", "scale")
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.uint8, torch.float32)
    nonnegative: bool
    stochastic: bool = True

    def to_nearest(self) -> Int8:
        """Return this codec with rounding to nearest."""
        return replace(self, stochastic=False)

    @property
    def grid(self) -> Grid:
        """The grid of values that codes stand for."""
        return NONNEGATIVE if self.nonnegative else SIGNED

    def sizes(self, count: int) -> tuple[int, ...]:
        """Return the numbers of codes, one for each value, and of scales, one for each block."""
        return count, _blocks_in(count)

    def zeros(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return zero codes in the shape and strides of ``like``, and zero scales in one dimension."""
        codes = torch.zeros_like(like, dtype=torch.uint8, memory_format=torch.preserve_format)
        return codes, torch.zeros(_blocks_in(like.numel()), dtype=torch.float32, device=like.device)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """Return f(code) * (scale / largest) for each code."""
        codes, scale = parts
        # By a tensor: on some devices torch divides by a number as a product with its reciprocal, which rounds twice.
        unit = scale / torch.full_like(scale, self.grid.largest)
        values = _in_blocks(self.grid.levels(codes)) * torch.where(scale.isfinite(), unit, torch.nan)[:, None]
        return values.view(-1)[: codes.numel()]

    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        blocks = _in_blocks(x)
        scale = self._scale(blocks)
        finite = scale.isfinite()
        inverse = torch.where(finite & (scale > 0), scale.reciprocal(), 0)
        codes = torch.where(finite[:, None], self._codes(blocks, inverse[:, None], key, start), 0)
        parts[0].copy_(codes.view(-1)[: x.numel()])
        parts[1].copy_(scale)

    def _scale(self, blocks: Tensor) -> Tensor:
        """Return each block's largest absolute value, raised to the grid's smallest scale unless it is 0.

        An infinity below zero counts too: a non-negative block would otherwise hide it.
        """
        largest = blocks.abs().amax(1)
        return torch.where(largest > 0, largest.clamp(min=self.grid.smallest_scale), largest)

    def _codes(self, blocks: Tensor, inverse: Tensor, key: int | Tensor, start: int) -> Tensor:
        grid = self.grid
        magnitude = blocks.clamp(min=0) if self.nonnegative else blocks.abs()
        bits = (magnitude * inverse * grid.largest + 1).view(torch.int32)
        if self.stochastic:
            random = random_bits(key, start, blocks.numel(), blocks.device).view(blocks.shape)
            bits += random >> (32 - grid.shift)
        else:
            bits += grid.half
        codes = ((bits >> grid.shift) - (ONE >> grid.shift)).clamp(max=grid.top)
        if self.nonnegative:
            return torch.where(blocks > 0, codes.clamp(min=1), codes)
        return torch.where((blocks < 0) & (codes > 0), codes | grid.sign, codes)


@dataclass(frozen=True)
class Kahan(Codec):
    """Codec of a bfloat16 and the rest of the value in another, as in Kahan's sum: the error is at most 2**-17.

    The first part is the value's nearest bfloat16, so that a model trains on it as it is.
    """

    name: ClassVar[str] = "kahan"
    suffixes: ClassVar[tuple[str, ...]] = ("bfloat16", "compensation")
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16, torch.bfloat16)
    stochastic: bool = field(default=False, init=False)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the sum of both parts in float32."""
        return parts[0].float() + parts[1].float()

    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        rounded, compensation = parts
        rounded.copy_(x)
        # Nothing makes up for an infinity, also where a finite value was rounded to it: the sum would be NaN.
        compensation.copy_(torch.where(rounded.isfinite(), x - rounded.float(), 0))


PIECE = 2048 * BLOCK
"""Number of elements that are decoded or encoded in one go. The temporary memory for it is a few times as large."""


def decode_whole(codec: Codec, parts: Sequence[Tensor]) -> Tensor:
    """Return the values that dense ``parts`` of any shape hold, in the first part's shape and strides."""
    values = torch.empty_like(parts[0], dtype=torch.float32, memory_format=torch.preserve_format)
    for piece, narrowed, _ in _pieces(codec, values, parts):
        piece.copy_(codec.decode(narrowed))
    return values


def encode_whole(codec: Codec, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int = 0) -> None:
    """Write ``x``, which has the first part's shape and strides, into dense ``parts``.

    Args:
        codec: the codec to write with.
        x: the float32 values; they are not changed.
        parts: the tensors to write.
        key: the key of the random bits, from `stream_key`.
        start: the place of ``x`` in its tensor; a multiple of 256.
    """
    for piece, narrowed, first in _pieces(codec, x, parts):
        codec.encode(piece, narrowed, key, start + first)


def _pieces(codec: Codec, x: Tensor, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, tuple[Tensor, ...], int]]:
    """Yield flat pieces of ``x``, the pieces of its parts, and the place where they start."""
    whole, flat_parts = memory_order(x), tuple(map(memory_order, parts))
    for start in range(0, whole.numel(), PIECE):
        piece = whole[start : start + PIECE]
        yield piece, codec.narrow(flat_parts, start, piece.numel()), start


def _blocks_in(count: int) -> int:
    """Return the number of blocks that ``count`` elements begin."""
    return -(-count // BLOCK)


def _in_blocks(x: Tensor) -> Tensor:
    """View flat ``x`` as rows of 256, the last one filled up with zeros."""
    return pad(x, (0, -x.numel() % BLOCK)).view(-1, BLOCK)


def _check_start(start: int) -> None:
    if start < 0 or start % BLOCK:
        raise ValueError(f"a piece must start at a multiple of {BLOCK}, where a block begins, not at {start}")
