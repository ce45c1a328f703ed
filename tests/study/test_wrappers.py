"""Wrappers in a study: `sam`, `sam[base=adamw]`, `sam(adamw)`; their gradients are counted and their state goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steepest.study.errors import UsageError
from steepest.study.optimizers import sources
from steepest.study.optimizers.config import parse_config
from steepest.study.running.store import StudyFolder
from steepest.wrappers import SAM, Outer

from .support import OTHERS, PlanMaker, dropped, evaluations, events_of, record_bytes, run_with_checkpoints


@pytest.mark.parametrize(
    ("text", "source", "label"),
    [
        ("sam", "sam(sgd)", "SAM(SGD)"),
        ("SAM[rho=0.1]", "sam(sgd)", "SAM(SGD)[rho=0.1]"),
        ("sam[base=AdamW]", "sam(adamw)", "SAM(AdamW)"),
        ("sam( adamw )[beta2=0.9]", "sam(adamw)", "SAM(AdamW)[betas=(0.9,0.9)]"),
        ("sam(signsgd)", "sam(signum)", "SAM(Signum)[momentum=0]"),
        ("mechanic", "mechanic(adamw)", "Mechanic(AdamW)"),
        ("outer(sam(torch.optim:SGD))[every=5]", "outer(sam(torch.optim:SGD))", "Outer(SAM(torch.optim.SGD))[every=5]"),
        ("sam[base='torch.optim:SGD']", "sam(torch.optim:SGD)", "SAM(torch.optim.SGD)"),
    ],
)
def test_a_wrapper_is_named_with_its_base(text: str, source: str, label: str) -> None:
    config = parse_config(text, {})
    assert (config.source, config.label) == (source, label)
    assert sources.canonical(config.source) == source
    assert config.refusal() is None


def test_both_get_their_options_and_the_wrapper_s_defaults_are_recorded() -> None:
    config = parse_config("outer[base=sam,lr=0.2,outer_lr=0.5,rho=0.3,every=7]", {})
    made = config.build(torch.nn.Linear(2, 1))
    assert isinstance(made, Outer)
    assert isinstance(made.base, SAM)
    assert (made.outer_lr, made.every, made.base.rho, made.param_groups[0]["lr"]) == (0.5, 7, 0.3, 0.2)
    assert config.document()["options"].items() >= {"outer_momentum": 0.9, "adaptive": False, "momentum": 0}.items()
    assert parse_config("sam(sgd)", {}).document()["rule_sha256"] != parse_config("sgd", {}).document()["rule_sha256"]


def test_the_workload_s_rate_for_the_base_holds_inside() -> None:
    config = parse_config("sam[base=adamw]", {"adamw": {"lr": 0.123}})
    assert config.options["lr"] == 0.123
    assert config.label == "SAM(AdamW)"
    assert {"lr", "rho"} <= config.origin.ranges.keys()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sam[rhoo=0.1]", r"SAM\(SGD\) has no option 'rhoo'; did you mean 'rho'\?"),
        ("sam[base=adamm]", "unknown optimizer 'adamm'; did you mean"),
        ("sam[lr=-1]", "Invalid learning rate: -1"),
    ],
)
def test_mistakes(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_config(text, {})


def test_what_the_wrapper_refuses_is_told() -> None:
    assert "Invalid rho value: -1" in (parse_config("sam[rho=-1]", {}).refusal() or "")
    assert "LBFGS asks for gradients itself" in (parse_config("sam(lbfgs)", {}).refusal() or "")


@pytest.mark.parametrize(("optimizer", "each"), [("sam", 2), ("outer(sam)[every=2]", 2), ("mechanic", 1), ("outer", 1)])
def test_gradients_are_counted(plan: PlanMaker, optimizer: str, each: int) -> None:
    made = plan(optimizer, workload="mini-batch", epochs_wanted=2)
    end = events_of(evaluations(made)[0], made.task)[-1].record
    assert end["status"] == "finished"
    assert end["evaluations"] == each * end["step"]


@pytest.mark.parametrize("optimizer", ["sam[base=adamw]", "outer(sam)[every=3]", "mechanic", f"sam({OTHERS}:Plain)"])
def test_an_interrupted_trial_goes_on(plan: PlanMaker, tmp_path: Path, optimizer: str) -> None:
    folder = StudyFolder(tmp_path / "study")
    with folder.writing():
        pass
    made = plan(optimizer, workload="mini-batch", epochs_wanted=8)
    spec = evaluations(made)[0]
    dropped(spec, made.task, folder, step=14)
    last = run_with_checkpoints(spec, made.task, folder)
    assert last[0].record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))
