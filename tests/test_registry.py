"""Finding optimizers by name and reading them from a command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import steepest
from cases import CLASSES, alternatives, every_class, hyperparameters, is_valid
from steepest import Optimizer, registry
from steepest.registry import Recipe, UnknownNameError, parse


def test_every_rule_file_is_found() -> None:
    package = Path(steepest.__file__).parent
    files = [path for folder in ("rules", "drivers") for path in (package / folder).glob("*.py")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    declared = {name for line in lines for name in re.findall(r"^class (\w+)\([A-Z]\w*(?:, [A-Z]\w*)*\):", line)}
    assert {cls.__name__ for cls in CLASSES.values()} == {n for n in declared if n.lower() in CLASSES}
    assert {n for n in declared if not n.endswith(("Error", "Point"))} == {cls.__name__ for cls in CLASSES.values()}
    assert all(cls.__module__.startswith(("steepest.rules.", "steepest.drivers.")) for cls in CLASSES.values())


@pytest.mark.thin("cls")
@every_class
def test_every_class_is_public(cls: type[Optimizer]) -> None:
    assert getattr(steepest, cls.__name__) is cls
    assert cls.__name__ in steepest.__all__
    assert cls.__doc__
    assert "Source:" in cls.__doc__
    assert "Differs:" in cls.__doc__


@pytest.mark.thin("cls")
@every_class
def test_names_are_found_however_they_are_written(cls: type[Optimizer]) -> None:
    name = cls.__name__
    for written in (name, name.lower(), name.upper(), "-".join(name), "_".join(name)):
        assert registry.find(written) is cls


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adm", "'adam'"),
        ("sgdx", "'sgd'"),
        ("momentim", "'momentum'"),
        ("rms-prob", "'rmsprop'"),
        ("", None),
        ("sgdd", "'sgd'"),
    ],
)
def test_unknown_names(name: str, hint: str | None) -> None:
    with pytest.raises(UnknownNameError) as raised:
        registry.find(name)
    message = str(raised.value)
    assert all(known in message for known in CLASSES)
    assert ("did you mean" in message) == (hint is not None)
    assert hint is None or hint in message


def spell(value: Any) -> str:
    """As a person would type it."""
    if isinstance(value, tuple):
        return "(" + ",".join(map(spell, value)) + ")"
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.thin("cls")
@every_class
def test_round_trip(cls: type[Optimizer]) -> None:
    """What is typed is what is built, for every option and its alternatives."""
    for name, field in hyperparameters(cls).items():
        for value in alternatives(field):
            if not is_valid(cls, {name: value}):
                continue
            recipe = parse(f"{cls.__name__.lower()}[{name}={spell(value)}]")
            assert recipe.options == {name: value}
            assert recipe.resolved()[name] == value
            assert recipe.build([torch.nn.Parameter(torch.ones(1, 1))]).param_groups[0][name] == value


@pytest.mark.thin("cls")
@every_class
def test_resolved_is_complete_and_json_can_hold_it(cls: type[Optimizer]) -> None:
    recipe = parse(cls.__name__)
    assert recipe.resolved().keys() == cls.fields.keys()
    assert recipe.label == cls.__name__
    json.dumps(recipe.resolved(), allow_nan=False)


@pytest.mark.thin("cls")
@every_class
def test_labels_are_read_back(cls: type[Optimizer]) -> None:
    for name, field in hyperparameters(cls).items():
        for value in (v for v in alternatives(field) if is_valid(cls, {name: v})):
            rounded = parse(Recipe(cls.__name__.lower(), {name: value}).label)
            assert parse(rounded.label) == rounded


def test_the_forms_of_a_command_line() -> None:
    assert parse(" adam ").options == {}
    assert parse("adam[]").options == {}
    assert parse("Adam[ lr = 0.01 , amsgrad = True ]").options == {"lr": 0.01, "amsgrad": True}
    assert parse("adam[lr=1e-2,betas=(0.8, 0.9),eps=1]").options == {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1}
    assert parse("adam[beta2=0.99]").options == {"betas": (0.9, 0.99)}
    assert parse("adam[ema_decay=none]").options == {"ema_decay": None}
    assert parse("nadam[momentum_schedule='dozat']").options == {"momentum_schedule": "dozat"}
    assert parse("steepestdescent[line_search=armijo]").options == {"line_search": "armijo"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam[lr=0.1,lr=0.2]", "'lr' is given twice"),
        ("adam[lr]", "write key=value"),
        ("adam[lr=]", "write key=value"),
        ("adam[=1]", "write key=value"),
        ("adam[lr=0.1", "write NAME"),
        ("adam]lr=0.1[", "write NAME"),
        ("[lr=0.1]", "write NAME"),
        ("", "write NAME"),
        ("adam[lr=fast]", "lr must be a number >= 0.*not 'fast'"),
        ("adam[lr='0.1']", "lr must be a number"),
        ("adam[lr=-1]", "^Invalid learning rate: -1"),
        ("adam[betas=0.9]", "betas must be 2 numbers"),
        ("adam[betas=(0.9,0.99,0.999)]", "betas must be 2 numbers"),
        ("adam[betas=((0.9,0.8),0.99)]", "betas must be 2 numbers"),
        ("adam[amsgrad=2]", "amsgrad must be True or False"),
        ("adam[lrr=0.1]", "did you mean 'lr'"),
        ("adam[weightdecay=0.1]", "did you mean 'weight_decay'"),
        ("adam[beta3=0.1]", "did you mean 'beta"),
        ("adamw[decoupled_weight_decay=false]", "no option 'decoupled_weight_decay'"),
        ("nadam[momentum_schedule=torchy]", "momentum_schedule must be one of 'torch', 'constant', 'dozat'"),
        ("nadam[momentum_schedule=dozat,momentum_decay=0.1]", "momentum_decay belongs to"),
        ("sgd[nesterov=true]", "Nesterov momentum requires"),
        ("adam[lookahead_k=5]", "an entry of 'lookahead', which is off; give all of lookahead_k, lookahead_alpha"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam[beta1=0.5,beta1=0.6]", "'beta1' is given twice"),
        ("adam[beta1=0.5,betas=(0.1,0.2)]", "'beta1' is an entry of 'betas'; give one of the two"),
        ("adam[betas=(0.1,0.2),beta1=0.5]", "'beta1' is an entry of 'betas'; give one of the two"),
    ],
)
def test_the_same_entry_twice_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_all_entries_turn_on_a_tuple_that_is_off() -> None:
    assert dict(parse("adam[lookahead_k=5,lookahead_alpha=0.5]").options) == {"lookahead": (5, 0.5)}


def test_with_defaults_keeps_what_was_given() -> None:
    recipe = parse("adam[lr=0.5]").with_defaults({"lr": 0.1, "eps": 1e-6})
    assert dict(recipe.options) == {"lr": 0.5, "eps": 1e-6}


def test_recipes_are_checked_when_they_are_made() -> None:
    with pytest.raises(UnknownNameError):
        Recipe("adamm")
    with pytest.raises(ValueError, match="Invalid learning rate"):
        Recipe("adam", {"lr": -1.0})


def test_a_recipe_with_an_unknown_option_teaches() -> None:
    with pytest.raises(ValueError, match="did you mean 'lr'"):
        Recipe("adam", {"lrr": 0.1})


def test_build_takes_groups() -> None:
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = parse("adam[lr=0.5]").build([{"params": [a]}, {"params": [b], "lr": 0.1}])
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]


def test_suggest() -> None:
    assert registry.suggest("adm", ["adam", "sgd"]) == "; did you mean 'adam'?"
    assert registry.suggest("zzz", ["adam", "sgd"]) == ""
    assert registry.suggest("MYOP", ["MyOpt", "SGD"]) == "; did you mean 'MyOpt'?"


def test_an_entry_of_a_tuple_is_no_option_of_a_recipe() -> None:
    with pytest.raises(registry.UnknownNameError, match="'beta1' is an entry of 'betas'; give betas whole"):
        registry.Recipe("adam", {"beta1": 0.5})
