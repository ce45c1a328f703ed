"""The study as a function call: for models that no command line could name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import steepest
from steepest.study import ACCURACY, Answer, compare
from steepest.study.errors import UsageError


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(240, 4, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()


def run(optimizers: Any, **wanted: Any) -> Answer:
    hidden = 8  # a closure: nothing here can be pickled
    wanted = {"metric": ACCURACY, "horizon": 1, "seeds": 2, "timing_rounds": 0, **wanted}
    return compare(
        lambda: nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2)),
        data(),
        cross_entropy,
        optimizers,
        **wanted,
    )


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steepest.study.report.write_report", lambda folder: folder / "report" / "index.html")


@pytest.mark.usefixtures("no_report")
def test_names_classes_and_functions_take_part(tmp_path: Path) -> None:
    def mine(params: Any, lr: float = 0.05) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr, momentum=0.9)

    answer = run(["adamw", steepest.SGD, torch.optim.Adagrad, mine], out=tmp_path / "study", trials=2)
    document = json.loads((tmp_path / "study" / "study.json").read_text())
    assert [entry["label"] for entry in document["optimizers"]] == ["AdamW", "SGD", "Adagrad", "mine"]
    assert [entry["executor"] for entry in document["optimizers"]] == ["native", "native", "its own", "its own"]
    assert all(len(entry["points"]) == 3 for entry in document["optimizers"])
    assert answer.statuses == {"finished": 4 * (3 + 2)}
    again = run(["adamw", steepest.SGD, torch.optim.Adagrad, mine], out=tmp_path / "study", trials=2)
    assert again.statuses == {}


@pytest.mark.usefixtures("no_report")
def test_a_mapping_names_the_optimizers(tmp_path: Path) -> None:
    run({"slow": lambda p: steepest.SGD(p, lr=1e-4), "fast": lambda p: steepest.SGD(p, lr=1.0)}, out=tmp_path)
    document = json.loads((tmp_path / "study.json").read_text())
    assert [entry["label"] for entry in document["optimizers"]] == ["slow", "fast"]
    ids = [entry["id"] for entry in document["trials"]]
    ends = [json.loads((tmp_path / "trials" / f"{one}.jsonl").read_text().splitlines()[-1]) for one in ids]
    losses = {entry["optimizer"]: end["test_loss"] for entry, end in zip(document["trials"], ends, strict=True)}
    assert losses["fast"] < losses["slow"]


def test_the_report_is_written(tmp_path: Path) -> None:
    answer = run(["sgd", "adam"], out=tmp_path)
    assert answer.report.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("optimizers", "told"),
    [
        ("adamw", "not the text 'adamw'"),
        ([lambda p: torch.optim.SGD(p)], "has no name of its own"),
        ({"a": "adamw"}, "must be a class or a function"),
        (["adan"], "did you mean 'adam'"),
        ([], "no optimizers"),
    ],
)
def test_what_is_no_optimizer_is_told(optimizers: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        run(optimizers)
