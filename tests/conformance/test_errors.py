"""Errors and warnings: torch's types in torch's words, at the place where torch raises them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from .support import OURS, TORCHS, Info, data_base, empty_step, every_info, takes

ErrorInput = data_base.ErrorOptimizerInput
CONSTRUCTION = data_base.OptimizerErrorEnum.CONSTRUCTION_ERROR


def error_inputs(info: Info) -> list[ErrorInput]:
    """What the data base expects to fail; it draws its tensors from the global stream."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return info.optim_error_inputs_func("cpu", torch.float32)  # type: ignore[no-any-return]


def every_error() -> Iterator[Any]:
    for info in OURS.values():
        for error in error_inputs(info):
            description = error.optimizer_error_input.desc.replace(" ", "_")
            yield pytest.param(info, error, id=f"{info.name}-{description}")


@pytest.mark.parametrize(("info", "error"), list(every_error()))
def test_what_the_data_base_expects_to_fail(info: Info, error: ErrorInput) -> None:
    given = error.optimizer_error_input
    params = [torch.nn.Parameter(torch.ones(2, 3))] if given.params is None else given.params
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            info.optim_cls(params, **given.kwargs)
    elif error.error_on is CONSTRUCTION:
        with pytest.raises(error.error_type, match=error.error_regex):
            info.optim_cls(params, **given.kwargs)
    else:
        optimizer = info.optim_cls(params, **given.kwargs)
        with pytest.raises(error.error_type, match=error.error_regex):
            optimizer.step()


def matrix() -> torch.nn.Parameter:
    """A parameter that every class takes."""
    return torch.nn.Parameter(torch.ones(2, 3))


def outcome(work: Callable[[], Any]) -> Exception | None:
    """What the work raises, if anything."""
    try:
        work()
    except Exception as error:
        return error
    return None


def assert_refused_alike(work: Callable[[type[torch.optim.Optimizer]], Any], info: Info) -> None:
    """Where torch's class refuses, ours does: the same type, and torch's words among ours."""
    ours, theirs = (outcome(lambda cls=each.optim_cls: work(cls)) for each in (info, TORCHS[info.name]))
    if theirs is None:
        assert ours is None, f"torch does not refuse this: {ours!r}"
    else:
        assert type(ours) is type(theirs), (ours, theirs)
        words = str(theirs).removeprefix("Adam").removesuffix(".")  # AdamW says Adam of itself in torch
        assert words in str(ours)


PAIRS = list(itertools.combinations(("foreach", "fused", "differentiable"), 2))


@every_info()
@pytest.mark.parametrize("switches", PAIRS, ids="+".join)
def test_switches_that_contradict_each_other(info: Info, switches: tuple[str, str]) -> None:
    """At construction; torch meets ``foreach`` with ``differentiable`` in the middle of a step."""

    def work(cls: type[torch.optim.Optimizer]) -> None:
        cls([matrix()], **dict.fromkeys(switches, True))

    if "fused" in switches and set(switches) <= set(TORCHS[info.name].supported_impls):
        assert_refused_alike(work, info)
    elif set(switches) <= set(info.supported_impls):
        with pytest.raises(RuntimeError, match="|".join(f"`{switch}" for switch in switches)):
            work(info.optim_cls)
    else:
        with pytest.raises(TypeError, match="|".join(set(switches) - set(info.supported_impls))):
            work(info.optim_cls)


@every_info()
@pytest.mark.parametrize("switches", [{}, {"foreach": True}, {"fused": True}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("option", ["lr", "betas"])
def test_tensor_options_are_taken_where_torch_takes_them(info: Info, option: str, switches: dict[str, bool]) -> None:
    """At construction; 0-dim, and 1-element of any shape."""
    if not {option, *switches} <= set(info.optim_cls.fields) & set(TORCHS[info.name].optim_cls([matrix()]).defaults):
        pytest.skip("torch's class has no such argument")
    value = torch.tensor([0.5]) if option == "lr" else (torch.tensor(0.5), torch.tensor([[0.75]]))
    assert_refused_alike(lambda cls: cls([matrix()], **{option: value}, **switches), info)


@every_info()
def test_sparse_gradients_are_refused_in_torchs_words(info: Info) -> None:
    """Or taken, where torch's class takes them. (Its Adagrad makes sparse tensors without a word on their checks.)"""

    def work(cls: type[torch.optim.Optimizer]) -> None:
        p = torch.nn.Parameter(torch.ones(4, 3))
        p.grad = torch.sparse_coo_tensor([[1, 3]], torch.ones(2, 3), (4, 3), check_invariants=False)
        optimizer = cls([p])

        empty_step(optimizer, info)

    with torch.sparse.check_sparse_tensor_invariants(False):
        assert_refused_alike(work, info)


def without_devices(message: str) -> str:
    """torch 2.11 lists fewer devices for Adagrad than for the others."""
    return re.sub(r"\[.*\]", "[]", message)


@every_info(lambda info: "fused" in info.optim_cls.fields)
def test_fused_parameters_on_meta(info: Info) -> None:
    """A model may be made on meta: the optimizer takes its parameters, and steps once they are somewhere."""
    theirs = TORCHS[info.name]
    torchs = theirs.optim_cls if "cpu" in theirs.supports_fused_on else torch.optim.AdamW
    layer = torch.nn.Linear(3, 2, bias=takes(info.optim_cls, (2,)), device="meta")
    ours = info.optim_cls(layer.parameters(), fused=True)
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError) as refused:
        torchs(layer.parameters(), fused=True).step()
    with pytest.raises(RuntimeError) as error:
        ours.step()
    assert without_devices(str(refused.value)) in without_devices(str(error.value))
    layer.to_empty(device="cpu")
    ours = info.optim_cls(layer.parameters(), fused=True)
    for p in layer.parameters():
        torch.nn.init.ones_(p)
        p.grad = torch.ones_like(p)
    ours.step()
    assert ours.executor == "native"
    assert all((p < 1).all() for p in layer.parameters())
