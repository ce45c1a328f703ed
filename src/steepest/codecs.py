"""Storage codecs: how float32 values are kept in fewer bytes.

A codec works on one flat tensor in memory order (see `memory_order`). It is stated to the bit, because it exists twice,
here in torch operations and in generated C, and both must write the same bytes: every operation rounds to float32 by
itself, in the order written, and nothing is contracted. Only the payload of a NaN is left open, and at the nearest
rounding to bfloat16 its sign.

Stochastic rounding adds random bits below the last bit kept and cuts: a value between two that can be kept becomes
the upper one as often as it is near to it, so that its mean is exact. An average that moves by less than half a step
would otherwise never move: a bfloat16 second moment of 1.0 with beta2 = 0.999 stays at 1.0 for ever. The random bits
are a hash of (seed, parameter, step, slot, element): they depend on no thread, no chunk and no generator of torch's.
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
"""Elements that share one scale, and one key of the random bits."""

WORD = 0xFFFFFFFF
"""The bits of a uint32. torch computes in int64 and cuts back to these: a product's overflow does not reach them."""
MIX = ((16, 0x7FEB352D), (15, 0x846CA68B))
"""The hash's two rounds, each a shift and a factor: lowbias32, found by search for a flat avalanche."""
LAST_SHIFT = 16
"""The hash's last shift."""
LANE_STEP = 0x9E3779B1
"""What random bits move by from one element of a block to the next: a golden section of 2**32, rounded to a prime."""
BLOCK_STEP = 0x9E3779B9
"""What the hash's argument moves by from one block to the next."""
FAR_BLOCK_STEP = 0x85EBCA6B
"""The same for every 2**32 blocks."""

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
    """The key of the random bits of one tensor at one step.

    Args:
        seed: the optimizer's seed.
        parameter: the parameter's position among all of the optimizer's.
        step: the parameter's own step count: an int, or an int64 tensor where the count stays on its device.
        slot: which of the parameter's tensors: 0 for itself, 1 and on for its state in the program's order.
    """
    return key_of(stream_of(seed, parameter), step, slot)


def stream_of(seed: int, parameter: int) -> int:
    """What `stream_key` makes of a seed and a parameter: all that stays from step to step."""
    return lowbias32(lowbias32(seed) + parameter)


def key_of(stream: int, step: Unsigned, slot: int) -> Unsigned:
    """What `stream_key` makes of a stream from `stream_of`, a step and a slot."""
    return lowbias32(lowbias32(step + stream) + slot)


def random_bits(key: int | Tensor, start: int, count: int, device: torch.device | str) -> Tensor:
    """32 random bits each for the elements from ``start`` (a multiple of 256) on, as int64; the upper ones are best.

    A block has a key of its own, hashed anew at each step, and its elements lie a golden section apart from there: each
    is uniform and independent from step to step, and together they are spread evenly, so that a block's rounding errors
    nearly cancel. It costs one addition, where a hash for each element cost more than the rule.
    """
    _check_start(start)
    blocks = torch.arange(start // BLOCK, _blocks_in(start + count), device=device)
    keys = lowbias32(key + (blocks & WORD) * BLOCK_STEP + (blocks >> 32) * FAR_BLOCK_STEP)
    lanes = torch.arange(BLOCK, device=device) * LANE_STEP
    return ((keys[:, None] + lanes) & WORD).view(-1)[:count]


def memory_order(x: Tensor) -> Tensor:
    """A 1-D view of ``x`` in the order of its memory, whatever the order of its strides.

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
    """All tensors viewed as one dimension, in the same order of elements; None where their layouts do not agree."""
    if any(x.shape != tensors[0].shape for x in tensors):
        return None
    order = sorted(range(tensors[0].dim()), key=tensors[0].stride, reverse=True)
    ordered = [x.permute(order) for x in tensors]
    return [x.view(-1) for x in ordered] if all(x.is_contiguous() for x in ordered) else None


class Codec(ABC):
    """How the values of one tensor are kept. Equal codecs are interchangeable and hash alike.

    A parameter is its own first part, and further parts are in its state under their bare suffixes; all parts of a
    state ``name`` are in the state under ``name_suffix``.

    Attributes:
        name: what a user calls it.
        suffixes: a name for each part.
        dtypes: the dtype of each part.
        stochastic: whether it rounds with random bits. A codec that does not ignores the key.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[torch.dtype, ...]]
    stochastic: bool

    def keys(self, name: str) -> tuple[str, ...]:
        """The keys in a parameter's state of the parts of ``name``; a parameter, ``"p"``, is its own first part."""
        return self.suffixes[1:] if name == "p" else tuple(f"{name}_{suffix}" for suffix in self.suffixes)

    def sizes(self, count: int) -> tuple[int, ...]:
        """How many elements each part has for ``count`` values."""
        return (count,) * len(self.suffixes)

    def zeros(self, like: Tensor) -> tuple[Tensor, ...]:
        """The parts of a tensor like ``like`` full of zeros, in its shape and strides."""
        keep = torch.preserve_format
        return tuple(torch.zeros_like(like, dtype=dtype, memory_format=keep) for dtype in self.dtypes)

    def narrow(self, parts: Sequence[Tensor], start: int, count: int) -> tuple[Tensor, ...]:
        """The pieces of flat ``parts`` that hold ``count`` values from ``start`` (a multiple of 256) on."""
        _check_start(start)
        return tuple(part[self.span(index, start, count)] for index, part in enumerate(parts))

    def span(self, part: int, start: int, count: int) -> slice:
        """Where in a flat part ``count`` values from ``start`` on are held."""
        return slice(self.sizes(start)[part], self.sizes(start + count)[part])

    def to_nearest(self) -> Codec:
        """The same form, rounded to nearest: for values that are written once, not step by step."""
        return self

    @abstractmethod
    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """The values that flat ``parts`` hold, in float32."""

    def encode(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int = 0) -> None:
        """Write ``x`` into flat ``parts``.

        Args:
            x: float32, flat; stays untouched.
            parts: what is written, as large as `sizes` says.
            key: of the random bits, from `stream_key`.
            start: where in its tensor ``x`` begins; a multiple of 256.
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
        """`encode`, with everything checked."""


@dataclass(frozen=True)
class Bfloat16(Codec):
    """The upper 16 bits of a float32: one step is 2**-8 to 2**-7 of the value.

    Infinities stay, NaN stays NaN, and the largest finite values may round up to infinity in both roundings.
    """

    name: ClassVar[str] = "bfloat16"
    suffixes: ClassVar[tuple[str, ...]] = ("bfloat16",)
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16,)
    stochastic: bool = True

    def to_nearest(self) -> Bfloat16:
        """The same form, rounded to nearest."""
        return replace(self, stochastic=False)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """The values; exact."""
        return parts[0].float()

    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        parts[0].copy_(_upper_half(x, random_bits(key, start, x.numel(), x.device)) if self.stochastic else x)


DROPPED_BITS = 16
"""How many bits of a float32 bfloat16 lacks."""
QUIET = 0x0040
"""The bit that keeps a NaN one, when what made it one was in the dropped bits."""


def _upper_half(x: Tensor, random: Tensor) -> Tensor:
    """Round to bfloat16 by adding random bits below the cut; a carry into the exponent is the right rounding."""
    bits = x.view(torch.int32)
    kept = torch.where(x.isfinite(), bits + (random >> DROPPED_BITS).int(), bits) >> DROPPED_BITS
    return torch.where(x.isnan(), kept | QUIET, kept).short().view(torch.bfloat16)


@dataclass(frozen=True)
class Grid:
    """The values that 8 bits stand for, as parts of a block's scale: a float of few bits, minus one.

    Code ``c`` (without its sign) stands for ``f(c) / largest``, f(c) being the float32 with the bits ``(c << shift)
    + ONE``, minus 1. So f(0) is 0, the first 2**mantissa_bits steps are equal, and from there on a step is 1/16 to 1/8
    of f + 1: even at first and geometric afterwards, with no search and no table.

    Attributes:
        exponent_bits, mantissa_bits: of the small float.
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
        """Where a code's bits begin among a float32's."""
        return MANTISSA_BITS - self.mantissa_bits

    @property
    def half(self) -> int:
        """What rounding to nearest adds before the cut."""
        return 1 << (self.shift - 1)

    @cached_property
    def largest(self) -> float:
        """f(top) as a float32. The 1 is lost to rounding where the exponent has five bits."""
        return torch.tensor(
            2.0**self._octaves * (1 - 2.0 ** -(self.mantissa_bits + 1)) - 1, dtype=torch.float32, device="cpu"
        ).item()

    @property
    def smallest_scale(self) -> float:
        """Scales between 0 and this one are raised to it: below, scale / largest would be a denormal, or zero.

        Little is lost: relative to this scale the smallest normal float32 is still seven steps above zero.
        """
        return 2.0 ** (self._octaves - 126)

    @property
    def _octaves(self) -> int:
        return 1 << self.exponent_bits

    def levels(self, codes: Tensor) -> Tensor:
        """f of each code, with its sign."""
        magnitude = (((codes.int() & self.top) << self.shift) + ONE).view(torch.float32) - 1
        return torch.where(codes & self.sign != 0, -magnitude, magnitude) if self.sign else magnitude


MANTISSA_BITS = 23
"""A float32's."""
ONE = 127 << MANTISSA_BITS
"""The bits of 1.0."""

NONNEGATIVE = Grid(exponent_bits=5, mantissa_bits=3, sign=0)
"""Down to 3.1e-11 of the block's maximum: g from 1 to 180,000 in one block."""
SIGNED = Grid(exponent_bits=4, mantissa_bits=3, sign=0x80)
"""Down to 2.0e-6 of the block's maximum, and zero."""


@dataclass(frozen=True)
class Int8(Codec):
    """8 bits a value, and a float32 scale for each block of 256: the block's largest absolute value.

    A block that holds a NaN or an infinity decodes to NaN throughout: loud, never silent.

    Attributes:
        nonnegative: for values that cannot be negative, such as second moments. What is above zero never becomes zero
            (a momentum divided by a vanished root is an enormous step), and rounding noise below zero becomes zero.
    """

    name: ClassVar[str] = "int8"
    suffixes: ClassVar[tuple[str, ...]] = ("int8", "scale")
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.uint8, torch.float32)
    nonnegative: bool
    stochastic: bool = True

    def to_nearest(self) -> Int8:
        """The same form, rounded to nearest."""
        return replace(self, stochastic=False)

    @property
    def grid(self) -> Grid:
        """The values that a code stands for."""
        return NONNEGATIVE if self.nonnegative else SIGNED

    def sizes(self, count: int) -> tuple[int, ...]:
        """One code for each value and one scale for each block."""
        return count, _blocks_in(count)

    def zeros(self, like: Tensor) -> tuple[Tensor, ...]:
        """Codes in the shape and strides of ``like``; scales in one dimension."""
        codes = torch.zeros_like(like, dtype=torch.uint8, memory_format=torch.preserve_format)
        return codes, torch.zeros(_blocks_in(like.numel()), dtype=torch.float32, device=like.device)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """f(code) * (scale / largest)."""
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
        """Each block's maximum; an infinity below zero counts too, or a non-negative block would hide it."""
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
    """A bfloat16, and in another what it leaves of the value, as in Kahan's sum: an error of at most 2**-17.

    The first part alone is the value's nearest bfloat16, so that a model trains on it as it is.
    """

    name: ClassVar[str] = "kahan"
    suffixes: ClassVar[tuple[str, ...]] = ("bfloat16", "compensation")
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16, torch.bfloat16)
    stochastic: bool = field(default=False, init=False)

    def decode(self, parts: Sequence[Tensor]) -> Tensor:
        """The sum of both, in float32."""
        return parts[0].float() + parts[1].float()

    def _write(self, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int) -> None:
        rounded, compensation = parts
        rounded.copy_(x)
        # Nothing makes up for an infinity, also where a finite value was rounded to it: the sum would be NaN.
        compensation.copy_(torch.where(rounded.isfinite(), x - rounded.float(), 0))


PIECE = 2048 * BLOCK
"""Elements that are decoded or encoded in one go: what that needs beside is a few times as large."""


def decode_whole(codec: Codec, parts: Sequence[Tensor]) -> Tensor:
    """The values that dense ``parts`` of any shape hold, in the first part's shape and strides."""
    values = torch.empty_like(parts[0], dtype=torch.float32, memory_format=torch.preserve_format)
    for piece, narrowed, _ in _pieces(codec, values, parts):
        piece.copy_(codec.decode(narrowed))
    return values


def encode_whole(codec: Codec, x: Tensor, parts: Sequence[Tensor], key: int | Tensor, start: int = 0) -> None:
    """Write ``x``, which has the first part's shape and strides, into dense ``parts``.

    Args:
        codec: how.
        x: float32; stays untouched.
        parts: what is written.
        key: of the random bits, from `stream_key`.
        start: where in its tensor ``x`` begins; a multiple of 256.
    """
    for piece, narrowed, first in _pieces(codec, x, parts):
        codec.encode(piece, narrowed, key, start + first)


def _pieces(codec: Codec, x: Tensor, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, tuple[Tensor, ...], int]]:
    """Flat pieces of ``x`` and of its parts, and where they start."""
    whole, flat_parts = memory_order(x), tuple(map(memory_order, parts))
    for start in range(0, whole.numel(), PIECE):
        piece = whole[start : start + PIECE]
        yield piece, codec.narrow(flat_parts, start, piece.numel()), start


def _blocks_in(count: int) -> int:
    """How many blocks ``count`` elements begin."""
    return -(-count // BLOCK)


def _in_blocks(x: Tensor) -> Tensor:
    """Flat ``x`` as rows of 256, the last filled up with zeros."""
    return pad(x, (0, -x.numel() % BLOCK)).view(-1, BLOCK)


def _check_start(start: int) -> None:
    if start < 0 or start % BLOCK:
        raise ValueError(f"a piece must start at a multiple of {BLOCK}, where a block begins, not at {start}")
