"""Who takes part is found, runs the same rule with the same options, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from steepest import registry
from steepest.bench import implementations as field
from steepest.bench import peers
from steepest.bench.first_step import MATRIX
from steepest.bench.implementations import arguments, implementations, slow_rate
from steepest.bench.peers import Peer
from steepest.bench.plan import rules_to_time

from .support import TINY

FARAWAY = """
import torch
class Slow(torch.optim.SGD):
    def __init__(self, params, lr, beta=0.5, weight_decay=1.0, *, wanted):
        super().__init__(params, lr=lr, momentum=beta, weight_decay=weight_decay)
        self.wanted, self.ready = wanted, False
    def make_ready(self):
        self.ready = True
"""


def named(recipe: str, **options: Any) -> dict[str, field.Implementation]:
    return {c.name: c for c in implementations(registry.parse(recipe), **options)}


@pytest.fixture
def faraway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A library that calls SGD's momentum beta, and needs to be made ready."""
    (tmp_path / "faraway.py").write_text(FARAWAY)
    monkeypatch.syspath_prepend(tmp_path)
    peer = Peer("far-away", "faraway", {"SGD": "Slow"}, {"momentum": "beta"}, {"wanted": 3}, "make_ready")
    for module in (field, peers):
        monkeypatch.setattr(module, "PEERS", (peer, Peer("nowhere", "nowhere_at_all", {"SGD": "SGD"})))
    return peer


def test_torchs_class_takes_part_in_the_modes_that_it_has() -> None:
    assert [n for n in named("adam", peers=False) if n.startswith("torch")] == [
        "torch loop",
        "torch foreach",
        "torch fused",
    ]
    assert [n for n in named("adadelta", peers=False) if n.startswith("torch")] == ["torch loop", "torch foreach"]
    assert not [n for n in named("novograd", peers=False) if n.startswith("torch")]


def test_a_class_of_torchs_without_switches_has_one_mode() -> None:
    assert [name for name in named("muon", modes=["loop"], peers=False) if "torch" in name] == ["torch default"]


def test_only_our_modes_are_chosen() -> None:
    assert list(named("adam", modes=["loop"], peers=False)) == [
        "steepest loop",
        "torch loop",
        "torch foreach",
        "torch fused",
    ]


@pytest.mark.parametrize("recipe", rules_to_time()[0], ids=lambda recipe: recipe.label)
def test_every_rule_is_built_as_it_was_asked_for(recipe: registry.Recipe) -> None:
    for mode in ("default", "loop", "foreach"):
        (ours,) = (c for c in implementations(recipe, [mode], peers=False) if c.source == "steepest")
        is_of_matrices = recipe.optimizer.rule.kind == "matrix"
        optimizer: Any = ours.build((MATRIX if is_of_matrices else TINY).parameters("cpu"))
        assert type(optimizer) is recipe.optimizer
        group = optimizer.param_groups[0]
        assert group["lr"] == slow_rate(recipe)
        assert {name: group[name] for name in recipe.options} == dict(recipe.options)
        assert group["foreach"] == {"default": None, "loop": False, "foreach": True}[mode]
        together = "stacked" if is_of_matrices else "foreach"
        assert optimizer.executor == {"loop": "reference", "foreach": together}.get(mode, optimizer.executor)


def test_torch_runs_with_the_same_options() -> None:
    optimizer = named("adam[betas=(0.5,0.6),amsgrad=true,lr=0.1]", peers=False)["torch foreach"].build(
        TINY.parameters("cpu")
    )
    group = optimizer.param_groups[0]
    assert type(optimizer) is torch.optim.Adam
    assert (group["betas"], group["amsgrad"], group["lr"], group["foreach"]) == ((0.5, 0.6), True, 0.1, True)


def test_an_option_that_another_library_lacks_is_no_silent_difference() -> None:
    with pytest.raises(ValueError, match="Adam has no option 'eps_in_sqrt'"):
        arguments(registry.parse("adam[eps_in_sqrt=true]"), torch.optim.Adam)
    assert "eps_in_sqrt" not in arguments(registry.parse("adam"), torch.optim.Adam)


def test_a_peer_is_constructed_as_declared(faraway: Peer) -> None:
    taking_part = named("sgd[momentum=0.9]")
    optimizer: Any = taking_part["far-away Slow"].build(TINY.parameters("cpu"))
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.9, 0, slow_rate(registry.parse("sgd")))
    assert (optimizer.wanted, optimizer.ready) == (3, True)
    assert "far-away Slow" not in named("adam")
    assert "far-away Slow" not in named("sgd", peers=False)


def test_what_is_not_installed_is_named(faraway: Peer) -> None:
    assert peers.installed() == {"far-away": "of unknown version"}
    assert peers.absent() == ["nowhere"]


def test_every_declared_class_is_a_rule_of_ours() -> None:
    rules = {cls.__name__ for cls in registry.optimizers().values()}
    for peer in peers.PEERS:
        assert peer.classes.keys() <= rules
        assert peer.renamed.keys() <= {name for cls in registry.optimizers().values() for name in cls.fields}


@pytest.mark.parametrize("peer", [p for p in peers.PEERS if p.version], ids=lambda peer: peer.package)
def test_installed_peers_have_what_is_declared(peer: Peer) -> None:
    try:
        __import__(peer.module)
    except Exception as error:  # reported at run time by the same message
        pytest.skip(f"{peer.package} cannot be imported: {error}")
    for name in peer.classes:
        cls = peer.optimizer(name)
        assert not cls.__module__.startswith("torch."), f"{peer.package} passes torch's {name} on"
        assert arguments(registry.parse(name), cls, peer.renamed)
