"""What one trial sets for the whole process reaches no other, and is told."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steepest.study.optimizers import settings
from steepest.study.optimizers.config import parse_config
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .small import planned, small
from .support import Silent, dropped, evaluations, events_of, record_bytes, run_with_checkpoints

CHANGES: dict[str, Callable[[], Any]] = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's number of threads": lambda: torch.set_num_threads(2),
    "torch's grad mode": lambda: torch.set_grad_enabled(False),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch's float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's autocast from": lambda: torch.set_autocast_enabled("cpu", True),
    "torch's autocast dtype": lambda: torch.set_autocast_dtype("cpu", torch.float16),
    "torch's anomaly detection": lambda: torch.set_anomaly_enabled(True),
    "torch's flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
    "NumPy's handling of floating-point errors": lambda: np.seterr(all="raise"),
}


@pytest.fixture(autouse=True)
def _cleanly() -> Iterator[None]:
    """Other tests must not suffer where one of these fails."""
    with settings.kept():
        yield


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_setting_is_put_back_and_named(change: Callable[[], Any], request: pytest.FixtureRequest) -> None:
    before = settings.values()
    with settings.kept() as changes:
        assert changes() == []
        change()
        assert [told.startswith(request.node.callspec.id) for told in changes()] == [True]
    assert settings.values() == before


def test_every_setting_has_a_test() -> None:
    assert len(CHANGES) == len(settings.SETTINGS)


def test_a_setting_is_put_back_after_an_error() -> None:
    before = settings.values()
    with contextlib.suppress(KeyError), settings.kept():
        torch.set_default_dtype(torch.float64)
        raise KeyError
    assert settings.values() == before


OPTIMIZERS = """
import torch


def doubled(params, lr=0.1):
    torch.set_default_dtype(torch.float64)
    return torch.optim.SGD(params, lr=lr)


class Careless(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(2)


class Failing(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        torch.set_grad_enabled(False)
        if self.steps == 2:
            raise ZeroDivisionError
        super().step(closure)
        torch.set_grad_enabled(True)
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rules.py").write_text(OPTIMIZERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_other_trials_compute_as_if_nobody_had_set_anything(rules: Path) -> None:
    alone = planned(small(), "adam")
    expected = record_bytes(events_of(evaluations(alone)[0], alone.task))
    before = settings.values()
    made = planned(small(), "rules.py:doubled", "rules.py:Careless", "adam")
    assert settings.values() == before
    folder = StudyFolder(rules / "study")
    summary = engine.run(made, folder, Silent())
    assert summary.ended == {"finished": 3}
    assert record_bytes(folder, evaluations(made)[2]) == expected
    assert settings.values() == before


def test_what_was_set_stands_in_the_times_and_among_the_notes(rules: Path) -> None:
    made = planned(small(), "rules.py:doubled", "rules.py:Careless", "sgd", seeds_wanted=2)
    folder = StudyFolder(rules / "study")
    summary = engine.run(made, folder, Silent())
    first, second = summary.notes
    dtype = "torch's default dtype from torch.float32 to torch.float64"
    assert first.startswith(f"trials of rules.doubled change {dtype}; each computes with what it sets")
    assert "trials of rules.Careless change torch's number of threads from 1 to 2, torch's deterministic" in second
    told = {spec.config.label: folder.read_times(spec.id).lines[-1].get("settings") for spec in evaluations(made)}
    assert told["rules.doubled"] == [dtype]
    assert told["SGD"] is None


def test_trials_that_set_something_repeat_bit_by_bit(rules: Path) -> None:
    made = planned(small(), "rules.py:doubled")
    spec = evaluations(made)[0]
    assert record_bytes(events_of(spec, made.task)) == record_bytes(events_of(spec, made.task))


def test_trials_that_set_something_resume(rules: Path) -> None:
    made = planned(small(), "rules.py:doubled", epochs_wanted=4)
    spec, folder = evaluations(made)[0], StudyFolder(rules / "study")
    with folder.writing():
        dropped(spec, made.task, folder, 15)
        first, *_ = run_with_checkpoints(spec, made.task, folder)
    assert first.record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, made.task))


def test_a_trial_that_fails_puts_settings_back_too(rules: Path) -> None:
    made = planned(small(), "sgd")
    spec = dataclasses.replace(evaluations(made)[0], config=parse_config("rules.py:Failing", {}))
    with pytest.raises(ZeroDivisionError):
        events_of(spec, made.task)
    assert torch.is_grad_enabled()


def test_an_optimizers_module_sets_nothing_when_it_is_imported(rules: Path) -> None:
    (rules / "setting.py").write_text("import torch\ntorch.set_default_dtype(torch.float64)\n" + OPTIMIZERS)
    assert parse_config("setting.py:Careless", {}).label == "setting.Careless"
    assert torch.get_default_dtype() == torch.float32
