"""Optimizers that other installed packages declare as entry points."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import steepest
from steepest import describe, registry
from steepest.plugins import PluginWarning
from steepest.study.optimizers.config import parse_config

RULE = '''
from steepest import Optimizer, Rule, fields


def tilted(p, g, *, lr, tilt):
    """p, g: same shape. Returns new p."""
    return p - lr * (g + tilt)


class {name}(Optimizer):
    """Gradient descent on a tilted floor.

    Source:
        Nobody 1900.
    """

    lr: fields.Rate = fields.lr(0.1)
    tilt: float = fields.hyper(0.0, "what is added to g")
    aliases = fields.aliases(**{aliases})
    rule = Rule(tilted, "pointwise")
'''

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with entry points where Python finds it, as an installer would."""
    modules: list[str] = []

    def put(package: str, points: dict[str, str], **files: str) -> Path:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[steepest.rules]", *lines, ""]), encoding="utf-8")
        for module, text in files.items():
            (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        modules.extend(files)
        monkeypatch.syspath_prepend(str(tmp_path))
        forget()
        return tmp_path

    def forget() -> None:
        registry.optimizers.cache_clear()
        registry.aliases.cache_clear()

    yield put
    monkeypatch.undo()
    for module in modules:
        sys.modules.pop(module, None)
    forget()


def rule(name: str, **aliases: dict[str, float]) -> str:
    return RULE.format(name=name, aliases=aliases)


def test_a_class_of_another_package_is_found_like_the_librarys(install: Install) -> None:
    install("tiltedpack", {"whatever": "tilted_rules:Tilted"}, tilted_rules=rule("Tilted", ramp={"tilt": 0.5}))
    cls = registry.find("tilted")
    assert cls.__module__ == "tilted_rules"
    assert registry.optimizers()["tilted"] is cls
    assert "tilted" in steepest.names("tilt*")
    assert steepest.info("tilted").source == "Nobody 1900."
    assert steepest.info("ramp").options == {"tilt": 0.5}
    assert "θ ← θ - η·(tilt + g)" in describe.describe("tilted").replace("g + tilt", "tilt + g")
    assert parse_config("ramp[lr=0.2]", {}).label == "Tilted[tilt=0.5,lr=0.2]"
    p = nn.Parameter(torch.ones(2))
    optimizer = steepest.create("tilted", [p], lr=0.5)
    p.grad = torch.ones(2)
    optimizer.step()
    assert p.tolist() == [0.5, 0.5]


def test_a_module_adds_all_classes_that_it_defines(install: Install) -> None:
    text = rule("First") + rule("Second_One").partition("\n\n\n")[2] + "\nfrom steepest import Adam\n"
    install("two", {"mine": "two_rules"}, two_rules=text)
    added = registry.optimizers().keys() - registry.built_in().keys()
    assert added == {"first", "secondone"}
    assert registry.find("second-one") is registry.find("Second_One")
    assert registry.Recipe("Second_One").label == "Second_One"


def test_an_entry_point_that_cannot_be_imported_is_named_and_the_others_stay(install: Install) -> None:
    points = {"broken": "no_such_module:X", "late": "good_rules:Missing", "right": "good_rules:Tilted"}
    install("mixed", points, good_rules=rule("Tilted"))
    with pytest.warns(PluginWarning) as caught:
        known = registry.optimizers()
    told = [str(warning.message) for warning in caught]
    assert len(told) == 2
    assert "broken = no_such_module:X of mixed (steepest.rules) cannot be imported (ModuleNotFoundError" in told[0]
    assert "late = good_rules:Missing of mixed (steepest.rules) cannot be imported (AttributeError" in told[1]
    assert known.keys() - registry.built_in().keys() == {"tilted"}


@pytest.mark.parametrize(("name", "holder"), [("Adam", "adam.Adam"), ("SignSGD", "signum.Signum")])
def test_the_librarys_own_name_wins_with_a_warning(install: Install, name: str, holder: str) -> None:
    install("rival", {"rival": f"rival_rules:{name}"}, rival_rules=rule(name))
    with pytest.warns(PluginWarning, match=f"has the class {name}, but .* is steepest.rules.{holder}; that one"):
        registry.optimizers()
    assert registry.find(name).__module__.startswith("steepest.rules.")


def test_the_librarys_alias_wins(install: Install) -> None:
    install("rival", {"rival": "rival_rules"}, rival_rules=rule("Zzz", signsgd={"tilt": 1.0}, adam={"tilt": 2.0}))
    with pytest.warns(PluginWarning) as caught:
        assert registry.aliases()["signsgd"].cls is steepest.Signum
    told = sorted(str(warning.message) for warning in caught)
    assert [re.findall("'(.*?)', but that is (.*?),", text) for text in told] == [
        [("adam", "steepest.rules.adam.Adam")],
        [("signsgd", "steepest.rules.signum.Signum")],
    ]
    assert registry.find("zzz").__name__ == "Zzz"
    assert registry.find("signsgd") is steepest.Signum
    assert registry.find("adam") is steepest.Adam
    assert "adam" not in registry.aliases()


def test_two_packages_with_one_name(install: Install) -> None:
    install("one", {"x": "rules_one:Tilted"}, rules_one=rule("Tilted"))
    install("two", {"x": "rules_two:Tilted"}, rules_two=rule("Tilted"))
    with pytest.warns(PluginWarning, match="of two .* is rules_one.Tilted; that one is used"):
        assert registry.optimizers()["tilted"].__module__ == "rules_one"


@pytest.mark.parametrize("value", ["wrong_rules:number", "wrong_rules:Other", "wrong_rules"])
def test_what_is_no_optimizer_is_refused(install: Install, value: str) -> None:
    install("wrong", {"x": value}, wrong_rules="number = 3\nclass Other: pass\n")
    with pytest.warns(PluginWarning, match=r"must be a subclass of steepest\.Optimizer, or a module that defines one"):
        assert registry.optimizers() == registry.built_in()


def test_a_librarys_name_imports_no_other_package(install: Install) -> None:
    """A package that uses the library while it is imported would otherwise be imported half, and left out."""
    text = "import steepest\nmade = steepest.create('adam', [steepest.fields.torch.zeros(1)])\n" + rule("Tilted")
    install("eager", {"x": "eager_rules:Tilted"}, eager_rules=text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steepest.create("adam", nn.Linear(1, 1))
        assert "eager_rules" not in sys.modules
        assert registry.find("tilted").__name__ == "Tilted"


def test_the_command_line_has_them(install: Install) -> None:
    folder = install("tiltedpack", {"x": "tilted_rules:Tilted", "bad": "nothing_here"}, tilted_rules=rule("Tilted"))
    path = os.pathsep.join([str(folder), str(Path(steepest.__file__).parents[1])])
    run = [sys.executable, "-m", "steepest", "list", "optimizers"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    assert "tilted" in done.stdout
    assert "Gradient descent on a tilted floor." in done.stdout
    assert "bad = nothing_here of tiltedpack" in done.stderr
