"""Building an optimizer by its name, names and aliases, and the facts about one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import steepest
from cases import CLASSES, LAZY, defaults, every_class
from steepest import Optimizer, registry
from steepest.catalogue import NEEDS
from steepest.describe import describe
from steepest.study.optimizers import sources
from steepest.study.optimizers.config import parse_config

ALIASES = registry.aliases()


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


# -- create ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["lion", "Lion", "LION", "l-i_on"])
def test_a_name_builds_its_class(written: str) -> None:
    optimizer = steepest.create(written, model(), lr=0.5, betas=(0.5, 0.6))
    assert type(optimizer) is steepest.Lion
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def test_a_model_gives_its_named_parameters() -> None:
    made = model()
    (group,) = steepest.create("adam", made).param_groups
    assert group["param_names"] == [name for name, _ in made.named_parameters()]
    assert all(a is b for a, b in zip(group["params"], made.parameters(), strict=True))


def test_parameters_named_parameters_and_groups_are_taken_as_in_torch() -> None:
    made = model()
    first, second = made.children()
    assert "param_names" not in steepest.create("adam", made.parameters()).param_groups[0]
    assert "param_names" in steepest.create("adam", made.named_parameters()).param_groups[0]
    groups = [{"params": first.parameters(), "lr": 0.1}, {"params": second.parameters()}]
    assert [g["lr"] for g in steepest.create("adam", groups, lr=0.2).param_groups] == [0.1, 0.2]


def test_an_entry_of_a_tuple_is_an_option() -> None:
    assert steepest.create("adam", model(), beta2=0.5).param_groups[0]["betas"] == (0.9, 0.5)


def test_what_is_created_steps() -> None:
    made = model()
    before = [p.detach().clone() for p in made.parameters()]
    optimizer = steepest.create("adamw", made, lr=0.1)
    made(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("adm",), {}, registry.UnknownNameError, "unknown optimizer 'adm'; did you mean 'adam'"),
        (("sign-sgdd",), {}, registry.UnknownNameError, "did you mean 'signsgd'"),
        (("adam[lr=1]",), {}, registry.UnknownNameError, "options are arguments"),
        (("adam",), {"lrr": 0.1}, TypeError, r"argument 'lrr'; did you mean 'lr'\? \(it takes lr, betas, eps"),
        (("adam",), {"foo": 0.1}, TypeError, r"argument 'foo' \(it takes lr, betas, eps"),
        (("adam",), {"lr": -1.0}, ValueError, "Invalid learning rate: -1"),
        (("adam",), {"beta2": 0.5, "betas": (0.1, 0.2)}, ValueError, "'beta2' is an entry of 'betas'"),
        ((steepest.Adam,), {}, TypeError, "create takes a name first.*is a class, Adam"),
        ((nn.ReLU(),), {}, TypeError, "create takes a name first.*is a ReLU"),
    ],
)
def test_mistakes_are_explained(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        steepest.create(*arguments, model(), **options)


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="this ReLU has no parameters"):
        steepest.create("adam", nn.ReLU())


# -- names and aliases -----------------------------------------------------------------------------------------------


def test_names_are_those_of_the_classes() -> None:
    assert steepest.names() == sorted(CLASSES)
    assert steepest.names("Sgd*") == ["sgd", "sgdp", "sgdschedulefree"]
    assert steepest.names("adam_w") == ["adamw"]
    assert steepest.names("[q-r]*m*") == ["qhadam", "qhm", "radam", "radamschedulefree", "rmsprop"]
    assert steepest.names("nothing*") == []


def test_names_have_aliases_when_they_are_asked_for() -> None:
    assert steepest.names("sign*") == ["signum"]
    assert steepest.names("sign*", aliases=True) == ["signsgd", "signum"]


def test_the_aliases_that_people_type() -> None:
    meant = {name: (m.cls.__name__, dict(m.options)) for name, m in ALIASES.items()}
    assert meant["signsgd"] == ("Signum", {"momentum": 0.0})
    assert meant["tiger"] == ("Signum", {"momentum": 0.965})
    assert meant["nesterov"] == ("NAG", {})
    assert meant["amsgrad"] == ("Adam", {"amsgrad": True})


def test_no_alias_hides_a_name_or_another_alias() -> None:
    declared = [name for cls in CLASSES.values() for name in registry.declared_aliases(cls)]
    assert sorted(declared) == sorted(ALIASES)
    assert not ALIASES.keys() & CLASSES.keys()
    assert all(re.fullmatch("[a-z0-9]+", name) for name in ALIASES)


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_accepted_wherever_a_name_is(name: str) -> None:
    meaning = ALIASES[name]
    recipe = registry.parse(name)
    group = steepest.create(name.upper(), model()).param_groups[0]
    assert registry.find(name) is recipe.optimizer is meaning.cls
    assert dict(recipe.options) == dict(meaning.options)
    assert registry.Recipe(name) == recipe
    assert all(group[key] == value for key, value in meaning.options.items())
    assert sources.parse(name) == (recipe.name, dict(meaning.options))
    assert parse_config(name, {}).label == recipe.label
    assert describe(name) == describe(recipe.label)
    assert f"{name}" in describe(recipe.name)


def test_given_options_win_over_those_of_an_alias() -> None:
    assert dict(registry.parse("tiger[momentum=0.5,lr=0.1]").options) == {"momentum": 0.5, "lr": 0.1}
    assert steepest.create("tiger", model(), momentum=0.5).param_groups[0]["momentum"] == 0.5
    assert parse_config("tiger[momentum=0.5]", {"signum": {"momentum": 0.7}}).options["momentum"] == 0.5


def test_signsgd_without_its_option_would_have_state() -> None:
    """The trap of an alias that names only a class."""
    assert steepest.info("signsgd").state_bytes == 0
    assert steepest.info("signum").state_bytes == 4


def test_a_subclass_does_not_inherit_an_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(steepest.Signum):
        """Signum by another name."""

    assert registry.declared_aliases(Quiet) == {}
    assert registry.find("signsgd") is steepest.Signum


# -- info ------------------------------------------------------------------------------------------------------------


@pytest.mark.thin("cls")
@every_class
def test_the_facts_are_those_of_the_class(cls: type[Optimizer]) -> None:
    facts = steepest.info(cls.__name__)
    options = defaults(cls)
    assert (facts.name, facts.optimizer, facts.options) == (cls.__name__.lower(), cls, {})
    assert facts.kind == cls.rule_for(options).kind
    assert list(facts.fields) == [name for name, f in cls.fields.items() if not f.fixed]
    assert ("closure" in facts.needs) == cls.needs_closure(options)
    assert ("sparse" in facts.needs) == (facts.name in LAZY)
    assert len(facts.source) > 20
    assert not facts.source.startswith("Source")
    assert "Differs" not in facts.source
    page = str(facts)
    assert all(name in page for name in facts.fields)
    assert all(NEEDS[need] in page for need in facts.needs)


@pytest.mark.thin("cls")
@every_class
def test_the_executors_are_those_that_run(cls: type[Optimizer]) -> None:
    """The first one is what an optimizer takes by itself."""
    built = cls([nn.Parameter(torch.zeros(2, 2))])
    facts = steepest.info(cls.__name__)
    assert facts.executors[0] == str(built.executor)


@pytest.mark.parametrize(
    ("name", "count"),
    [("sgd", 0), ("sgd[momentum=0.9]", 4), ("adam", 8), ("amsgrad", 12), ("adam[state_dtype=bfloat16]", 4)],
)
def test_state_bytes_are_those_that_a_step_makes(name: str, count: float) -> None:
    p = nn.Parameter(torch.zeros(1000, 1000))
    p.grad = torch.ones_like(p)
    optimizer = registry.parse(name).build([p])
    optimizer.step()
    held = sum(v.numel() * v.element_size() for v in optimizer.state[p].values() if isinstance(v, torch.Tensor))
    assert steepest.info(name).state_bytes == count
    assert steepest.info(name).state_bytes == pytest.approx(held / p.numel(), abs=0.01)


def test_matrices_and_closures_are_needs() -> None:
    assert steepest.info("muon").needs == ("matrices",)
    assert steepest.info("lbfgs").needs == ("closure",)
    assert steepest.info("nag").needs == ()
    assert steepest.info("nag[true_lookahead=true]").needs == ("closure",)


def test_info_of_an_unknown_name() -> None:
    with pytest.raises(registry.UnknownNameError, match="did you mean 'lion'"):
        steepest.info("lionn")
