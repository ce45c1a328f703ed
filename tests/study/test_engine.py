"""Running plans: done trials are skipped, crashes recorded, finished trials survive, studies grow only where safe."""

import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steepest.study import workloads
from steepest.study.data import digits
from steepest.study.data.splits import Sizes
from steepest.study.errors import StoreError, UsageError
from steepest.study.optimizers import sources
from steepest.study.optimizers.config import parse_config
from steepest.study.optimizers.library import LibraryOptimizer
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.report.stored.reader import read_study
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

from .support import PlanMaker, Silent, evaluations, stored, with_task


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


class Broken(LibraryOptimizer):
    """An optimizer that cannot be built any more when its trial begins."""

    def build(self, params: Any, options: Any) -> Any:
        raise ZeroDivisionError("the optimizer broke")


@pytest.fixture
def break_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let an optimizer of the library break from now on."""
    whole = sources.find
    return lambda name: monkeypatch.setattr(
        sources, "find", lambda source: Broken(name) if source == name else whole(source)
    )


def contents(folder: StudyFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder.path / "trials").iterdir())}


def test_a_study_writes_its_document_and_every_trial(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = plan("sgd", "adam", seeds=2)
    summary = engine.run(made, folder, silent)
    assert (summary.skipped, dict(summary.ended), summary.interrupted) == (0, {"finished": 4}, False)
    document = stored(folder)
    assert [trial["id"] for trial in document["trials"]] == silent.started
    assert [trial["seed"] for trial in document["trials"]] == [0, 0, 1, 1]  # seed by seed, all optimizers
    assert [entry["executor"] for entry in document["optimizers"]] == ["native", "native"]
    assert set(document) >= {"schema", "name", "workload", "preset", "title", "config", "metric", "model", "data"}
    assert set(document) >= {"seed_purposes", "versions", "machine", "threads", "commit", "created", "command"}
    assert document["data"]["fallback"] is None


def test_the_same_again_skips_what_is_done(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    engine.run(plan("sgd", "sgd[lr=1e20]"), folder, silent)
    before = contents(folder)
    summary = engine.run(plan("sgd", "sgd[lr=1e20]"), folder, silent)
    assert (summary.skipped, sum(summary.ended.values())) == (2, 0)
    assert len(silent.started) == 2
    assert contents(folder) == before


def test_two_runs_of_a_study_are_equal_bytes(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    one, two = StudyFolder(tmp_path / "one"), StudyFolder(tmp_path / "two")
    for folder in (one, two):
        engine.run(plan("sgd", "adam"), folder, silent)
    assert contents(one) == contents(two)


def test_checkpoints_of_trials_that_left_the_study_are_deleted(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    """A search that ends after all changes the choice; the evaluation that had begun with the old one leaves a file."""
    both = plan("sgd", "adam")
    engine.run(both, folder, silent)
    interrupted = evaluations(both)[1].id
    records = folder.path / "trials" / f"{interrupted}.jsonl"
    records.write_bytes(b"".join(records.read_bytes().splitlines(keepends=True)[:-1]))
    checkpoints = folder.path / "checkpoints"
    checkpoints.mkdir()
    for name in (interrupted, "adam-lr0.5-evaluation-seed0-01234567"):
        for suffix in (".pt", ".pt.new"):
            (checkpoints / f"{name}{suffix}").touch()
    engine.run(plan("sgd"), folder, silent)
    assert {path.name for path in checkpoints.iterdir()} == {f"{interrupted}.pt", f"{interrupted}.pt.new"}


def test_a_crash_is_recorded_and_the_study_goes_on(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, break_later: Callable[[str], None]
) -> None:
    made = plan("sgd", "adam", "rmsprop")
    break_later("adam")
    summary = engine.run(made, folder, silent)
    assert dict(summary.ended) == {"finished": 2, "failed": 1}
    end = folder.read_trial(evaluations(made)[1].id).end
    assert end is not None
    assert (end["status"], end["step"], end["epoch"]) == ("failed", 0, 0)
    assert end["error"] == "ZeroDivisionError: the optimizer broke"
    assert "Traceback" in end["traceback"]
    assert engine.pending(made.evaluation_trials(made.given), folder) == [made.evaluation_trials(made.given)[1]]


def test_a_crash_in_the_middle_tells_its_step(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = plan("sgd", epochs_wanted=3)
    calls = iter(range(100))

    def loss(outputs: Any, targets: Any) -> Any:
        if next(calls) == 7:
            raise RuntimeError("the eighth loss")
        return made.task.loss(outputs, targets)

    engine.run(with_task(made, dataclasses.replace(made.task, loss=loss)), folder, silent)
    end = folder.read_trial(evaluations(made)[0].id).end
    assert end is not None
    # Two losses in the warm-up, a validation, two steps and a validation; the eighth is the second epoch's second step.
    assert (end["status"], end["epoch"], end["step"]) == ("failed", 2, 3)


def test_a_failed_trial_runs_again_and_can_succeed(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = plan("sgd", "adam")
    path = folder.path / "trials" / f"{evaluations(made)[0].id}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"kind":"end","status":"failed","error":"x","epoch":0,"step":0}\n')
    assert engine.run(made, folder, silent).ended == {"finished": 2}


class Stopping(Silent):
    """Presses Ctrl-C, or does worse, at a trial's step."""

    def __init__(self, trial: int, action: Callable[[], None]) -> None:
        self._countdown = trial
        self._action = action

    def trial_started(self, trial: TrialSpec) -> None:
        self._countdown -= 1

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        if self._countdown < 0 and event.record["kind"] == "step":
            self._action()


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_done_and_the_same_again_continues(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, tmp_path: Path
) -> None:
    made = plan("sgd", "adam", "rmsprop")
    summary = engine.run(made, folder, Stopping(1, press_ctrl_c))
    assert summary.interrupted
    assert summary.ended == {"finished": 1}
    statuses = [folder.read_trial(trial.id).status for trial in evaluations(made)]
    assert statuses == ["finished", "interrupted", "interrupted"]
    assert engine.run(made, folder, silent).skipped == 1
    whole = StudyFolder(tmp_path / "whole")
    engine.run(made, whole, silent)
    assert contents(folder) == contents(whole)


def test_a_full_disk_stops_the_study_and_leaves_finished_trials(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan("sgd", "adam")

    def fill() -> None:
        def flush(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("steepest.study.running.store.flush", flush)

    with pytest.raises(StoreError, match=r"No space left on device.*Finished trials are kept"):
        engine.run(made, folder, Stopping(1, fill))
    monkeypatch.undo()
    assert folder.is_done(evaluations(made)[0].id)
    assert engine.run(made, folder, silent).skipped == 1


def test_optimizers_and_seeds_are_added_to_the_same_study(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    order = list(workloads.find("digits")().settings)
    engine.run(plan("adam"), folder, silent, order)
    engine.run(plan("sgd", "adam[lr=0.1]", seeds=2), folder, silent, order)
    document = stored(folder)
    assert [entry["label"] for entry in document["optimizers"]] == ["SGD", "Adam", "Adam[lr=0.1]"]
    assert document["config"]["seeds"] == [0, 1]
    assert len(document["trials"]) == 5
    assert list(read_study(folder.path).labels) == ["SGD", "Adam", "Adam[lr=0.1]"]
    assert engine.run(plan("adam", seeds=2), folder, silent, order).ended == {"finished": 1}


@pytest.mark.parametrize("optimizer", ["adam", "adam[betas=(0.8,0.9)]", "torch.optim:AdamW"])
def test_fewer_seeds_drop_no_trial(plan: PlanMaker, folder: StudyFolder, silent: Silent, optimizer: str) -> None:
    """What was chosen holds tuples here and lists in the document, and is the same."""
    wanted = {"trials_wanted": 2, "timing_rounds": 1}
    engine.run(plan(optimizer, seeds=3, **wanted), folder, silent)
    before = folder.document_path.read_bytes()
    summary = engine.run(plan(optimizer, seeds=1, **wanted), folder, silent)
    assert (summary.skipped, dict(summary.ended)) == (3 + 1 + 1, {})
    assert stored(folder)["trials"] == json.loads(before)["trials"]
    assert len(json.loads(before)["trials"]) == 3 + 3 + 1
    assert read_study(folder.path).trials


def test_the_same_again_changes_nothing_on_the_disk(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    made = plan("adam", trials_wanted=2)
    engine.run(made, folder, silent)
    before = folder.document_path.read_bytes()
    engine.run(made, folder, silent)
    assert folder.document_path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs_wanted": 2}, "config.epochs is 1 and 2"),
        ({"precision": "bf16"}, "config.precision is 'fp32' and 'bf16'"),
        ({"all_train": True}, "data.train is 128 and 1437"),
        ({"workload": "mini-batch"}, "workload is 'digits' and 'mini-batch'"),
    ],
)
def test_another_study_in_the_same_folder_is_refused(
    plan: PlanMaker, folder: StudyFolder, silent: Silent, change: dict[str, Any], told: str
) -> None:
    engine.run(plan("sgd"), folder, silent)
    before = contents(folder), folder.document_path.read_bytes()
    with pytest.raises(UsageError, match=r"holds another study.*--out") as caught:
        engine.run(plan("sgd", **change), folder, silent)
    assert told in str(caught.value)
    assert (contents(folder), folder.document_path.read_bytes()) == before


def test_a_rule_that_has_changed_since_is_refused(plan: PlanMaker, folder: StudyFolder, silent: Silent) -> None:
    engine.run(plan("sgd"), folder, silent)
    document = stored(folder)
    document["optimizers"][0]["rule_sha256"] = "0" * 64
    folder.document_path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"SGD\.rule_sha256"):
        engine.run(plan("sgd"), folder, silent)


def test_labels_name_only_what_differs_from_the_setting() -> None:
    settings = {"adam": {"lr": 0.01}}
    labels = {text: parse_config(text, settings).label for text in ("adam", "adam[lr=0.01]", "adam[lr=0.001]", "ADAMW")}
    assert list(labels.values()) == ["Adam", "Adam", "Adam[lr=0.001]", "AdamW"]
    rates = {
        text: parse_config(text, settings).document()["options"]["lr"] for text in ("adam", "adam[eps=0.1]", "adamw")
    }
    assert list(rates.values()) == [0.01, 0.01, 0.001]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"preset_wanted": "quik"}, r"unknown preset 'quik'; did you mean 'quick'\? Choose from smoke, quick, full"),
        ({"precision": "fp23"}, r"unknown precision 'fp23'; did you mean 'fp32'\? Choose from fp32, bf16"),
        ({"epochs_wanted": 0}, "--epochs must be at least 1, not 0"),
        ({"seeds_wanted": -1}, "--seeds must be at least 1, not -1"),
        ({"optimizers": ("adaam",)}, "did you mean 'adam'.*sgd"),
        ({"optimizers": ("adam[lrr=1]",)}, "did you mean 'lr'.*betas"),
        ({"optimizers": ("adam[lr=-1]",)}, "Invalid learning rate: -1"),
        ({"optimizers": ("adam", "adam[lr=0.01]")}, "is Adam, and so is .adam.; give each label once"),
    ],
)
def test_requests_that_make_no_sense(wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Request(workloads.find("digits"), **wanted)


def test_an_executor_that_cannot_run_the_rule_is_told_before_anything_runs(plan: PlanMaker) -> None:
    with pytest.raises(UsageError, match=r"Adam\[foreach=true,differentiable=true\]: .*foreach"):
        plan("adam[foreach=true,differentiable=true]")


def test_folder_names_tell_studies_apart() -> None:
    workload = workloads.find("digits")
    assert str(Request(workload).folder(fallback=False)) == "studies/digits-quick"
    special = Request(workload, "full", epochs_wanted=7, precision="bf16", all_train=True)
    assert str(special.folder(fallback=True)) == "studies/digits-full-7-epochs-bf16-all-train-on-digits"
    assert Request(workload, epochs_wanted=10).folder(fallback=False) == Request(workload).folder(fallback=False)


def fashion_plan(preset: str, fallback: bool, *optimizers: str, **wanted: Any) -> Plan:
    """Plan the reference study on digits; without `fallback` they pass for the real data, in a small number."""
    declared = workloads.find("fashion-mnist")
    data = digits.stand_in("Fashion-MNIST", 28, "Advice.")
    if not fallback:
        data = dataclasses.replace(data, fallback=None)
        small = dataclasses.replace(declared(preset), sizes=Sizes(16, 8, 8))
        declared = dataclasses.replace(declared, build=lambda: small)
    return make_plan(Request(declared, preset, optimizers, **wanted), data, "command")


@pytest.mark.parametrize(
    ("preset", "fallback", "wanted", "shown"),
    [
        ("full", False, {}, True),
        ("quick", False, {}, False),
        ("smoke", False, {}, False),
        ("full", False, {"epochs_wanted": 25}, False),
        ("full", True, {}, False),
    ],
)
def test_published_figures_stand_only_beside_the_same_experiment(
    preset: str, fallback: bool, wanted: dict[str, Any], shown: bool
) -> None:
    published = fashion_plan(preset, fallback, "adam", "sgd[lr=0.1]", "radam", **wanted).document.published
    assert (published is not None) is shown
    if shown:
        assert published.rows == {
            "Adam": {
                "train_loss": 0.214,
                "train_accuracy": 0.921,
                "test_accuracy": 0.879,
                "examples_per_second": 11817.2,
            }
        }


def test_a_stand_in_never_bears_the_name_of_the_data(tmp_path: Path) -> None:
    document = stored(fashion_plan("smoke", True, "sgd").document)
    assert "digits" in document["name"]
    assert document["title"].startswith("Digits in place of")
    assert document["data"]["name"] == "digits"
    assert "Fashion-MNIST was not found" in document["data"]["fallback"]


def test_a_record_that_was_cut_off_is_told_and_its_trial_runs_again(
    plan: PlanMaker, folder: StudyFolder, silent: Silent
) -> None:
    made = plan("sgd", "adam")
    engine.run(made, folder, silent)
    path = folder.path / "trials" / f"{evaluations(made)[1].id}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    summary = engine.run(made, folder, silent)
    assert (summary.skipped, dict(summary.ended)) == (1, {"finished": 1})
    assert summary.notes == [f"{path.name} ends in the middle of a line, which was left out; the trial ran again"]
    assert path.read_bytes() == whole
