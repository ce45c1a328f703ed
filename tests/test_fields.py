"""Declarations: bounds, words, signatures and the state that they make."""

from __future__ import annotations

import inspect
import math
from collections import UserList
from dataclasses import KW_ONLY
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from cases import alternatives, every_class, hyperparameters
from steepest import Field, Optimizer, Rule, State, fields
from steepest.fields import EXECUTION_SWITCHES, Search, signature


def descent(p: Any, g: Any, *, lr: Any) -> Any:
    return p - lr * g


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Field("x", 0.5, "", low=0.0), [0, 0.0, 1e300, math.inf, torch.tensor(2.0)], [-1e-9, math.nan, -math.inf]),
        (Field("x", 0.5, "", low=0.0, high=1.0), [0.0, 0.999999], [1.0, 1, 2.0, -0.1]),
        (Field("x", 0.5, "", low=0.0, high=1.0, inclusive_high=True), [0.0, 1.0, 1], [1.0 + 1e-12]),
        (Field("x", None, "", low=0.0, high=1.0), [None, 0.0, 0.5], [1.0, -0.5]),
        (Field("x", 0.5, ""), [-5.0, math.inf], [math.nan]),
        (Field("x", (0.9, 0.9), "", low=0.0, high=1.0, names=("a", "b")), [(0, 0.5), [0.1, 0.2]], [(0.1, 1.0), (0.1,)]),
        (Field("x", "a", "", choices=("a", "b")), ["a", "b"], ["c", "", None, 1]),
    ],
    ids=["low", "half-open", "closed", "optional", "free", "pair", "words"],
)
def test_bounds(field: Field, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        field.validate(value)
    for value in bad:
        with pytest.raises(ValueError, match="x"):
            field.validate(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field("x", 0.5, "", low=0.0), "0.5"),
        (Field("x", 0.5, "", low=0.0), None),
        (Field("x", 1, "", low=0, integer=True), True),
        (Field("x", 1, "", low=0, integer=True), 1.5),
        (Field("x", False, ""), 2),
        (Field("x", False, ""), None),
        (Field("x", None, ""), "yes"),
        (Field("x", (0.9, 0.9), "", low=0.0, names=("a", "b")), ("a", 0.1)),
    ],
    ids=repr,
)
def test_values_of_another_type(field: Field, value: Any) -> None:
    with pytest.raises(TypeError, match=r"x must be .*, not "):
        field.validate(value)


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        (Field("x", 0.5, "", low=0.0), np.float32(0.25), 0.25),
        (Field("x", 0.5, "", low=0.0), np.array(0.25), 0.25),
        (Field("x", 0.5, "", low=0.0), np.array([0.25]), 0.25),
        (Field("x", 0.5, "", low=0.0), np.int64(2), 2),
        (Field("x", 0.5, "", low=0.0), Fraction(1, 4), 0.25),
        (Field("x", 0.5, "", low=0.0), False, 0),
        (Field("x", 0.5, "", low=0.0), np.bool_(False), 0),
        (Field("x", 3, "", low=0, integer=True), 7.0, 7),
        (Field("x", 3, "", low=0, integer=True), np.int32(7), 7),
        (Field("x", False, ""), 1, True),
        (Field("x", None, ""), np.bool_(False), False),
        (Field("x", (0.9, 0.9), "", low=0.0, names=("a", "b")), np.array([0.5, 0.25]), (0.5, 0.25)),
        (
            Field("x", (0.9, 0.9), "", low=0.0, names=("a", "b")),
            UserList([np.float64(0.5), Fraction(1, 4)]),
            (0.5, 0.25),
        ),
        (Field("x", (0.9, 0.9), "", low=0.0, names=("a", "b")), [0.5, 0.25], [0.5, 0.25]),
    ],
    ids=repr,
)
def test_what_torch_takes_for_a_plain_value_becomes_one(field: Field, given: Any, kept: Any) -> None:
    field.validate(given)
    settled = field.settle(given)
    assert settled == kept
    assert type(settled) is type(kept)


def test_messages_start_with_torchs_words_and_say_what_is_allowed() -> None:
    field = Field("betas", (0.9, 0.9), "", low=0.0, high=1.0, names=("a", "b"), invalid="Bad at {index}: {value}")
    with pytest.raises(ValueError, match=r"^Bad at 1: 1\.5 \(betas must be 2 numbers >= 0 and < 1\)$"):
        field.validate((0.5, 1.5))


def test_a_tensor_value_has_one_element() -> None:
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        Field("lr", 0.1, "", low=0.0).validate(torch.ones(2))


def test_unpack_gives_the_rules_names() -> None:
    assert Field("betas", (0.9, 0.99), "", names=("beta1", "beta2")).unpack((0.1, 0.2)) == {"beta1": 0.1, "beta2": 0.2}
    assert Field("lr", 0.1, "", names=("lr",)).unpack(0.3) == {"lr": 0.3}


@pytest.mark.thin("cls")
@every_class
def test_every_declared_default_and_alternative_is_valid(cls: type[Optimizer]) -> None:
    for field in cls.fields.values():
        field.validate(field.default)
        for value in alternatives(field) if field.is_hyperparameter else []:
            field.validate(value)
            assert value != field.default


@pytest.mark.thin("cls")
@every_class
def test_declarations_are_complete(cls: type[Optimizer]) -> None:
    for name, field in cls.fields.items():
        assert field.name == name
        assert field.doc
        assert field.allowed
        if name not in EXECUTION_SWITCHES and isinstance(field.default, float):
            assert field.low is not None or field.choices or field.search or field.candidates, name
        if field.search is not None:
            assert 0 < field.search.low < field.search.high
    assert "lr" in hyperparameters(cls)
    assert cls.fields["lr"].search is not None or cls.fields["lr"].default == 1  # a factor of what the rule finds


@pytest.mark.thin("cls")
@every_class
def test_signature_is_the_declaration(cls: type[Optimizer]) -> None:
    shown = inspect.signature(cls).parameters
    assert next(iter(shown)) == "params"
    free = [field for field in cls.fields.values() if not field.fixed]
    assert set(shown) - {"params"} == {field.name for field in free}
    assert all(shown[field.name].default == field.default for field in free)


def test_a_subclass_keeps_its_parents_places() -> None:
    class Parent(Optimizer):
        """One argument of each sort."""

        lr: float = fields.lr(0.1)
        rate: float = fields.hyper(0.5, "a rate", low=0.0)
        _: KW_ONLY
        flag: bool = fields.hyper(False, "a flag")
        rule = Rule(descent, "pointwise")

    class Child(Parent):
        """Another default, one argument more of each sort, and a settled one."""

        rate: float = fields.hyper(0.7, "a rate", low=0.0)
        more: float = fields.hyper(1.0, "more", low=0.0)
        _: KW_ONLY
        own: bool = fields.hyper(False, "its own")
        settled: bool = fields.hyper(True, "settled", fixed=True)

    assert list(inspect.signature(Child).parameters) == [
        *("params", "lr", "rate", "more", "own", "flag"),
        *(name for name in Optimizer.fields if name != "norm_group"),
        "norm_group",  # it says how a step runs
    ]
    optimizer = Child([torch.nn.Parameter(torch.ones(1))], 0.2, 0.3)
    assert (optimizer.defaults["rate"], optimizer.defaults["settled"]) == (0.3, True)
    assert Parent.fields["rate"].default == 0.5
    with pytest.raises(TypeError, match="settled"):
        Child([torch.nn.Parameter(torch.ones(1))], settled=False)


def test_signature_of_plain_fields() -> None:
    made = signature({"a": Field("a", 1, ""), "b": Field("b", 2, "", keyword_only=True)})
    assert str(made) == "(self, params, a=1, *, b=2)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("like", (2, 3)), ("tensor_scalar", ()), ("row", (2, 1)), ("column", (1, 3))],
)
def test_state_shapes_and_dtypes(kind: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    p = torch.ones(2, 3, dtype=dtype)
    made = State("s", kind, init=0.5).create(p, {})
    assert made.shape == shape
    assert made.dtype == (dtype if kind == "like" or not dtype.is_complex else torch.float32)
    assert State("s", kind).nbytes(p) == made.numel() * made.element_size()


def test_state_first_values() -> None:
    p = torch.full((2,), 3.0, requires_grad=True)
    assert State("s", init=0.25).create(p, {}).tolist() == [0.25, 0.25]
    assert State("s", init="start").create(p, {"start": 0.75}).tolist() == [0.75, 0.75]
    copied = State("s", init="param").create(p, {})
    assert copied.tolist() == [3.0, 3.0]
    assert not copied.requires_grad
    assert copied.data_ptr() != p.data_ptr()
    assert State("s", "shared", init=0).create(p, {}) == 0
    assert State("s", "shared", init=None).create(p, {}) is None
    assert State("s", "shared", init=None).nbytes(p) == 0


@pytest.mark.parametrize("kind", ["step", "scalar"])
def test_counters_live_on_the_cpu_in_the_default_dtype(kind: Any) -> None:
    made = State("s", kind, init=1.0).create(torch.ones(2, dtype=torch.bfloat16), {})
    assert (made.shape, made.dtype, made.device.type, made.item()) == ((), torch.float32, "cpu", 1.0)


@pytest.mark.usefixtures("float64_default")
def test_counters_are_float64_if_that_is_the_default() -> None:
    assert State("s", "step").create(torch.ones(2), {}).dtype == torch.float64


def test_state_keeps_the_parameters_layout() -> None:
    p = torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert State("s").create(p, {}).stride() == p.stride()
    assert State("s", init="param").create(p, {}).stride() == p.stride()


def test_search_ranges_are_plain_numbers() -> None:
    assert Search(0.1, 1.0).scale == "log"


def test_betas_are_as_many_as_the_default_has() -> None:
    declared = fields.betas((0.9, 0.99, 0.999, 0.9999)).named("betas", keyword_only=False)
    assert declared.unpack((0.1, 0.2, 0.3, 0.4)) == {"beta1": 0.1, "beta2": 0.2, "beta3": 0.3, "beta4": 0.4}
    with pytest.raises(ValueError, match=r"betas must be 4 numbers >= 0 and < 1, not \(0.9, 0.99\)"):
        declared.validate((0.9, 0.99))
    with pytest.raises(ValueError, match=r"two rates or more, not \(0.9,\)"):
        fields.betas((0.9,))


def test_none_is_allowed_where_it_is_a_candidate() -> None:
    declared = fields.hyper(0.25, "a number", low=0.0, candidates=(None, 0.5)).named("x", keyword_only=False)
    declared.validate(None)
    assert declared.allowed == "a number or None >= 0"
    with pytest.raises(TypeError, match="x must be a number >= 0, not None"):
        fields.hyper(0.25, "a number", low=0.0).named("x", keyword_only=False).validate(None)
