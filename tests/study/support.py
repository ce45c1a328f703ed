"""What several of these tests use and is no fixture."""

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from steepest.study.data import idx
from steepest.study.optimizers.config import parse_config
from steepest.study.planning.plan import Plan
from steepest.study.records import records
from steepest.study.records.format import StudyDocument
from steepest.study.running.execution import execute
from steepest.study.running.store import StudyFolder
from steepest.study.running.workers import TrialUpdate, Workers
from steepest.study.trials.run import Trainable
from steepest.study.trials.spec import TaskName, TrialSpec
from steepest.study.trials.trial import Event, run_trial

PlanMaker = Callable[..., Plan]
MY_TASK = str(Path(__file__).with_name("my_task.py"))
OTHERS = str(Path(__file__).with_name("optimizers.py"))
SCENARIOS = Path(__file__).with_name("scenarios")
EXAMPLES = Path(__file__).parents[2] / "examples"


class Silent:
    """A callback that only remembers which trials began."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        pass

    def trial_started(self, trial: TrialSpec) -> None:
        self.started.append(trial.id)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        pass


def encode_idx(array: torch.Tensor) -> bytes:
    """Return an IDX file of unsigned bytes."""
    header = bytes([0, 0, idx.UNSIGNED_BYTE, array.dim()]) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def trial_of_experiment(optimizer: str, schedule: str = "constant", **changes: Any) -> TrialSpec:
    """Return the evaluation of an experiment whose file nobody looks for."""
    usual = TrialSpec(
        config=parse_config(optimizer, {}, schedule),
        seed=0,
        phase="evaluation",
        task=TaskName("own.py:own", "smoke", None),
        epochs=None,
        batch_size=None,
        evaluations=None,
        precision="fp32",
        threads=1,
        setting={"data": None},
    )
    return replace(usual, **changes)


def with_task(plan: Plan, task: Trainable) -> Plan:
    """Return a plan whose trials run another task under the same names."""
    return replace(plan, subject=replace(plan.subject, task=task))


def evaluations(plan: Plan) -> list[TrialSpec]:
    """Return the trials of a plan that searches nothing."""
    return [trial.spec for trial in plan.evaluation_trials(plan.given)]


def stored(study: StudyFolder | StudyDocument) -> dict[str, Any]:
    """Return a study's document as its file has it."""
    content = study.document_path.read_bytes() if isinstance(study, StudyFolder) else records.encode_document(study)
    document: dict[str, Any] = json.loads(content)
    return document


def run_with_checkpoints(spec: TrialSpec, task: Trainable, folder: StudyFolder) -> list[Event]:
    """Run a trial, or what is left of it, with a checkpoint after every step."""
    events: list[Event] = []
    execute(spec, lambda: task, folder, events.append, seconds=0)
    return events


def dropped(spec: TrialSpec, task: Trainable, folder: StudyFolder, step: int) -> list[Event]:
    """Run a trial with a checkpoint after every step until this one has been told; drop it as a crash would."""
    taken: list[Event] = []

    def tell(event: Event) -> None:
        taken.append(event)
        if event.record["kind"] == "step" and event.record["step"] == step:
            raise Crash

    with suppress(Crash):
        execute(spec, lambda: task, folder, tell, seconds=0)
    return taken


class Crash(BaseException):
    """The end of a process, as far as a trial can tell."""


def events_of(spec: TrialSpec, task: Trainable, **kwargs: Any) -> list[Event]:
    """Return the events of a trial outside of any study."""
    events: list[Event] = []
    run_trial(spec, task, events.append, **kwargs)
    return events


def updates_of(workers: Workers) -> list[TrialUpdate]:
    """Return the updates of workers until all of their trials have ended."""
    updates: list[TrialUpdate] = []
    workers.collect(updates.append)
    return updates


def record_bytes(where: StudyFolder | Iterable[Event], spec: TrialSpec | None = None) -> bytes:
    """Return a trial's record as a folder has it, or as its events would make it."""
    if isinstance(where, StudyFolder) and spec is not None:
        return (where.path / "trials" / f"{spec.id}.jsonl").read_bytes()
    assert not isinstance(where, StudyFolder)
    return b"".join(records.encode(event.record) for event in where)


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, owner = status.read_text().rpartition(")")[2].split()[:2]
            if int(owner) == parent and state != "Z":
                found.append(int(status.parent.name))
    return found
