"""A stored trial can be run again from its record alone, and whether it came out the same is told exactly."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from steepest.study.errors import StoreError, UsageError
from steepest.study.optimizers import sources
from steepest.study.records import machine
from steepest.study.running import engine
from steepest.study.running.rerun import find, rerun
from steepest.study.running.store import StudyFolder

from .support import PlanMaker, Silent, stored, with_task


@pytest.fixture
def done(plan: PlanMaker, tmp_path: Path, silent: Silent) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    engine.run(plan("adam[betas=(0.8,0.99)]", "sgd", trials_wanted=2), folder, silent)
    return folder


def trials(folder: StudyFolder) -> list[str]:
    return [entry["id"] for entry in stored(folder)["trials"]]


def test_every_trial_repeats_bit_by_bit(done: StudyFolder) -> None:
    for trial in trials(done):
        found = rerun(done, trial)
        assert found.bit_equal
        assert found.lines == len(done.read_trial(trial).lines)


def test_the_first_line_that_differs_is_told(done: StudyFolder) -> None:
    trial = trials(done)[0]
    path = done.path / "trials" / f"{trial}.jsonl"
    lines = path.read_text().splitlines()
    step = json.loads(lines[2])
    lines[2] = json.dumps({**step, "loss": step["loss"] + 1e-9}, sort_keys=True, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    found = rerun(done, trial)
    assert (found.bit_equal, found.different) == (False, 3)
    assert json.loads(found.here) == step
    assert json.loads(found.there)["loss"] == step["loss"] + 1e-9


def test_a_record_that_ends_early_differs_where_it_ends(done: StudyFolder) -> None:
    trial = trials(done)[0]
    path = done.path / "trials" / f"{trial}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    found = rerun(done, trial)
    assert (found.different, found.there) == (len(lines), "")


def test_the_beginning_of_a_name_is_enough(done: StudyFolder) -> None:
    assert find(done, "sgd-evaluation") == trials(done)[-1]
    with pytest.raises(UsageError, match=r"sgd-search.* begins several names"):
        find(done, "sgd-search")
    with pytest.raises(UsageError, match=r"unknown trial of .*'adaam-evaluation'"):
        find(done, "adaam-evaluation")


def test_other_versions_cannot_repeat_bits(done: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**machine.versions(), "torch": "9.9"}
    monkeypatch.setattr(machine, "versions", lambda: versions)
    with pytest.raises(UsageError, match=r"cannot be repeated bit by bit.*versions\.torch is .* and '9\.9'"):
        rerun(done, trials(done)[0])


class Failing(torch.optim.SGD):
    """It fails in its fourth step, when the rehearsal and the warm-up are over."""

    steps = 0

    def step(self, closure: Any = None) -> None:
        self.steps += 1
        if self.steps == 4:
            raise ZeroDivisionError("the fourth step")
        super().step(closure)


def test_a_trial_that_failed_fails_again_alike(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    made = plan(sources.give("Failing", Failing), epochs_wanted=3)
    assert engine.run(made, folder, silent).ended == {"failed": 1}
    assert rerun(folder, trials(folder)[0]).bit_equal


def test_a_trial_that_failed_at_its_start_can_be_repeated(
    plan: PlanMaker, tmp_path: Path, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "study")
    made = plan("sgd")

    def fail(*_: object) -> None:
        raise MemoryError("no room for the data")

    broken = with_task(made, dataclasses.replace(made.task, model=fail))
    assert engine.run(broken, folder, silent).ended == {"failed": 1}
    found = rerun(folder, trials(folder)[0])  # here the data can be loaded
    assert (found.bit_equal, found.different) == (False, 2)
    assert '"error":"MemoryError: no room for the data"' in found.there
    assert '"kind":"epoch"' in found.here
    monkeypatch.setattr("steepest.study.running.rerun.load_task", fail)
    assert '"error":"MemoryError: no room for the data"' in rerun(folder, trials(folder)[0]).here


def test_a_record_that_does_not_say_what_failed_is_told(done: StudyFolder) -> None:
    trial = trials(done)[0]
    (done.path / "trials" / f"{trial}.jsonl").write_text('{"kind":"end","status":"failed","error":"KeyError: 3"}\n')
    with pytest.raises(StoreError, match=r"failed before its record said what it was \(KeyError: 3\).* runs it again"):
        rerun(done, trial)


def test_a_trial_that_has_not_run_has_no_record(done: StudyFolder) -> None:
    trial = trials(done)[0]
    (done.path / "trials" / f"{trial}.jsonl").unlink()
    with pytest.raises(StoreError, match="has no record yet"):
        rerun(done, trial)
