"""Storage codecs: to the bit against an independent numpy version, and what rounding may and may not do to a value.

The oracles are written from the definition in uint32 and float32, and know nothing of the module's constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steepest import codecs
from steepest.codecs import (
    NONNEGATIVE,
    SIGNED,
    Bfloat16,
    Codec,
    Int8,
    Kahan,
    lowbias32,
    memory_order,
    random_bits,
    stream_key,
)
from steepest.study.trials.performance import threads

KEY = stream_key(7, 3, 11, 2)
CODECS: list[Codec] = [
    Bfloat16(),
    Bfloat16(stochastic=False),
    Int8(nonnegative=True),
    Int8(nonnegative=True, stochastic=False),
    Int8(nonnegative=False),
    Int8(nonnegative=False, stochastic=False),
    Kahan(),
]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=str)
every_stochastic_codec = pytest.mark.parametrize("codec", [c for c in CODECS if c.stochastic], ids=str)
every_int8 = pytest.mark.parametrize("codec", [c for c in CODECS if isinstance(c, Int8)], ids=str)
SIZES = [0, 1, 255, 256, 257, 4096 + 3]
every_size = pytest.mark.parametrize("size", SIZES)

SLACK = 1 + 2**-18
"""For the few float32 roundings on the way to a code (a scale near float32's largest has a denormal reciprocal)."""


def draw(codec: Codec, size: int, decades: float = 3.0, seed: int = 0) -> Tensor:
    """Log-normal magnitudes; signs where the codec keeps them."""
    source = torch.Generator().manual_seed(seed)
    x = torch.exp(torch.randn(size, generator=source) * decades)
    if isinstance(codec, Int8) and codec.nonnegative:
        return x
    return x * (torch.randint(0, 2, (size,), generator=source) * 2 - 1)


def encoded(codec: Codec, x: Tensor, key: int = KEY, start: int = 0) -> tuple[Tensor, ...]:
    parts = tuple(torch.empty(n, dtype=d) for n, d in zip(codec.sizes(x.numel()), codec.dtypes, strict=True))
    codec.encode(x, parts, key, start)
    return parts


def through(codec: Codec, x: Tensor, key: int = KEY) -> Tensor:
    return codec.decode(encoded(codec, x, key))


def bits(x: Tensor) -> Tensor:
    """Every bit counts: NaN equals NaN, and 0.0 is not -0.0."""
    return x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[x.element_size()])


def assert_same_bits(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(bits(a), bits(b))


# -- oracles ---------------------------------------------------------------------------------------------------------


def oracle_hash(x: Any) -> Any:
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def words(*numbers: int) -> Any:
    """As uint32, which wraps around in silence."""
    return np.array([number % 2**32 for number in numbers], dtype=np.uint32)


def oracle_key(*numbers: int) -> int:
    key = words(0)
    for number in numbers:
        key = oracle_hash(key + words(number))
    return int(key[0])


def oracle_random(key: int, first: int, count: int) -> Any:
    i = [divmod(first + k, 256) for k in range(count)]
    keys = oracle_hash(words(*(key + block % 2**32 * 0x9E3779B9 + (block >> 32) * 0x85EBCA6B for block, _ in i)))
    return keys + words(*(lane * 0x9E3779B1 for _, lane in i))


def oracle_bfloat16(x: Any, random: Any) -> Any:
    u = x.view(np.uint32)
    rounded = np.where(np.isfinite(x), u + (random >> np.uint32(16)), u) >> np.uint32(16)
    return np.where(np.isnan(x), rounded | np.uint32(0x40), rounded).astype(np.uint16)


ORACLE_GRIDS = {True: (np.float32(2.0**31 * 1.875 - 1), 255, 2.0**-94), False: (np.float32(61439), 127, 2.0**-110)}
"""By whether no value is negative: the largest value, its code, the smallest scale."""


def oracle_int8(x: Any, random: Any, nonnegative: bool) -> tuple[Any, Any]:
    """One block at a time, one float32 operation at a time."""
    largest, top, smallest = ORACLE_GRIDS[nonnegative]
    codes, scales = np.zeros(len(x), dtype=np.int64), []
    for first in range(0, len(x), 256):
        block, added = x[first : first + 256], random[first : first + 256] >> np.uint32(12)
        scale = np.max(np.abs(block))
        scale = np.float32(smallest) if 0 < scale < smallest else scale
        scales.append(scale)
        if scale == 0 or not np.isfinite(scale):
            continue
        magnitude = np.where(block > 0, block, np.float32(0)) if nonnegative else np.abs(block)
        product = magnitude * (np.float32(1) / scale)
        y = product * largest + np.float32(1)
        code = np.minimum((y.view(np.uint32).astype(np.int64) + added >> 20) - (127 << 3), top)
        lifted = np.where((block > 0) & (code == 0), 1, code)
        codes[first : first + 256] = lifted if nonnegative else np.where((block < 0) & (code > 0), code | 0x80, code)
    return codes.astype(np.uint8), np.array(scales, dtype=np.float32)


def oracle_level(code: int, nonnegative: bool) -> float:
    """f in exact arithmetic, rounded to float32 once."""
    magnitude = code if nonnegative else code & 0x7F
    value = float(np.float32(2.0 ** (magnitude >> 3) * (1 + (magnitude & 7) / 8) - 1))
    return -value if code != magnitude else value


def oracle_decode(codes: Any, scales: Any, nonnegative: bool) -> Any:
    levels = np.array([oracle_level(int(c), nonnegative) for c in codes], dtype=np.float32)
    unit = scales / ORACLE_GRIDS[nonnegative][0]
    return levels * np.repeat(unit, 256)[: len(codes)]


# -- random bits -----------------------------------------------------------------------------------------------------


def test_the_hash_is_what_it_was() -> None:
    """By numbers, so that no release draws other bits than the last: a run goes on bit by bit from a checkpoint."""
    assert [lowbias32(x) for x in (0, 1, 2**32 - 1)] == [0, 1753845952, 1734902346]
    assert stream_key(0, 0, 1, 0) == oracle_key(0, 0, 1, 0) == 1492470133
    assert random_bits(KEY, 0, 2, "cpu").tolist() == oracle_random(KEY, 0, 2).tolist() == [1671814062, 31282527]


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (1, 2, 3, 4), (2**63, 10**6, 2**32, 1), (2**32 - 1,) * 4], ids=str)
def test_keys(numbers: tuple[int, int, int, int]) -> None:
    """The step may be a tensor, which a capturable step keeps on its device."""
    assert stream_key(*numbers) == oracle_key(*numbers)
    seed, parameter, step, slot = numbers
    assert stream_key(seed, parameter, torch.tensor(step), slot).item() == oracle_key(*numbers)


@pytest.mark.parametrize("start", [0, 256, 2**31, 2**32, 2**40 - 256, 2**40, 2**45 + 512])
def test_random_bits(start: int) -> None:
    drawn = random_bits(KEY, start, 600, "cpu")
    assert drawn.tolist() == oracle_random(KEY, start, 600).tolist()
    assert torch.equal(drawn, random_bits(torch.tensor(KEY), start, 600, "cpu"))


def test_random_bits_start_with_a_block() -> None:
    with pytest.raises(ValueError, match="multiple of 256, where a block begins, not at 100"):
        random_bits(KEY, 100, 1, "cpu")


COUNT = 1 << 15


def one_of_each_block(key: int, start: int = 0, lane: int = 5) -> Tensor:
    """The random bits of one element of each block: these are hashed; within a block they are a sequence."""
    return random_bits(key, start, 256 * COUNT, "cpu")[lane::256]


NEIGHBOURS: dict[str, Callable[[], Tensor]] = {
    "block": lambda: one_of_each_block(KEY, 256),
    "step": lambda: one_of_each_block(stream_key(7, 3, 12, 2)),
    "parameter": lambda: one_of_each_block(stream_key(7, 4, 11, 2)),
    "slot": lambda: one_of_each_block(stream_key(7, 3, 11, 3)),
    "seed": lambda: one_of_each_block(stream_key(8, 3, 11, 2)),
}


def ones(x: Tensor) -> Tensor:
    """How often each of the 32 bits is set, in standard errors from a half."""
    share = ((x[:, None] >> torch.arange(32)) & 1).double().mean(0)
    return (share - 0.5) * 2 * COUNT**0.5


def test_bits_are_balanced_and_bytes_uniform() -> None:
    drawn = one_of_each_block(KEY)
    assert ones(drawn).abs().max() < 4
    for shift in (0, 8, 12, 16, 24):
        counts = torch.bincount((drawn >> shift) & 255, minlength=256).double()
        chi2 = ((counts - COUNT / 256) ** 2 / (COUNT / 256)).sum().item()
        assert abs(chi2 - 255) < 4 * (2 * 255) ** 0.5


@pytest.mark.parametrize("what", NEIGHBOURS)
def test_neighbours_are_independent(what: str) -> None:
    """Bit by bit, and as numbers, as many of the upper bits as rounding uses."""
    a, b = one_of_each_block(KEY), NEIGHBOURS[what]()
    assert ones(a ^ b).abs().max() < 4
    for dropped in (16, 12, 0):
        pair = torch.stack([a >> dropped, b >> dropped]).double()
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 4 / COUNT**0.5


@pytest.mark.parametrize("block", range(8))
def test_a_blocks_bits_are_spread_evenly(block: int) -> None:
    """Of 256 equal elements, as many are rounded up as should be, within two: independent bits would miss by eight."""
    drawn = random_bits(KEY, 256 * block, 256, "cpu").double() / 2**32
    for share in (0.003, 0.1, 0.25, 0.5, 0.71, 0.99):
        assert abs((drawn < share).sum().item() - 256 * share) <= 2.5


# -- to the bit ------------------------------------------------------------------------------------------------------


def random_for(codec: Codec, size: int, start: int = 0) -> Any:
    if codec.stochastic:
        return oracle_random(KEY, start, size)
    return np.full(size, 0x80000000, dtype=np.uint32)


SPECIAL = torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 1.1754944e-38, 3.3895314e38, 3.4028235e38, -3.4028235e38])
NOT_FINITE = torch.tensor([float("inf"), -float("inf"), float("nan")])
QUIET_LOW = torch.tensor([0x7F800001, 0x7FFFFFFF, -0x7FFFFF], dtype=torch.int32).view(torch.float32)
"""NaNs whose payload rounding to bfloat16 would cut off, or carry out of the exponent."""


@every_size
def test_bfloat16_stochastic_is_the_oracle(size: int) -> None:
    x = torch.cat([draw(Bfloat16(), size), SPECIAL, NOT_FINITE, QUIET_LOW])
    (part,) = encoded(Bfloat16(), x)
    wanted = oracle_bfloat16(x.numpy(), oracle_random(KEY, 0, len(x)))
    assert part.view(torch.int16).tolist() == wanted.view(np.int16).tolist()
    assert torch.equal(part.isnan(), x.isnan())
    assert torch.equal(part.isinf() & ~x.isfinite(), x.isinf())


@every_size
def test_bfloat16_nearest_is_torchs(size: int) -> None:
    x = torch.cat([draw(Bfloat16(), size), SPECIAL, NOT_FINITE])
    (part,) = encoded(Bfloat16(stochastic=False), x)
    assert torch.equal(part.isnan(), x.isnan())
    assert_same_bits((part[~x.isnan()],), (x[~x.isnan()].to(torch.bfloat16),))


@every_size
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30])
@every_int8
def test_int8_is_the_oracle(codec: Int8, scale: float, size: int) -> None:
    x = draw(codec, size) * scale
    if size > 256:
        x[:256] = draw(codec, 256, decades=12.0).clamp(-1e30, 1e30)
        x[5], x[6] = 0.0, -0.0
    ours = encoded(codec, x)
    codes, scales = oracle_int8(x.numpy(), random_for(codec, size), codec.nonnegative)
    assert ours[0].tolist() == codes.tolist()
    assert_same_bits(ours[1:], (torch.from_numpy(scales),))
    wanted = torch.from_numpy(oracle_decode(codes, scales, codec.nonnegative))
    assert_same_bits((codec.decode(ours),), (wanted,))


@every_int8
def test_int8_of_special_values_is_the_oracle(codec: Int8) -> None:
    """A block of extremes, and blocks that are not finite; small scales are raised in one, not in the other."""
    blocks = [torch.cat([SPECIAL, draw(codec, 246)]), SPECIAL[:7].repeat(37)[:256] * 1e-3]
    blocks += [torch.cat([value.view(1), draw(codec, 255)]) for value in NOT_FINITE]
    x = torch.cat([*blocks, torch.full((256,), 1e-41), torch.full((256,), 1e-28)])
    codes, scales = oracle_int8(x.numpy(), random_for(codec, len(x)), codec.nonnegative)
    ours = encoded(codec, x)
    assert ours[0].tolist() == codes.tolist()
    torch.testing.assert_close(ours[1], torch.from_numpy(scales), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("grid", [NONNEGATIVE, SIGNED], ids=["nonnegative", "signed"])
def test_every_code_has_its_level(grid: Any) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    wanted = [oracle_level(c, grid is NONNEGATIVE) for c in range(256)]
    assert grid.levels(codes).tolist() == wanted
    assert (grid.levels(codes[: grid.top + 1]).diff() > 0).all()
    assert grid.levels(codes)[grid.top] == grid.largest


def test_int8_levels_are_what_they_were() -> None:
    """By numbers: what a checkpoint holds means the same for ever."""
    codes = torch.tensor([0, 1, 8, 100, 127, 255], dtype=torch.uint8)
    assert NONNEGATIVE.levels(codes).tolist() == [0.0, 0.125, 1.0, 6143.0, 61439.0, 4026531840.0]
    assert SIGNED.levels(codes).tolist() == [0.0, 0.125, 1.0, 6143.0, 61439.0, -61439.0]


@every_size
def test_kahan_is_its_definition(size: int) -> None:
    x = torch.cat([draw(Kahan(), size), SPECIAL, NOT_FINITE])
    rounded, compensation = encoded(Kahan(), x)
    near = x.to(torch.bfloat16)
    assert torch.equal(rounded.nan_to_num(3.0), near.nan_to_num(3.0))
    rest = (x.double() - near.double())[near.isfinite()].float().to(torch.bfloat16)
    assert torch.equal(compensation[near.isfinite()], rest)
    assert (compensation[~near.isfinite()] == 0).all()


# -- pieces ----------------------------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("piece", [256, 512, 1280])
def test_pieces_are_the_whole(codec: Codec, piece: int) -> None:
    """Cutting a tensor into pieces of any size, in any order, changes no bit, in either direction."""
    x = draw(codec, 4096 + 3)
    whole = encoded(codec, x)
    parts = tuple(torch.zeros_like(part) for part in whole)
    values = torch.zeros_like(x)
    for start in reversed(range(0, len(x), piece)):
        part = x[start : start + piece]
        pieces = codec.narrow(parts, start, len(part))
        codec.encode(part, pieces, KEY, start)
        values[start : start + piece] = codec.decode(pieces)
    assert_same_bits(parts, whole)
    assert_same_bits((values,), (codec.decode(whole),))


@every_stochastic_codec
def test_every_key_and_place_rounds_on_its_own(codec: Codec) -> None:
    x = draw(codec, 512).repeat(2)
    first, other = encoded(codec, x)[0], encoded(codec, x, KEY + 1)[0]
    assert 0.1 < (first != other).double().mean() < 0.9
    assert 0.1 < (first[:512] != first[512:]).double().mean() < 0.9


@every_codec
def test_nothing_else_is_touched(codec: Codec) -> None:
    x = draw(codec, 300)
    kept, state = x.clone(), torch.get_rng_state()
    parts = encoded(codec, x)
    held = tuple(part.clone() for part in parts)
    codec.decode(parts).fill_(0.0)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_bits(parts, held)


@every_codec
def test_threads_do_not_matter(codec: Codec) -> None:
    x = draw(codec, 100_003)
    with threads(1):
        alone = encoded(codec, x)
    with threads(3):
        assert_same_bits(encoded(codec, x), alone)


# -- what rounding does to a value -----------------------------------------------------------------------------------


def step_at(codec: Codec, x: Tensor) -> Tensor:
    """The distance, in float64, of the two kept values around each of ``x``, blocks of 256 sharing a scale."""
    size = x.abs().double()
    if isinstance(codec, Bfloat16):
        return 2.0 ** (size.log2().floor().clamp(min=-126) - 7)
    assert isinstance(codec, Int8)
    largest, _, smallest = ORACLE_GRIDS[codec.nonnegative]
    scale = torch.cat([block.amax().clamp(min=smallest).expand(len(block)) for block in size.split(256)])
    unit = scale / float(largest)
    return 2.0 ** ((size / unit + 1).log2().floor() - 3) * unit


@pytest.mark.parametrize("scale", [1e-44, 1e-39, 1e-36, 1e-34, 1e-30, 1e-10, 1.0, 1e20, 3e38])
@pytest.mark.parametrize("codec", [c for c in CODECS if not isinstance(c, Kahan)], ids=str)
def test_error_is_at_most_a_step(codec: Codec, scale: float) -> None:
    """Half a step at nearest rounding. At every magnitude that float32 has, down to blocks of denormals alone."""
    x = draw(codec, 5 * 256 + 100)
    x = torch.cat([block / block.abs().max() * scale for block in x.split(256)])
    error = (through(codec, x).double() - x.double()).abs()
    step = step_at(codec, x)
    allowed = step * (1 if codec.stochastic else 0.5)
    if isinstance(codec, Int8) and codec.nonnegative:
        # What is closer to zero than to the first step becomes the first step all the same.
        first = 0.125 * max(scale, 2.0**-94) / NONNEGATIVE.largest
        allowed = torch.where(x < first, step, allowed)
    assert (error <= allowed * SLACK + 2.0**-149).all()


def test_error_of_kahan() -> None:
    """Half a step of what half a step left: 2**-9 of 2**-8."""
    for scale in (1e-30, 1.0, 1e30):
        x = draw(Kahan(), 4096) * scale
        assert ((through(Kahan(), x).double() - x.double()).abs() <= x.double().abs() * 2.0**-17).all()


@every_stochastic_codec
def test_stochastic_rounding_is_unbiased(codec: Codec) -> None:
    """256 values over the whole range, 8,192 draws each: every mean is within 4 standard errors of its value."""
    draws, keys = 2048, 4
    x = draw(codec, 256, decades=2.0)
    x[0] = x.abs().max() * 1.5
    held = torch.cat([through(codec, x.repeat(draws), key).view(draws, 256) for key in range(keys)]).double()
    step = step_at(codec, x)
    below = held.amin(0)
    share = ((x.double() - below) / step).clamp(0, 1)
    error = step * (share * (1 - share) / (draws * keys)).sqrt()
    # 2**-21: the float32 roundings on the way to a code; they are no part of the rounding that is stochastic.
    assert ((held.mean(0) - x.double()).abs() <= 4 * error + 2.0**-21 * (x.double().abs() + step)).all()
    between = (share > 0.02) & (share < 0.98)
    assert between.sum() > 200
    assert all(len(held[:, i].unique()) == 2 for i in between.nonzero().view(-1).tolist())


@every_codec
def test_what_can_be_kept_is_kept(codec: Codec) -> None:
    """A decoded value encodes to itself. Int8's products round, which tips at most 8 in 2**20 stochastic roundings."""
    once = through(codec, draw(codec, 1 << 16))
    if isinstance(codec, Int8):
        again = through(codec, once, KEY + 1)
        changed = (bits(again) != bits(once)).double().mean().item()
        near = torch.isclose(again, once, rtol=2.0**-22, atol=0.0)
        assert (~near).double().mean() <= (8 / 2**20 if codec.stochastic else 0)
        assert changed < 0.5
    else:
        assert_same_bits((through(codec, once, KEY + 1),), (once,))


@every_int8
def test_a_scale_does_not_creep(codec: Int8) -> None:
    """The largest value of a block that is read and written again and again stays within two roundings."""
    x = draw(codec, 32 * 256)
    parts = encoded(codec, x)
    first = parts[1].clone()
    for step in range(200):
        codec.encode(codec.decode(parts), parts, stream_key(0, 0, step, 1))
    torch.testing.assert_close(parts[1], first, rtol=2.0**-22, atol=0.0)


@pytest.mark.parametrize("codec", [c for c in CODECS if c.stochastic and isinstance(c, Int8)], ids=str)
def test_the_largest_value_never_wraps_around(codec: Int8, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reciprocal of a scale near float32's largest is a denormal: value times reciprocal may come out above 1."""
    monkeypatch.setattr(codecs, "random_bits", lambda key, start, count, device: torch.full((count,), 2**32 - 1))
    scales = torch.linspace(1e38, 3.4e38, 1000)
    assert (scales * scales.reciprocal() > 1).any()
    values = torch.cat([through(codec, scale.view(1)) for scale in scales])
    torch.testing.assert_close(values, scales, rtol=2.0**-22, atol=0.0)


@every_codec
@every_size
def test_zeros(codec: Codec, size: int) -> None:
    """The parts of zeros are all zero, and nothing is ever rounded away from zero."""
    parts = codec.zeros(torch.empty(size))
    assert_same_bits(parts, encoded(codec, torch.zeros(size)))
    assert torch.equal(codec.decode(parts), torch.zeros(size))


@every_int8
def test_zero_is_kept_beside_large_values(codec: Int8) -> None:
    x = draw(codec, 1024)
    x[::2] = 0.0
    parts = encoded(codec, x)
    assert (parts[0][::2] == 0).all()
    assert_same_bits((codec.decode(parts)[::2],), (torch.zeros(512),))


@every_int8
@pytest.mark.parametrize("value", NOT_FINITE.tolist(), ids=str)
def test_a_block_that_is_not_finite_is_nan(codec: Int8, value: float) -> None:
    x = draw(codec, 600)
    x[300] = value
    parts = encoded(codec, x)
    values = codec.decode(parts)
    assert values[256:512].isnan().all()
    assert (parts[0][256:512] == 0).all()
    assert torch.equal(values[:256], through(codec, x[:256]))
    assert values[512:].isfinite().all()


@every_int8
@pytest.mark.parametrize("scale", NOT_FINITE.tolist(), ids=str)
def test_a_scale_that_is_not_finite_decodes_to_nan(codec: Int8, scale: float) -> None:
    """Whatever the codes are, so whoever wrote them."""
    assert codec.decode((torch.arange(256, dtype=torch.uint8), torch.tensor([scale]))).isnan().all()


def test_noise_below_zero_of_a_nonnegative_state_is_zero() -> None:
    x = torch.tensor([4.0, -1e-9, -4.0, 1.0])
    parts = encoded(Int8(nonnegative=True), x)
    assert parts[0][[1, 2]].tolist() == [0, 0]
    assert parts[1].tolist() == [4.0]


@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("outlier", [1e4, 1e5, 1e6, 1e9])
def test_a_second_moment_beside_an_outlier(outlier: float, stochastic: bool) -> None:
    """One gradient was ``outlier`` times larger than those around it, whose squares are 0.1 to 10.

    No second moment is ever under-estimated by more than half, whatever the outlier, and none by more than a seventh
    beside one of 1e4: its root, by which the update is divided, by 30 % and 8 %.
    """
    v = torch.logspace(-1, 1, 256)
    v[17] = outlier**2
    codec = Int8(nonnegative=True, stochastic=stochastic)
    kept = torch.stack([through(codec, v, key) for key in range(200)])
    assert kept.min() > 0
    assert ((kept / v).min() * SLACK >= (6 / 7 if outlier == 1e4 else 0.5)).all()


def test_a_second_moment_never_becomes_zero() -> None:
    """From the largest value down to float32's smallest, beside any other."""
    v = torch.tensor(2.0).double().pow(torch.arange(-149, 107)).float()
    for top in (1e-44, 1e-38, 1e-36, 1e-30, 1.0, 1e30):
        block = v[v <= top]
        for key in range(20):
            values = through(Int8(nonnegative=True), block, key)
            assert values.min() > 0
            assert (values.double() >= block.double() / 2 / SLACK - 2.0**-149).all()


# -- averages --------------------------------------------------------------------------------------------------------


def decayed(codec: Codec, steps: int = 2000, beta: float = 0.999) -> Tensor:
    """1.0 after that many zero gradients; each block's first element keeps its gradient of 1, and so the scale."""
    g2 = torch.zeros(1024)
    g2[::256] = 1.0
    parts = encoded(codec, torch.ones(1024))
    for step in range(steps):
        codec.encode(codec.decode(parts) * beta + g2 * (1 - beta), parts, stream_key(0, 0, step, 1))
    values = codec.decode(parts)
    return values[g2 == 0]


@pytest.mark.parametrize("codec", [c for c in CODECS if not c.stochastic and not isinstance(c, Kahan)], ids=str)
def test_a_slow_average_rounded_to_nearest_never_decays(codec: Codec) -> None:
    torch.testing.assert_close(decayed(codec), torch.ones(1020), rtol=2.0**-20, atol=0.0)


@every_stochastic_codec
def test_a_slow_average_rounded_stochastically_decays(codec: Codec) -> None:
    """To 0.999**2000 = 0.135: the mean of 1,020 within 4 standard errors, and none strays far."""
    values = decayed(codec).double()
    error = values.std() / values.numel() ** 0.5
    assert abs(values.mean() - 0.999**2000) <= 4 * error
    assert error < 0.003
    assert values.min() > 0.01
    assert values.max() < 0.8


def test_kahan_adds_what_bfloat16_alone_loses() -> None:
    """A thousand steps of 1e-4 from 1.0, each a fortieth of bfloat16's step."""
    alone, kept = (encoded(codec, torch.ones(10)) for codec in (Bfloat16(stochastic=False), Kahan()))
    for _ in range(1000):
        Bfloat16(stochastic=False).encode(alone[0].float() - 1e-4, alone, KEY)
        Kahan().encode(Kahan().decode(kept) - 1e-4, kept, KEY)
    assert (alone[0] == 1.0).all()
    torch.testing.assert_close(Kahan().decode(kept), torch.full((10,), 0.9), rtol=1e-3, atol=0.0)


# -- shapes, layouts, names ------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Tensor] = {
    "0-d": torch.tensor(1.0),
    "empty": torch.empty(3, 0, 2),
    "flat": torch.arange(7.0),
    "contiguous": torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0)),
    "channels_last": torch.arange(192.0).view(2, 6, 4, 4).to(memory_format=torch.channels_last),
    "transposed": torch.arange(15.0).view(3, 5).t(),
    "permuted": torch.arange(192.0).view(2, 6, 4, 4).permute(3, 1, 0, 2),
    "ones": torch.arange(5.0).view(1, 5, 1, 1),
    "one row of a transpose": torch.arange(15.0).view(3, 5).t()[:, :1].t().contiguous().t(),
    "piece": torch.arange(20.0)[5:15].view(2, 5),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_order_is_a_view_of_the_memory(name: str) -> None:
    x = LAYOUTS[name].clone()
    flat = memory_order(x)
    assert flat.data_ptr() == x.data_ptr()
    assert flat.shape == (x.numel(),)
    assert flat.stride() == (1,)
    flat.copy_(torch.arange(float(x.numel())))
    assert sorted(x.flatten().tolist()) == list(range(x.numel()))


@pytest.mark.parametrize(
    "x",
    [torch.arange(10.0)[::2], torch.ones(()).expand(3), torch.ones(4, 6)[:, :3], torch.ones(5).unfold(0, 2, 1)],
    ids=["gaps", "expanded", "columns", "overlapping"],
)
def test_memory_order_needs_dense_memory(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"dense tensor whose elements do not overlap.*\.contiguous\(\)"):
        memory_order(x)


@every_codec
@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_are_laid_out_like_the_tensor(codec: Codec, name: str) -> None:
    like = LAYOUTS[name]
    parts = codec.zeros(like)
    assert tuple(part.dtype for part in parts) == codec.dtypes
    assert tuple(part.numel() for part in parts) == codec.sizes(like.numel())
    assert parts[0].shape == like.shape
    assert parts[0].stride() == like.clone().stride()
    flat = [memory_order(part) for part in parts]
    codec.encode(memory_order(like.clone()).abs(), flat, KEY)
    if not isinstance(codec, Int8):
        held = sum(part.float() for part in parts)
        assert isinstance(held, Tensor)
        torch.testing.assert_close(held, like.abs(), rtol=2.0**-7, atol=0.0)
    assert torch.equal(codec.decode(flat), through(codec, memory_order(like).abs()))


def test_equal_codecs_serve_as_one_key() -> None:
    assert len({*CODECS, Int8(nonnegative=True), Bfloat16(), Kahan()}) == len(CODECS)


@every_codec
def test_every_part_has_a_name_a_dtype_and_a_size(codec: Codec) -> None:
    assert len(codec.dtypes) == len(codec.sizes(1)) == len(codec.suffixes) == len(set(codec.suffixes))
    assert all(codec.suffixes)


@every_codec
def test_mistakes_are_told(codec: Codec) -> None:
    x, parts = torch.ones(512), codec.zeros(torch.empty(512))
    with pytest.raises(ValueError, match="multiple of 256"):
        codec.encode(x, parts, KEY, 128)
    with pytest.raises(ValueError, match="multiple of 256"):
        codec.narrow(parts, -256, 10)
    with pytest.raises(ValueError, match=r"torch.float64 of shape \(512,\)"):
        codec.encode(x.double(), parts, KEY)
    with pytest.raises(ValueError, match=r"of shape \(2, 256\)"):
        codec.encode(x.view(2, 256), parts, KEY)
    with pytest.raises(ValueError, match="the parts have"):
        codec.encode(x[:1], parts, KEY)


# -- whole tensors ---------------------------------------------------------------------------------------------------


def test_a_key_is_made_in_two_steps() -> None:
    """What stays from step to step, and what a step makes of it."""
    assert codecs.key_of(codecs.stream_of(7, 3), 11, 2) == KEY
    assert codecs.key_of(codecs.stream_of(7, 3), torch.tensor(11), 2).item() == KEY


def test_keys_of_parts() -> None:
    assert Int8(nonnegative=True).keys("exp_avg") == ("exp_avg_int8", "exp_avg_scale")
    assert Bfloat16().keys("ema") == ("ema_bfloat16",)
    assert Kahan().keys("p") == ("compensation",)
    assert Bfloat16().keys("p") == ()


@every_codec
def test_the_nearest_form_is_the_same_form(codec: Codec) -> None:
    assert not codec.to_nearest().stochastic
    assert (type(codec.to_nearest()), codec.to_nearest().keys("m")) == (type(codec), codec.keys("m"))
    assert getattr(codec.to_nearest(), "nonnegative", None) == getattr(codec, "nonnegative", None)


@every_codec
@pytest.mark.parametrize("piece", [256, 1024, 1 << 20])
def test_a_whole_tensor_is_its_pieces(codec: Codec, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "PIECE", piece)
    x = draw(codec, 3 * 41 * 23).view(3, 41, 23).transpose(0, 2)
    parts = codec.zeros(x)
    codecs.encode_whole(codec, x, parts, KEY)
    assert_same_bits(tuple(map(memory_order, parts)), encoded(codec, memory_order(x)))
    values = codecs.decode_whole(codec, parts)
    assert values.stride() == x.stride()
    assert torch.equal(memory_order(values), codec.decode(tuple(map(memory_order, parts))))
    codecs.encode_whole(
        codec, memory_order(x)[:300], narrowed := codec.narrow(encoded(codec, x.new_zeros(300)), 0, 300), KEY, 512
    )
    assert_same_bits(narrowed, encoded(codec, memory_order(x)[:300], start=512))
