import pytest
import torch

from steepest.study import seeds


def test_every_purpose_and_seed_has_its_own_stream() -> None:
    streams = {seeds.derive(purpose, seed) for purpose in seeds.PURPOSES for seed in range(100)}
    assert len(streams) == 100 * len(seeds.PURPOSES)


def test_streams_are_the_same_on_every_machine() -> None:
    assert seeds.derive("init", 0) == 0x2D68B19DC9BB0368  # the first 63 bits of sha256(b"steepest/init/0")


def test_an_unknown_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown purpose 'optimizer'.*init, order, dropout, search, split"):
        seeds.derive("optimizer", 0)


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


def test_rewinding_repeats_the_block() -> None:
    stream = seeds.GlobalStream("dropout", 0)
    with stream.active():
        first = torch.rand(3)
        stream.rewind()
        assert torch.equal(torch.rand(3), first)


def test_the_generator_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with seeds.GlobalStream("init", 0).active():
            torch.rand(5)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)
