"""Bad input is refused, in the words of torch where torch refuses it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cases import (
    CLASSES,
    COMPOSED,
    PLANNED,
    SWITCHES,
    Options,
    Twins,
    alternatives,
    assert_same,
    defaults,
    every_class,
    every_executor,
    every_native_class,
    every_planned_class,
    hyperparameters,
    is_valid,
    snapshot,
    train,
)
from shell import (
    every_twin,
    give_all,
    tensors,
)
from steepest import Optimizer


@pytest.mark.thin("kind", "params")
@every_class
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (list, ValueError, "optimizer got an empty parameter list"),
        (lambda: torch.ones(2), TypeError, "should be an iterable of Tensors or dicts"),
        (lambda: [torch.ones(2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
        (lambda: [torch.ones(2, dtype=torch.int64)], ValueError, r"updates floating-point .* not torch.int64"),
        (lambda: [torch.ones(2, dtype=torch.bool)], ValueError, r"updates floating-point .* not torch.bool"),
        (lambda: [1.0], TypeError, "optimizer can only optimize Tensors"),
        (lambda: [{"params": {torch.ones(2)}}], TypeError, "organized in ordered collections"),
    ],
    ids=["empty", "tensor", "non-leaf", "integer", "bool", "float", "set"],
)
def test_bad_parameters_are_refused_as_torch_does(
    cls: type[Optimizer], params: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cls(params())


@every_class
def test_duplicates(cls: type[Optimizer]) -> None:
    p = torch.nn.Parameter(torch.ones(2, 2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        cls([p, p])
    with pytest.raises(ValueError, match=r"some parameters appear in more than one parameter group|parameter groups"):
        cls([{"params": [p]}, {"params": [p]}])


@every_planned_class
def test_a_refused_group_leaves_the_optimizer_as_it_was(cls: type[Optimizer]) -> None:
    optimizer = cls(tensors())
    for bad in ({"params": [torch.ones(2, dtype=torch.int64)]}, {"params": tensors(), "lr": -1.0}):
        with pytest.raises(ValueError, match=r"."):
            optimizer.add_param_group(bad)
        assert len(optimizer.param_groups) == 1
    train(optimizer, 1)


@pytest.mark.parametrize("cls", [cls for cls in PLANNED.values() if cls.rule.sparse is None], ids=lambda c: c.__name__)
@every_executor
def test_sparse_gradients_are_refused(cls: type[Optimizer], executor: str) -> None:
    params = tensors()
    give_all([params])
    optimizer = cls(params, **SWITCHES[executor])
    optimizer.step()
    params[1].grad = params[1].grad.to_sparse()
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=f"^{cls.__name__} does not support sparse gradients"):
        optimizer.step()
    assert_same(snapshot(optimizer), before)


@every_class
def test_unknown_arguments_get_the_close_match(cls: type[Optimizer]) -> None:
    for name in (n for n, f in cls.fields.items() if not f.fixed):
        slip = name[:-1] + name[-1] * 2
        with pytest.raises(TypeError, match=rf"{cls.__name__}.*{slip}.*did you mean '{name}'"):
            cls(tensors(), **{slip: 0})
    with pytest.raises(TypeError, match="unexpected keyword argument 'zzz'"):
        cls(tensors(), zzz=1)
    with pytest.raises(TypeError):
        cls(tensors(), *range(40))


@every_class
def test_unknown_group_options_get_the_close_match_and_foreign_ones_pass(cls: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'state_dtpe'; did you mean 'state_dtype'"):
        cls([{"params": tensors(), "state_dtpe": None}])
    optimizer = cls([{"params": tensors(), "name": "backbone"}])
    assert optimizer.param_groups[0]["name"] == "backbone"
    train(optimizer, 1)


@every_class
def test_values_out_of_bounds_are_refused_everywhere(cls: type[Optimizer]) -> None:
    """In the constructor, in a group and in a late group."""
    for name, field in hyperparameters(cls).items():
        if field.low in (None, -math.inf):
            continue
        bad = tuple(field.low - 1 for _ in field.names) if len(field.names) > 1 else field.low - 1
        with pytest.raises(ValueError, match=name):
            cls(tensors(), **{name: bad})
        with pytest.raises(ValueError, match=name):
            cls([{"params": tensors(), name: bad}])


@every_twin
def test_out_of_bounds_messages_start_with_torchs(twins: Twins) -> None:
    """And what torch allows is allowed, but for what is no number."""
    ours, theirs = twins
    known = inspect.signature(theirs).parameters
    refused = [options for options in bad_options(ours) if options.keys() <= known.keys() and message(theirs, options)]
    assert refused
    for options in bad_options(ours):
        if options.keys() <= known.keys():
            assert (message(ours, options) or "").startswith(wanted := message(theirs, options) or ""), options
            assert bool(wanted) == bool(message(ours, options)), options


def bad_options(cls: type[Optimizer]) -> list[Options]:
    """Values below and above usual bounds."""
    bad: list[Options] = []
    for name, field in hyperparameters(cls).items():
        if len(field.names) > 1:
            pairs = ((-0.5, 0.9), (0.9, 1.0), (0.9, 1.5))
            bad += [{name: (*pair, *pair)[: len(field.names)]} for pair in pairs]
        elif field.is_number and not field.integer:
            bad += [{name: -0.5}, {name: 1.5}]
    return bad


def message(cls: type[torch.optim.Optimizer], options: Options) -> str | None:
    """What the constructor says against the options."""
    try:
        cls(tensors(), **options)
    except ValueError as error:
        return str(error)
    return None


@every_twin
def test_a_tensor_rate_has_one_element(twins: Twins) -> None:
    for cls in twins:
        with pytest.raises(ValueError, match=r"^Tensor lr must be 1-element"):
            cls(tensors(), lr=torch.ones(2))


def test_options_that_contradict_each_other_raise() -> None:
    for name, cls in CLASSES.items():
        for field in hyperparameters(cls).values():
            for value in alternatives(field):
                if is_valid(cls, {field.name: value}) or cls.needs_closure({**defaults(cls), field.name: value}):
                    continue
                with pytest.raises(ValueError, match=r"."):
                    cls(tensors(), **{field.name: value})
                with pytest.raises(ValueError, match=r"."):
                    cls([{"params": tensors(), field.name: value}])
                assert name


@every_class
def test_fused_runs_one_kernel_or_is_no_argument(cls: type[Optimizer]) -> None:
    if "fused" not in cls.fields:
        with pytest.raises(TypeError, match="fused"):
            cls(tensors(), fused=True)
        return
    if cls in COMPOSED.values():
        with pytest.raises(RuntimeError, match="no rows or columns"):
            cls(tensors(), fused=True)
        return
    assert cls(tensors(), fused=True).executor == "native"
    assert cls(tensors(), fused=False).executor == "foreach"


class Subclass(torch.Tensor):
    """A tensor of another type."""


@every_native_class
def test_fused_is_refused_where_no_kernel_can_run(cls: type[Optimizer]) -> None:
    odd = [torch.ones(2).as_subclass(Subclass)]
    with pytest.raises(RuntimeError, match=r"fused=True.*plain tensors.*Subclass"):
        cls(odd, fused=True)
    with pytest.raises(RuntimeError, match="fused=True"):
        cls([{"params": odd, "fused": True}])
    optimizer = cls(odd)
    assert optimizer.executor == "reference"
    optimizer.param_groups[0]["fused"] = True
    odd[0].grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="fused=True"):
        optimizer.step()
