"""A trial that goes on from its checkpoint ends in the same bytes, whatever its optimizer and model remember."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.study.data.dataset import Examples, Splits
from steepest.study.optimizers.config import parse_config
from steepest.study.running.execution import execute
from steepest.study.running.store import StudyFolder
from steepest.study.trials import keeping
from steepest.study.trials.checkpoints import CheckpointManager
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task
from steepest.study.trials.trial import Event, run_trial

from .support import PlanMaker, dropped, evaluations, events_of, record_bytes, run_with_checkpoints


class Fleeting(nn.Module):
    """A layer with a buffer that its state dict leaves out, and one that it does not; both move."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(64), persistent=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.shift = 0.9 * self.shift + 0.1 * x.detach().mean(dim=0)
            self.calls = self.calls + 1
        return x - self.shift + self.calls / 100


def network() -> nn.Module:
    """A matrix of more than 4,096 elements, so that coded state is coded; dropout; buffers of both kinds."""
    return nn.Sequential(
        nn.Flatten(), Fleeting(), nn.Linear(64, 72), nn.BatchNorm1d(72), nn.ReLU(), nn.Dropout(0.2), nn.Linear(72, 10)
    )


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 10)
    )


def embedding() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(17, 10, sparse=True, mode="sum"))


@pytest.fixture
def trial(task: Task, plan: PlanMaker) -> Callable[..., tuple[TrialSpec, Task]]:
    """Return a trial of 3 epochs with 4 batches each, evaluated twice per epoch."""

    def make(optimizer: str, model: Callable[[], nn.Module] = network, **changes: Any) -> tuple[TrialSpec, Task]:
        spec = evaluations(plan("sgd"))[0]
        sizes = {"epochs": 3, "batch_size": 35, "evaluations": 2}
        schedule = changes.pop("schedule", "cosine")
        made = dataclasses.replace(spec, config=parse_config(optimizer, {}, schedule), **{**sizes, **changes})
        return made, dataclasses.replace(task, model=model)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    study = StudyFolder(tmp_path / "study")
    with study.writing():
        yield study


def interrupted(spec: TrialSpec, task: Task, folder: StudyFolder, at: tuple[int, ...]) -> list[list[Event]]:
    """Run a trial with a checkpoint after every step, dropped at these steps and continued each time."""
    runs = [dropped(spec, task, folder, step) for step in at]
    return [*runs, run_with_checkpoints(spec, task, folder)]


def sparse(trial: Any, optimizer: str) -> tuple[TrialSpec, Task]:
    """Rows of an embedding that are touched now and then: pixels as words."""
    spec, task = trial(optimizer, embedding, schedule="constant")
    splits = {
        name: Examples((part.inputs.flatten(1)[:, ::7] * 1.0).long() % 17, part.targets)
        for name, part in vars(task.splits).items()
    }
    return spec, dataclasses.replace(task, splits=Splits(**splits))


OPTIMIZERS = [
    "adamw",
    "adamw[lr=0.01,foreach=true]",
    "sgd[lr=0.1,momentum=0.9,nesterov=true]",
    "adam[state_dtype='int8',lr=0.01]",
    "adam[state_dtype='bfloat16',lr=0.01,seed=7]",
    "adam[ema_decay=0.9,lr=0.01]",
    "nadam[lr=0.01]",
    "radam[lr=0.01]",
    "rprop[lr=0.01]",
    "asgd[lr=0.1]",
    "adafactor[lr=0.01]",
    "novograd[lr=0.01]",
    "lbfgs[lr=0.5,max_iter=3,history_size=4]",
    "lbfgs[lr=1.0,max_iter=3,line_search_fn='strong_wolfe']",
    "steepestdescent",
    "torch.optim:AdamW[lr=0.01,amsgrad=true]",
    "torch.optim:SGD[lr=0.1,momentum=0.9]",
    "torch.optim:LBFGS[lr=0.5,max_iter=3,history_size=4]",
    "torch.optim:Rprop[lr=0.01]",
    "torch.optim:Adafactor[lr=0.01]",
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_interrupted_trial_ends_in_the_same_bytes(trial: Any, folder: StudyFolder, optimizer: str) -> None:
    spec, task = trial(optimizer)
    *_, last = interrupted(spec, task, folder, at=(4, 9))
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))
    assert [event.record["kind"] for event in last[:2]] == ["resumed", "step"]
    assert last[0].record["step"] in (8, 9)
    assert not folder.checkpoint(spec).path.exists()


@pytest.mark.parametrize("schedule", ["wsd[warmup=3,cooldown=0.5]", "linear[final=0.1]", "inverse_sqrt[warmup=5]"])
def test_a_schedule_goes_on_where_it_was(trial: Any, folder: StudyFolder, schedule: str) -> None:
    spec, task = trial("adam[lr=0.01]", schedule=schedule)
    interrupted(spec, task, folder, at=(2, 4, 9))  # in the rise, on the plateau, in the decay
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))
    assert record_bytes(folder, spec) != record_bytes(events_of(*trial("adam[lr=0.01]", schedule="constant")))


@pytest.mark.parametrize("optimizer", ["adam[lr=0.01]", "adam[lr=0.01,fused=false,foreach=true]", "torch.optim:Adam"])
def test_convolutions_keep_their_strides(trial: Any, folder: StudyFolder, optimizer: str) -> None:
    spec, task = trial(optimizer, images)
    interrupted(spec, task, folder, at=(5,))
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


@pytest.mark.parametrize("optimizer", ["sparseadam[lr=0.01]", "adagrad[lr=0.1]", "torch.optim:SparseAdam[lr=0.01]"])
def test_sparse_rows_go_on(trial: Any, folder: StudyFolder, optimizer: str) -> None:
    spec, task = sparse(trial, optimizer)
    interrupted(spec, task, folder, at=(5,))
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


@pytest.mark.parametrize("parameter_rounding", ["stochastic", "kahan"])
def test_coded_parameters_go_on(trial: Any, folder: StudyFolder, parameter_rounding: str) -> None:
    def half() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 72), nn.ReLU(), nn.Linear(72, 10)).bfloat16()

    spec, task = trial(f"adam[lr=0.01,parameter_rounding='{parameter_rounding}']", half)
    splits = {name: dataclasses.replace(part, inputs=part.inputs.float()) for name, part in vars(task.splits).items()}
    task = dataclasses.replace(task, model=lambda: nn.Sequential(Halved(), half()), splits=Splits(**splits))
    interrupted(spec, task, folder, at=(5,))
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.bfloat16()


def checkpointed(trial: Any, folder: StudyFolder, optimizer: str = "adamw", step: int = 6) -> tuple[TrialSpec, Task]:
    spec, task = trial(optimizer)
    dropped(spec, task, folder, step)
    assert folder.checkpoint(spec).path.exists()
    return spec, task


def test_a_failed_trial_goes_on_from_its_checkpoint_too(trial: Any, folder: StudyFolder) -> None:
    spec, task = trial("adamw")
    losses = iter(range(1000))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if next(losses) == 20:
            raise MemoryError("too much")
        return task.loss(outputs, targets)

    failed = run_with_checkpoints(spec, dataclasses.replace(task, loss=loss), folder)[-1]
    assert (failed.record["status"], failed.record["error"]) == ("failed", "MemoryError: too much")
    first, *_ = run_with_checkpoints(spec, task, folder)
    assert (first.record["kind"], first.record["step"]) == ("resumed", failed.record["step"])
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


def test_short_trials_take_no_checkpoint(trial: Any, folder: StudyFolder) -> None:
    spec, task = trial("adamw")
    events: list[Event] = []
    execute(spec, lambda: task, folder, events.append)
    assert events[-1].record["kind"] == "end"
    assert not (folder.path / "checkpoints").exists()


def test_a_trial_that_is_asked_to_stop_is_stored_at_once(trial: Any, folder: StudyFolder) -> None:
    spec, task = trial("adamw", behaviour=False)
    events: list[Event] = []
    manager = CheckpointManager(folder.checkpoint(spec), lambda: (0, 0), 1e9, stop=lambda: len(events) > 6)
    run_trial(spec, task, events.append, manager=manager)
    checkpoint = folder.checkpoint(spec).read()
    assert checkpoint is not None
    # The seventh event is the fourth step; the fifth proves that the trial can go on.
    assert [event.record["step"] for event in events[6:]] == [4, 4, 5]
    assert checkpoint.state["position"][2] == 5


def test_times_and_examples_add_up(trial: Any, folder: StudyFolder) -> None:
    spec, task = trial("adamw")
    *_, last = interrupted(spec, task, folder, at=(6,))
    times = folder.read_times(spec.id).lines
    seconds = [line["train_seconds"] for line in times]
    assert seconds == sorted(seconds)
    assert [line["examples"] for line in times][-1] == 3 * 128
    assert last[0].timing is not None
    assert last[0].timing["examples"] == 2 * 35 + 35 + 23 + 35
    assert times[-1]["total_seconds"] > times[-1]["train_seconds"]


def test_what_was_written_after_the_checkpoint_is_cut(trial: Any, folder: StudyFolder) -> None:
    spec, task = checkpointed(trial, folder)
    for name in ("trials", "times"):
        with (folder.path / name / f"{spec.id}.jsonl").open("ab") as file:
            file.write(b'{"kind":"step","loss":1.0,"step":99}\n{"kind":"st')
    run_with_checkpoints(spec, task, folder)
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))
    assert folder.read_times(spec.id).note is None


def begins_anew(spec: TrialSpec, task: Task, folder: StudyFolder) -> None:
    first, *_ = run_with_checkpoints(spec, task, folder)
    assert first.record["kind"] == "trial"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "another schema", "another trial"])
def test_a_checkpoint_that_is_not_this_trials_is_not_used(trial: Any, folder: StudyFolder, damage: str) -> None:
    spec, task = checkpointed(trial, folder)
    path = folder.checkpoint(spec).path
    content = path.read_bytes()
    if damage == "another trial":
        other = dataclasses.replace(spec, threads=2)
        dropped(other, task, folder, step=6)
        path.write_bytes(folder.checkpoint(other).path.read_bytes())
    elif damage == "another schema":
        torch.save({**torch.load(path, weights_only=True), "schema": 1}, path)
    else:
        path.write_bytes({"cut": content[:-100], "noise": b"noise" * 99, "empty": b""}[damage])
    begins_anew(spec, task, folder)


@pytest.mark.parametrize("damage", ["shorter", "damaged", "gone", "another"])
def test_a_checkpoint_whose_records_are_lost_is_not_used(trial: Any, folder: StudyFolder, damage: str) -> None:
    spec, task = checkpointed(trial, folder)
    path = folder.path / "trials" / f"{spec.id}.jsonl"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = {
            "shorter": content[: len(content) // 2],
            "damaged": content.replace(b"loss", b'lo"s'),
            "another": content.replace(b'"schema":3', b'"schema":1'),
        }
        path.write_bytes(changed[damage])
    begins_anew(spec, task, folder)


def test_threads_are_the_trials_own(trial: Any) -> None:
    spec, task = trial("adamw", threads=2)
    during: list[int] = []
    run_trial(spec, task, lambda event: during.append(torch.get_num_threads()))
    assert set(during[1:-1]) == {2}  # the first and the last event stand before and after the training
    assert torch.get_num_threads() == 1


def test_layers_keep_their_modes() -> None:
    """A layer that was built in evaluation mode stays there until the first evaluation, and not after it."""

    def frozen() -> nn.Module:
        made = network()
        made[3].eval()
        return made

    one, two = frozen(), frozen()
    one.train()
    keeping.write(two, keeping.read(one))
    assert [layer.training for layer in two.modules()] == [True] * 8
    one[3].eval()
    keeping.write(two, keeping.read(one))
    assert [layer.training for layer in two] == [True, True, True, False, True, True, True]
