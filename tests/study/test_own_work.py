"""A user's own workload and optimizers, from their files to the records of a study."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from own_work import RULES, own_files
from steepest.study import source_code, user_files, workloads
from steepest.study.data import adapt
from steepest.study.errors import UsageError
from steepest.study.planning import search
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.records.records import encode
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import load_task

from .support import Silent, events_of, stored

__all__ = ["own_files"]

Maker = Callable[..., Plan]


@pytest.fixture
def make(own_files: Path) -> Maker:
    """Plan a study of `my_task.py`: `make("adamw", "my_rules.py:MyOpt", trials_wanted=4)`."""

    def plan(*optimizers: str, **wanted: Any) -> Plan:
        request = Request(workloads.find("my_task.py"), "smoke", optimizers, timing_rounds=0, **wanted)
        return make_plan(request, adapt.load(request.workload.data), "steepest study my_task.py")

    return plan


@pytest.fixture
def folder(own_files: Path) -> StudyFolder:
    return StudyFolder(own_files / "study")


def spaces(own_files: Path, text: str) -> dict[str, Any]:
    path = own_files / "space.toml"
    path.write_text(text)
    return dict(search.read_spaces(path))


def lines(folder: StudyFolder, trial: str) -> list[dict[str, Any]]:
    return folder.read_trial(trial).lines


def test_a_study_of_ones_own_work_from_the_search_to_the_evaluation(make: Maker, folder: StudyFolder) -> None:
    names = ("adamw", "my_rules.py:MyOpt", "torch.optim:AdamW", "my_rules.py:factory")
    labels = ["AdamW", "my_rules.MyOpt", "torch.optim.AdamW", "my_rules.factory"]
    plan = make(*names, trials_wanted=4)
    summary = engine.run(plan, folder, Silent())
    assert dict(summary.ended) == {"finished": 4 * (4 + 1) + 4 * 2}  # points and defaults; winners on two seeds
    document = stored(folder)
    assert [entry["label"] for entry in document["optimizers"]] == labels
    assert [entry["skipped"] for entry in document["optimizers"]] == [None] * 4
    assert (document["title"], document["description"]) == ("My own task", "Which side of a plane a point lies on.")
    assert document["protocol"]["targets"] == [0.5, 0.9]
    assert set(document["chosen"]) == set(labels)
    spaces = {entry["label"]: entry["space"]["lr"] for entry in document["optimizers"]}
    assert (spaces["my_rules.MyOpt"]["low"], spaces["my_rules.MyOpt"]["high"]) == (1e-2, 1.0)  # as declared
    assert spaces["torch.optim.AdamW"]["low"] == pytest.approx(1e-5)  # a hundredth of the default
    assert spaces["my_rules.factory"]["high"] == pytest.approx(5.0)


def test_all_optimizers_try_the_same_points_of_the_unit_interval(make: Maker) -> None:
    plan = make("adamw", "my_rules.py:MyOpt", "torch.optim:AdamW", trials_wanted=8)
    places = []
    for label, candidates in plan.candidates.items():
        ends = next(entry["space"]["lr"] for entry in stored(plan.document)["optimizers"] if entry["label"] == label)
        rates = torch.tensor([one.config.options["lr"] for one in candidates[1:]], dtype=torch.float64)
        width = torch.tensor(ends["high"] / ends["low"], dtype=torch.float64)
        places.append((rates / ends["low"]).log() / width.log())
    torch.testing.assert_close(places[1], places[0], rtol=0, atol=2e-4)  # rates have four digits
    torch.testing.assert_close(places[2], places[0], rtol=0, atol=2e-4)


def test_a_stored_trial_can_be_run_again_from_its_record_alone(
    make: Maker, folder: StudyFolder, own_files: Path
) -> None:
    text = '["my_rules.py:factory"]\nlr = [0.01]\nbetas = [[0.5, 0.6], [0.7, 0.8]]\n[adamw]\nbeta2 = [0.5, 0.25]\n'
    plan = make("my_rules.py:factory", "adamw[beta1=0.3]", trials_wanted=2, spaces=spaces(own_files, text))
    engine.run(plan, folder, Silent())
    document = stored(folder)
    assert len(document["trials"]) == 2 * 3 + 2 * 2
    for trial in document["trials"]:
        record = lines(folder, trial["id"])
        spec = TrialSpec.read(record[0]["spec"])
        assert spec.id == trial["id"]
        again = [event.record for event in events_of(spec, load_task(spec.task))]
        assert [encode(line) for line in again] == [encode(line) for line in record]
    options = {tuple(one.config.options["betas"]) for one in plan.candidates["my_rules.factory"][1:]}
    assert options == {(0.5, 0.6), (0.7, 0.8)}
    entries = {tuple(one.config.options["betas"]) for one in plan.candidates["AdamW[betas=(0.3,0.999)]"][1:]}
    assert entries == {(0.3, 0.5), (0.3, 0.25)}  # beta1 is given and stays


TWINS = ("sgd", "torch.optim:SGD", "steepest:SGD")


@pytest.mark.parametrize("own", ["", "[sgd]\nlr = { low = 0.5, high = 0.6 }"])
def test_one_optimizer_is_searched_alike_by_any_spelling(make: Maker, own_files: Path, own: str) -> None:
    made = make(*TWINS, trials_wanted=4, spaces=spaces(own_files, own))
    points = [[one.config.options for one in found] for found in made.candidates.values()]
    assert len(points) == 3
    assert points[0] == points[1] == points[2]


@pytest.mark.parametrize(
    ("optimizer", "space", "told"),
    [
        (
            "adamw",
            "lr = { low = -1, high = -0.5, scale = 'linear' }",
            r"AdamW cannot run with lr=-0\.\d+: Invalid learning",
        ),
        (
            "torch.optim:AdamW",
            "eps = [-1.0]",
            r"torch\.optim\.AdamW cannot run with eps=-1: ValueError: Invalid epsilon",
        ),
        ("my_rules.py:MyOpt", "weight = [-1.0, 2.0]", r"weight=-1: Invalid weight value.*; change its search space"),
        ("my_rules.py:MyOpt", "wieght = [1.0]", r"no option 'wieght'; did you mean 'weight'"),
        ("torch.optim:AdamW", "bet = [0.9]", r"no option 'bet'; did you mean 'betas'"),
        ("adamw", "betas = [[0.9, 0.99]]\nbeta2 = [0.9]", r"'beta2' is an entry of 'betas'; give one of the two"),
        ("adamw", "lr = [0.1]\n[sgd]\nlr = [0.1]", r"names 'sgd', which takes no part \(these do: adamw\)"),
    ],
)
def test_a_space_that_the_optimizer_refuses_is_told_before_anything_runs(
    make: Maker, own_files: Path, optimizer: str, space: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        make(optimizer, trials_wanted=2, spaces=spaces(own_files, f'["{optimizer}"]\n{space}'))


def test_an_optimizer_whose_whole_space_diverges_is_not_evaluated(
    make: Maker, folder: StudyFolder, own_files: Path
) -> None:
    own = spaces(own_files, "[sgd]\nlr = [1e30, 1e32]\nmomentum = [0.9, 0.99]")
    plan = make("sgd", "adamw", trials_wanted=2, spaces=own)
    summary = engine.run(plan, folder, Silent())
    chosen = stored(folder)["chosen"]
    assert chosen["SGD"]["point"] == "defaults"  # the only point that works
    assert summary.ended == {"finished": 4 + 4, "diverged": 2}


def test_a_schedule_free_optimizer_trains_and_is_measured_in_its_modes(make: Maker, folder: StudyFolder) -> None:
    plan = make("my_rules.py:ScheduleFree[lr=0.1]", "torch.optim:SGD[lr=0.1]", trials_wanted=2, seeds_wanted=1)
    free, usual = stored(plan.document)["optimizers"]
    assert (free["schedule"], usual["schedule"]) == ("constant", "cosine")
    assert engine.run(plan, folder, Silent()).ended == {"finished": 2}
    ids = [trial["id"] for trial in stored(folder)["trials"]]
    first = [next(line for line in lines(folder, one) if line["kind"] == "epoch") for one in ids]
    assert first[0]["validation_loss"] == pytest.approx(first[1]["validation_loss"], rel=1e-5)  # measured unshifted
    steps = [next(line for line in lines(folder, one) if line["kind"] == "step") for one in ids]
    assert steps[0]["loss"] != pytest.approx(steps[1]["loss"], rel=1e-2)  # trained shifted


def test_optimizers_that_cannot_run_are_skipped_and_told(make: Maker, folder: StudyFolder) -> None:
    plan = make("sparseadam", "my_rules.py:nothing", "torch.optim:LBFGS", trials_wanted=0, seeds_wanted=1)
    skipped = {entry["label"]: entry["skipped"] for entry in stored(plan.document)["optimizers"]}
    assert skipped["SparseAdam"].startswith("RuntimeError: SparseAdam does not support dense gradients")
    assert skipped["my_rules.nothing"].startswith("UsageError: my_rules.py:nothing must return a torch.optim.Optimizer")
    assert skipped["torch.optim.LBFGS"] is None
    assert engine.run(plan, folder, Silent()).ended == {"finished": 1}
    end = lines(folder, stored(folder)["trials"][0]["id"])[-1]
    assert end["evaluations"] > end["step"] == 2 * 5  # it asks for several gradients in a step


def test_ctrl_c_inside_an_optimizer_interrupts_the_study(make: Maker, folder: StudyFolder) -> None:
    plan = make("my_rules.py:Pressed", trials_wanted=0)
    assert engine.run(plan, folder, Silent()).interrupted


def test_a_rule_that_was_edited_is_another_rule(make: Maker, folder: StudyFolder, own_files: Path) -> None:
    engine.run(make("my_rules.py:MyOpt", trials_wanted=0, seeds_wanted=1), folder, Silent())
    (own_files / "my_rules.py").write_text(RULES.replace("p - lr * weight * g", "p - 2 * lr * weight * g"))
    user_files._load.cache_clear()  # what a new process begins with
    source_code.file_digest.cache_clear()
    with pytest.raises(UsageError, match=r"my_rules\.MyOpt\.rule_sha256 is '\w+' and '\w+'.*--out"):
        engine.run(make("my_rules.py:MyOpt", trials_wanted=0, seeds_wanted=1), folder, Silent())


def test_a_workload_without_usual_optimizers_asks_for_some(make: Maker) -> None:
    with pytest.raises(UsageError, match=r"my_task\.py:my_task has no optimizers of its own; name some"):
        make()
