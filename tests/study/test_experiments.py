"""Experiments: a training loop of the user's own under the protocol of a study."""

import json
import math
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from steepest.study import Metric, Run, experiment
from steepest.study.errors import UsageError
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.execution import execute
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials import keeping
from steepest.study.trials.trial import Event

from .experiments import ACCURACY, X, Y, accuracy, net
from .small import planned_experiment
from .support import Silent, dropped, evaluations, events_of, record_bytes, run_with_checkpoints

FILE = Path(__file__).with_name("experiments.py")


def planned(name: str, *optimizers: str, **wanted: Any) -> Plan:
    return planned_experiment(f"{FILE}:{name}", *(optimizers or ("adamw[lr=0.01]",)), **{"seeds_wanted": 1} | wanted)


def declared(function: Callable[[Run], None], *optimizers: str, metric: Metric = ACCURACY, **wanted: Any) -> Plan:
    """Plan an experiment that a test has typed."""
    usual = {"trials_wanted": 0, "timing_rounds": 0, "seeds_wanted": 1, "threads": 1}
    made = experiment(metric=metric)(function)
    return make_plan(Request(made, "smoke", optimizers or ("adamw[lr=0.01]",), **usual | wanted), None, "command")


def lines(events: list[Event], kind: str) -> list[dict[str, Any]]:
    return [event.record for event in events if event.record["kind"] == kind]


def test_the_records_of_an_experiment() -> None:
    plan = planned("by_epochs", behaviour=False)
    events = events_of(evaluations(plan)[0], plan.task)
    kinds = [event.record["kind"] for event in events]
    assert kinds == ["trial", *(["step"] * 3 + ["epoch"]) * 4, "end"]
    steps, epochs, (end,) = (lines(events, kind) for kind in ("step", "epoch", "end"))
    assert [(line["epoch"], line["step"]) for line in steps[:4]] == [(1, 1), (1, 2), (1, 3), (2, 4)]
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4]
    assert set(epochs[0]) == {"kind", "epoch", "step", "evaluations", "train_loss", "validation_accuracy"}
    assert epochs[1]["train_loss"] == pytest.approx(np.mean([line["loss"] for line in steps[3:6]]), rel=1e-12)
    assert (end["status"], end["epoch"], end["step"], end["evaluations"]) == ("finished", 4, 12, 12)
    assert events[-1].timing is not None
    assert events[-1].timing["examples"] == 4 * 60


def test_a_loop_over_steps_counts_steps() -> None:
    plan = planned("by_steps")
    events = events_of(evaluations(plan)[0], plan.task)
    assert plan.document.config.unit == "steps"
    assert plan.document.config.epochs == 12
    assert [line["epoch"] for line in lines(events, "epoch")] == [4, 8, 12]
    assert [line["seen"] for line in lines(events, "log")] == [80, 160, 240]
    assert {"train_spread", "validation_loss"} <= set(lines(events, "epoch")[0])
    assert planned("by_steps", steps_wanted=20).document.config.epochs == 20
    with pytest.raises(UsageError, match=r"counts steps; give --steps 2 in place of --epochs 2"):
        planned("by_steps", epochs_wanted=2)
    with pytest.raises(UsageError, match=r"counts epochs; give --epochs 2 in place of --steps 2"):
        planned("by_epochs", steps_wanted=2)


@pytest.mark.parametrize("name", ["by_epochs", "by_steps"])
def test_optimizers_of_a_seed_see_the_same_things(name: str) -> None:
    """With a rate of 0 nothing moves: losses are equal only if weights, batches and dropped units are."""
    plan = planned(name, "sgd[lr=0]", "adam[lr=0]", "rmsprop[lr=0]")
    found = [lines(events_of(spec, plan.task), "step") for spec in evaluations(plan)]
    assert found[0] == found[1] == found[2]
    assert len({line["loss"] for line in found[0]}) == 12


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("by_epochs", "adamw[lr=0.01]"),
        ("by_epochs", "torch.optim:SGD[lr=0.1,momentum=0.9]"),
        ("by_steps", "adamw[lr=0.01]"),
        ("by_steps", "torch.optim:SGD[lr=0.1,momentum=0.9]"),
        ("by_closure", "lbfgs[max_iter=3]"),
    ],
)
@pytest.mark.parametrize("step", [4, 5])
def test_an_interrupted_trial_ends_in_the_same_bytes(name: str, optimizer: str, step: int, tmp_path: Path) -> None:
    plan, folder = planned(name, optimizer, steps_wanted=40 if name == "by_steps" else None), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    at = 25 + step if name == "by_steps" else step
    with folder.writing():
        dropped(spec, plan.task, folder, at)
        first, *_ = run_with_checkpoints(spec, plan.task, folder)
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, plan.task))
    if name == "by_steps":  # ten steps prove a checkpoint of a foreign loop; shorter runs have none
        assert (first.record["kind"], first.record["step"]) == ("resumed", at - 1)


def test_what_keeps_nothing_starts_again_and_says_so(tmp_path: Path) -> None:
    plan, folder = planned("forgetful"), StudyFolder(tmp_path)
    assert any("starts again, as the loop keeps nothing" in remark for remark in plan.subject.remarks)
    spec = evaluations(plan)[0]
    with folder.writing():
        dropped(spec, plan.task, folder, 5)
        first, *_ = run_with_checkpoints(spec, plan.task, folder)
    assert first.record["kind"] == "trial"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, plan.task))
    assert (folder.read_times(spec.id).end or {})["restarts"] == "its training function names nothing in keep="


def test_state_outside_of_keep_is_found_by_the_twin(tmp_path: Path) -> None:
    plan, folder = planned("incomplete"), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    with folder.writing():
        dropped(spec, plan.task, folder, 25)
        first, *_ = run_with_checkpoints(spec, plan.task, folder)
    assert first.record["kind"] == "trial"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, plan.task))
    restarts = (folder.read_times(spec.id).end or {})["restarts"]
    assert restarts.startswith("a twin that went on from a checkpoint had another model")


def test_a_study_of_an_experiment_runs_and_goes_on(tmp_path: Path) -> None:
    plan = planned("by_epochs", "adamw", "sgd", trials_wanted=2, seeds_wanted=2)
    folder = StudyFolder(tmp_path / "study")
    with Processes(folder, 2) as workers:
        summary = engine.run(plan, folder, Silent(), workers=workers)
    assert summary.ended == {"finished": 2 * 3 + 2 * 2}
    again = StudyFolder(tmp_path / "again")
    engine.run(plan, again, Silent())
    records = [{path.name: path.read_bytes() for path in (one.path / "trials").iterdir()} for one in (folder, again)]
    assert records[0] == records[1]
    searched = [json.loads(line) for name in records[0] if "search" in name for line in records[0][name].splitlines()]
    assert not any("test_accuracy" in line for line in searched)  # it must not see the test set
    assert engine.run(plan, folder, Silent()).skipped == 10


def test_the_schedule_moves_the_rate_and_needs_the_number_of_steps() -> None:
    rates: list[float] = []

    def train(run: Run) -> None:
        model = net()
        optimizer = run.optimizer(model)
        for _ in run.epochs(2, steps=5, keep={"model": model}):
            for _ in range(5):
                loss = cross_entropy(model(X), Y)
                loss.backward()
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                run.step(loss)
            run.validate(accuracy=0.5)
        run.test(accuracy=0.5)

    plan = declared(train, "sgd[lr=1.0,schedule=linear,warmup=0]")
    rates.clear()
    events_of(evaluations(plan)[0], plan.task)
    np.testing.assert_allclose(rates[-10:], 1 - np.arange(10) / 10, rtol=1e-12)

    def unknown(run: Run) -> None:
        model = net()
        optimizer = run.optimizer(model)
        for _ in run.epochs(2, keep={"model": model}):
            loss = cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step()
            run.step(loss)
            run.validate(accuracy=0.5)
        run.test(accuracy=0.5)

    with pytest.raises(
        UsageError, match=r"schedule cosine needs the number of steps in an epoch: call run.epochs\(..."
    ):
        declared(unknown, "sgd[schedule=cosine]")
    assert declared(unknown, "sgd").subject.steps is None


def test_closures_are_counted_and_drop_the_same_units() -> None:
    plan = planned("by_closure", "lbfgs[max_iter=3]")
    end = lines(events_of(evaluations(plan)[0], plan.task), "end")[0]
    assert end["step"] == 6
    assert end["evaluations"] > 6


def test_averaged_weights_must_be_evaluated_in_their_block() -> None:
    with pytest.raises(UsageError, match=r"has other weights for evaluation than for training; evaluate in a"):
        planned("by_epochs", "adam[ema_decay=0.9]")
    plan = planned("by_steps", "adam[lr=0.1]", "adam[lr=0.1,ema_decay=0.9]")
    plain, averaged = (events_of(spec, plan.task) for spec in evaluations(plan))
    assert lines(plain, "step") == lines(averaged, "step")


def usual(run: Run, **wrong: Any) -> None:
    """Train as an experiment should, with one thing wrong."""
    model = net()
    optimizer = wrong.get("optimizer", run.optimizer)(model)
    wrong.get("before", lambda: None)()
    loader = DataLoader(TensorDataset(X[:60], Y[:60]), batch_size=20)
    for _ in wrong.get("epochs", run.epochs)(2, keep=wrong.get("keep", {"model": model})):
        for inputs, targets in loader:
            loss = wrong.get("loss", cross_entropy)(model(inputs), targets)
            optimizer.zero_grad()
            if loss.requires_grad and loss.numel() == 1:
                loss.backward()
            optimizer.step()
            wrong.get("step", run.step)(loss)
        wrong.get("validate", lambda: run.validate(accuracy=accuracy(model, X[60:75], Y[60:75])))()
    wrong.get("test", lambda: run.test(accuracy=accuracy(model, X[75:], Y[75:])))()
    wrong.get("after", lambda: None)()


MISTAKES: dict[str, tuple[Callable[[Run], dict[str, Any]], str]] = {
    "never asks for its optimizer": (
        lambda run: {"optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.1)},
        r"never asked for its optimizer: optimizer = run.optimizer\(model\)",
    ),
    "asks twice": (
        lambda run: {"before": lambda: run.optimizer(net())},
        r"run.optimizer was called twice for 'optimizer'; give another network's optimizer a name of its own",
    ),
    "never validates": (lambda run: {"validate": lambda: None}, r"never validates: call run.validate\(accuracy=...\)"),
    "never tests": (lambda run: {"test": lambda: None}, r"never tests: call run.test\(accuracy=...\) after its loop"),
    "tests twice": (
        lambda run: {"after": lambda: run.test(accuracy=0.5)},
        r"run.test was called twice; the test set is read once",
    ),
    "tests in the loop": (
        lambda run: {"validate": lambda: run.test(accuracy=0.5)},
        r"run.test was called before the loop ended; the test set is read once, after all training",
    ),
    "another metric": (
        lambda run: {"validate": lambda: run.validate(accuracy=0.5, f1=0.3)},
        r"run.validate takes the study's metric 'accuracy' and 'loss', not 'f1'; other figures go to run.log",
    ),
    "no metric": (lambda run: {"validate": lambda: run.validate(loss=0.5)}, r"needs the study's metric: run.val"),
    "a metric that is NaN": (
        lambda run: {"validate": lambda: run.validate(accuracy=math.nan)},
        r"run.validate was given NaN as validation_accuracy after the first steps",
    ),
    "a metric of many numbers": (
        lambda run: {"validate": lambda: run.validate(accuracy=torch.ones(3))},
        r"run.validate\(accuracy=...\) takes one number, not a Tensor of shape \(3,\)",
    ),
    "a loss of many numbers": (
        lambda run: {"loss": lambda outputs, targets: cross_entropy(outputs, targets, reduction="none")},
        r"run.step takes one number, not a Tensor of shape \(20,\)",
    ),
    "a loss that is no number": (
        lambda run: {"loss": lambda outputs, targets: cross_entropy(outputs, targets) * math.nan},
        r"the loss is nan in the first steps",
    ),
    "no step": (lambda run: {"step": lambda loss: None}, r"run.step was not called in an epoch"),
    "no loop": (
        lambda run: {"epochs": lambda count, keep: [0], "step": lambda loss: None, "validate": lambda: None}
        | {"test": lambda: None},
        r"returned without a loop: for epoch in run.epochs\(...\), or run.steps\(...\)",
    ),
    "a step outside the loop": (
        lambda run: {"before": lambda: run.step(1.0)},
        r"run.step is called inside the loop: for epoch in run.epochs\(...\)",
    ),
    "something that cannot be kept": (
        lambda run: {"keep": {"file": object()}},
        r"keep= cannot hold 'file': the state of a object cannot be read; an object has state_dict",
    ),
    "an unseeded draw": (
        lambda run: {"loss": lambda *batch: np.random.default_rng().random() * cross_entropy(*batch)},
        r"two runs of equal seeds began with the losses .* so the optimizers of a seed would not start alike",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_the_plan_is_locked(mistake: str) -> None:
    wrong, told = MISTAKES[mistake]
    with pytest.raises(UsageError, match=f"cannot be studied as it is: .*{told}"):
        declared(lambda run: usual(run, **wrong(run)))


def test_parameters_that_no_optimizer_has_are_told() -> None:
    with pytest.raises(UsageError, match=r"AdamW\[lr=0.01\] does not train '3.weight', '3.bias'"):
        declared(lambda run: usual(run, optimizer=lambda model: run.optimizer(list(model[0].parameters()))))


def test_an_optimizer_that_cannot_run_is_left_out() -> None:
    plan = declared(usual, "adamw", "sparseadam")
    assert [config.label for config in plan.configs] == ["AdamW"]
    assert "does not support dense gradients" in str(plan.document.optimizers[1].skipped)


def test_what_every_optimizer_stops_on_is_a_problem_of_the_experiment() -> None:
    def broken() -> None:
        raise ZeroDivisionError("no batch")

    with pytest.raises(UsageError, match=r"cannot be studied as it is: ZeroDivisionError: no batch"):
        declared(lambda run: usual(run, before=broken), "adamw", "sgd")


def test_a_loop_that_cannot_be_shortened_is_remarked_on() -> None:
    def train(run: Run) -> None:
        model = net()
        optimizer = run.optimizer(model)
        for _ in run.epochs(2, keep={"model": model}):
            for rows in torch.arange(60).split(10):
                loss = cross_entropy(model(X[rows]), Y[rows])
                loss.backward()
                optimizer.step()
                run.step(loss)
            run.validate(accuracy=0.5)
        run.test(accuracy=0.5)

    plan = declared(train)
    assert any("evaluation and test were not rehearsed" in remark for remark in plan.subject.remarks)
    assert lines(events_of(evaluations(plan)[0], plan.task), "end")[0]["status"] == "finished"


def test_small_differences_of_two_runs_are_recorded(tmp_path: Path) -> None:
    source = np.random.default_rng()

    def noisy(outputs: Any, targets: Any) -> Any:
        return cross_entropy(outputs, targets) * (1 + 1e-6 * source.random())

    plan = declared(lambda run: usual(run, loss=noisy))
    assert plan.document.config.reproducible is False
    assert any(remark.startswith("not bit-reproducible: two equal runs") for remark in plan.subject.remarks)
    spec = evaluations(plan)[0]
    assert spec.document()["reproducible"] is False
    folder = StudyFolder(tmp_path)
    with folder.writing():  # it resumes without proof, and no record claims one
        dropped(spec, plan.task, folder, 5)
        first, *_ = run_with_checkpoints(spec, plan.task, folder)
    assert (first.record["kind"], first.record["step"]) == ("resumed", 3)


def test_a_diverged_run_ends_past_the_users_except_clauses() -> None:
    swallowed: list[Exception] = []

    def stubborn(run: Run) -> None:
        model = nn.Linear(4, 1)
        optimizer = run.optimizer(model)
        for _ in run.epochs(50, steps=1, keep={"model": model}):
            try:
                loss = model(X).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.step(loss)
                run.validate(accuracy=0.5)
            except Exception as error:
                swallowed.append(error)
        run.test(accuracy=0.5)

    plan = declared(stubborn, "sgd[lr=1e6]")
    end = lines(events_of(evaluations(plan)[0], plan.task), "end")[0]
    assert end["status"] == "diverged"
    assert end["step"] < 10
    assert re.match(rf"loss is (inf|nan) at step {end['step']}", end["reason"])
    assert not swallowed


def test_an_error_of_the_disk_is_not_the_experiments(tmp_path: Path) -> None:
    """It passes the function's own except clause, and no record says that the trial failed."""

    def swallowing(run: Run) -> None:
        model = net()
        optimizer = run.optimizer(model)
        for _ in run.steps(5, keep={"model": model}):
            loss = cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step()
            try:
                run.step(loss)
                run.validate(accuracy=0.5)
            except Exception:
                pass
        run.test(accuracy=0.5)

    plan, folder = declared(swallowing), StudyFolder(tmp_path)

    def full(event: Event) -> None:
        if event.record["kind"] == "epoch":
            raise OSError("no space left")

    with folder.writing(), pytest.raises(OSError, match="no space left"):
        execute(evaluations(plan)[0], lambda: plan.task, folder, full)
    assert folder.read_trial(evaluations(plan)[0].id).status == "interrupted"


def test_untimed_code_and_evaluation_take_no_step_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("steepest.study.trials.clock.time.perf_counter", lambda: now)

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    def train(run: Run) -> None:
        model = net()
        optimizer = run.optimizer(model)
        for _ in run.epochs(2, keep={"model": model}):
            for _ in DataLoader(TensorDataset(X[:2]), batch_size=1):
                pass_time(1.0)
                with run.untimed():
                    pass_time(10.0)
                loss = cross_entropy(model(X), Y)
                loss.backward()
                optimizer.step()
                run.step(loss)
            pass_time(100.0)
            run.validate(accuracy=0.5)
        run.test(accuracy=0.5)

    plan = declared(train)
    times = events_of(evaluations(plan)[0], plan.task)[-1].timing
    assert times is not None
    assert times["train_seconds"] == 4.0


def test_two_optimizers_of_a_run_are_kept_and_scheduled() -> None:
    def gan(run: Run) -> None:
        nets = {name: nn.Linear(4, 1) for name in ("generator", "critic")}
        optimizers = {name: run.optimizer(one, name=name) for name, one in nets.items()}
        for _ in run.steps(4, keep=nets):
            losses = [one(X).square().mean() for one in nets.values()]
            for optimizer, loss in zip(optimizers.values(), losses, strict=True):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            run.step(losses[0])
            if run.every(2):
                run.validate(accuracy=0.5)
        assert {optimizer.param_groups[0]["lr"] for optimizer in optimizers.values()} != {0.1}
        run.test(accuracy=0.5)

    plan = declared(gan, "adam[lr=0.1,schedule=linear]")
    assert plan.document.model.parameters == 10
    assert lines(events_of(evaluations(plan)[0], plan.task), "end")[0]["status"] == "finished"


@pytest.mark.parametrize(
    ("thing", "change"),
    [
        (torch.Generator().manual_seed(3), lambda thing: torch.rand(3, generator=thing)),
        (np.random.default_rng(3), lambda thing: thing.random(3)),
        (np.random.RandomState(3), lambda thing: thing.rand(3)),
        ({"n": 1, "mean": torch.zeros(2), "deep": {"x": 1.5}}, lambda thing: thing.update(n=2, mean=torch.ones(2))),
        (nn.BatchNorm1d(3), lambda thing: thing(torch.randn(5, 3))),
    ],
    ids=["torch", "numpy", "numpy, old", "dict", "module"],
)
def test_kept_things_come_back_from_a_file(thing: Any, change: Callable[[Any], Any], tmp_path: Path) -> None:
    torch.save(keeping.read(thing), tmp_path / "state.pt")
    change(thing)
    after = keeping.read(thing)
    torch.save(after, tmp_path / "after.pt")
    keeping.write(thing, torch.load(tmp_path / "state.pt", weights_only=True))
    before = (tmp_path / "state.pt").read_bytes()
    torch.save(keeping.read(thing), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").read_bytes() == before != (tmp_path / "after.pt").read_bytes()


def test_a_kept_dict_keeps_its_tensors() -> None:
    held = torch.zeros(2)
    kept = {"mean": held, "new": 1}
    keeping.write(kept, {"mean": torch.ones(2)})
    assert kept["mean"] is held
    assert kept == {"mean": held}
    assert held.tolist() == [1, 1]


def test_processes_that_are_left_behind_are_ended_and_told(tmp_path: Path) -> None:
    started: list[Any] = []

    def careless() -> None:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), name="forgotten")
        process.start()
        started.append(process)

    plan, folder = declared(lambda run: usual(run, before=careless)), StudyFolder(tmp_path)
    assert any("leaves processes behind (forgotten)" in remark for remark in plan.subject.remarks)
    assert started
    assert not any(process.is_alive() for process in started)
    summary = engine.run(plan, folder, Silent())
    assert summary.ended == {"finished": 1}
    assert [note for note in summary.notes if "leave processes behind (forgotten" in note]
    assert not any(process.is_alive() for process in started)


def test_the_rehearsal_tells_its_memory() -> None:
    memory = planned("by_epochs").subject.memory
    assert set(memory) == {"host"}
    assert 50e6 < memory["host"] < 50e9


def test_a_run_has_a_folder_for_its_files(tmp_path: Path) -> None:
    folders: list[Path] = []

    def writing(run: Run) -> None:
        assert run.folder == run.folder
        (run.folder / "sample.txt").write_text(str(run.seed))
        folders.append(run.folder)
        usual(run)

    plan = declared(writing, seeds_wanted=2)
    assert folders
    assert not any(folder.exists() for folder in folders)  # those of the rehearsal
    study = StudyFolder(tmp_path / "study")
    assert engine.run(plan, study, Silent()).ended == {"finished": 2}
    written = {path.parent.name: path.read_text() for path in (study.path / "files").glob("*/sample.txt")}
    assert written == {spec.id: str(spec.seed) for spec in evaluations(plan)}
