"""Metrics: a value per example or a figure of a whole set, and nothing in between."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from steepest.study import seeds
from steepest.study.declaration import Metric
from steepest.study.errors import UsageError
from steepest.study.planning.plan import Plan
from steepest.study.report import write_report
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.trials.evaluation import CHUNK, evaluate

from .small import net, planned, small
from .support import Silent, evaluations, events_of


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == targets).float()


def plan_of(of: Any, **options: Any) -> Plan:
    return planned(small(metric=Metric("score", "maximize", of, **options)), "sgd")


@pytest.mark.parametrize(
    ("of", "seen"),
    [
        (lambda outputs, targets: correct(outputs, targets).mean(), r"a single number, shape \(\)"),
        (lambda outputs, targets: float(correct(outputs, targets).mean()), r"a single number, shape \(\)"),
        (lambda outputs, targets: roc_auc_score(targets, outputs[:, 1]), r"a single number, shape \(\)"),
        (lambda outputs, targets: correct(outputs, targets)[:, None], r"shape \(16, 1\)"),
        (lambda outputs, targets: outputs, r"shape \(16, 2\)"),
        (lambda outputs, targets: "good", "something that is no number"),
    ],
)
def test_anything_but_a_value_per_example_is_refused_with_its_shape(of: Any, seen: str) -> None:
    told = rf"'score' must return one value per example, shape \(16,\).*{seen}.*over='set'"
    with pytest.raises(UsageError, match=told):
        plan_of(of)


@pytest.mark.parametrize(
    "of", [correct, lambda outputs, targets: correct(outputs, targets).bool(), lambda o, t: correct(o, t).tolist()]
)
def test_values_per_example_come_in_several_forms(of: Any) -> None:
    outputs = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert Metric("score", "maximize", of).total(outputs, torch.tensor([1, 1, 1]), 0.0, 3) == 2.0


def test_a_figure_of_a_set_is_made_once_from_all_of_it() -> None:
    """More examples than are evaluated at once: a mean over chunks would be another number."""
    inputs = torch.randn(CHUNK + 301, 4, generator=torch.Generator().manual_seed(1))
    targets = (inputs[:, 0] > 0).long()
    sizes: list[int] = []

    def auc(outputs: Tensor, targets: Tensor) -> Any:
        sizes.append(len(targets))
        return roc_auc_score(targets, outputs[:, 1])

    made = planned(small(data=(inputs, targets), metric=Metric("auc", "maximize", auc, over="set")), "sgd")
    examples = made.task.splits.train
    with seeds.GlobalStream("init", 0).active():
        model = net()
    _, found = evaluate(model, examples, made.task, "fp32")
    outputs, targets = model(examples.inputs), examples.targets
    assert sizes[-1] == len(examples) > CHUNK
    assert found == roc_auc_score(targets, outputs[:, 1].detach())


@pytest.mark.parametrize("number", [0.25, torch.tensor(0.25), np.float64(0.25)])
def test_a_figure_of_a_set_is_a_number(number: Any) -> None:
    plan = plan_of(lambda outputs, targets: number, over="set")
    records = [event.record for event in events_of(evaluations(plan)[0], plan.task)]
    assert records[-1]["test_score"] == 0.25
    last = next(record for record in reversed(records) if record["kind"] == "epoch")
    assert last["validation_score"] == 0.25
    assert "train_loss" in last
    assert "train_score" not in last  # the weights move from batch to batch


def test_a_figure_of_a_set_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"has over='set' and must return one number; it returned shape \(\d+,\)"):
        plan_of(correct, over="set")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"of": correct, "over": "batch"}, "unknown 'over' of a metric 'batch'.*examples, set"),
    ],
)
def test_declarations_that_make_no_sense(options: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Metric("score", "maximize", **options)


def test_a_workload_has_a_function_for_its_figure_of_sets() -> None:
    with pytest.raises(UsageError, match=r"metric 'score' has over='set' and no function; give one of \(outputs, tar"):
        small(metric=Metric("score", "maximize", over="set"))


def test_the_report_of_a_study_with_a_figure_of_sets(tmp_path: Any) -> None:
    folder = StudyFolder(tmp_path)
    mean = Metric("mean_output", "maximize", lambda outputs, targets: outputs.mean(), over="set")
    engine.run(planned(small(metric=mean), "sgd", "adam"), folder, Silent())
    assert "mean output" in write_report(tmp_path).read_text()
