import random

import numpy as np
import pytest
import torch

from steepest.study import seeds


def test_every_purpose_and_seed_has_its_own_stream() -> None:
    streams = {seeds.derive(purpose, seed) for purpose in seeds.PURPOSES for seed in range(100)}
    assert len(streams) == 100 * len(seeds.PURPOSES)


def test_streams_are_the_same_on_every_machine() -> None:
    assert seeds.derive("init", 0) == 0x2D68B19DC9BB0368  # the first 63 bits of sha256(b"steepest/init/0")


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown purpose 'rule'; the purposes are init, optimizer, order, .*, evaluation, search, split$",
    ):
        seeds.derive("rule", 0)


def test_a_global_stream_continues_and_leaves_the_generator_alone() -> None:
    stream = seeds.GlobalStream("dropout", 3)
    before = torch.get_rng_state()
    with stream.active():
        first = torch.rand(4)
    torch.rand(7)  # what happens outside does not move the stream
    torch.set_rng_state(before)
    with stream.active():
        second = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat([first, second]), torch.rand(8, generator=seeds.generator("dropout", 3)))


def test_the_generator_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with seeds.GlobalStream("init", 0).active():
            torch.rand(5)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def drawn() -> list[float]:
    """Draw from every generator that a model's code may draw from, in both of NumPy's and random's ways."""
    return [torch.rand(()).item(), np.random.rand(), np.random.randn(), random.random(), random.gauss()]


def test_a_position_is_where_the_stream_continues() -> None:
    stream = seeds.GlobalStream("dropout", 0)
    with stream.active():
        drawn()
        position = stream.position
        first = drawn()
        stream.position = position
        assert drawn() == first
    stream.position = position
    with stream.active():
        assert drawn() == first


def test_every_global_generator_is_seeded_and_left_alone() -> None:
    drawn()  # an odd number of normal draws: one is kept for the next call
    outside = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()
    streams = [seeds.GlobalStream("init", seed).active for seed in (0, 0, 1)]
    found = []
    for active in streams:
        with active():
            found.append(drawn())
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))
    assert (np.random.get_state()[1] == outside[0]).all()
    assert random.getstate() == outside[1]
    assert torch.equal(torch.get_rng_state(), outside[2])


def test_blocks_of_a_stream_may_be_nested_and_interrupted_by_another() -> None:
    whole = seeds.GlobalStream("dropout", 0)
    with whole.active():
        expected = [drawn(), drawn(), drawn()]
    stream, other = seeds.GlobalStream("dropout", 0), seeds.GlobalStream("evaluation", 0, "validation", 7)
    with stream.active():
        found = [drawn()]
        with stream.active():
            found.append(drawn())
        with other.active():
            drawn()
        found.append(drawn())
    assert found == expected


def test_parts_make_streams_of_their_own() -> None:
    named = [("validation", 1), ("validation", 2), ("test", 1), ()]
    assert len({seeds.derive("evaluation", 0, *parts) for parts in named}) == 4
