"""Training loops as people write them, as experiments: studies end with a verdict, and a killed trial resumes."""

import difflib
import importlib.util
import json
import math
import random
import re
import runpy
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise, product
from operator import mul
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch

from steepest.study.planning.plan import Plan
from steepest.study.report.findings import measures
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.answer import answer
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .small import planned_experiment
from .support import EXAMPLES, SCENARIOS, Silent, dropped, evaluations, events_of, record_bytes, run_with_checkpoints

WRITTEN = {
    "tabular": SCENARIOS / "tabular.py",
    "augmented images, loaded by processes": SCENARIOS / "images.py",
    "accumulation, clipping, bf16 autocast": SCENARIOS / "accumulation.py",
    "area under the curve": SCENARIOS / "auc.py",
    "variable lengths": SCENARIOS / "variable_length.py",
    "GPT, dict batches": EXAMPLES / "experiment_gpt.py",
    "GAN, two optimizers": EXAMPLES / "experiment_gan.py",
    "reinforcement learning": EXAMPLES / "experiment_reinforcement.py",
    "existing script": EXAMPLES / "experiment_existing_script.py",
}
TRAINERS = {
    "transformers": EXAMPLES / "experiment_hugging_face.py",
    "lightning": EXAMPLES / "experiment_lightning.py",
}
"""Experiments by the package that they need."""


def of_trainer(package: str, *others: str) -> Any:
    """Return the parameters of a test of a trainer. Its package warns of much that is none of our business.

    Every day transformers is killed and resumed once; the rest of it takes many seconds.
    """
    missing = importlib.util.find_spec(package) is None
    marks = [
        pytest.mark.skipif(missing, reason=f"{package} is not installed"),
        pytest.mark.filterwarnings("ignore"),
    ]
    if package == "transformers" and others != ("adamw[lr=0.01]",):
        marks.append(pytest.mark.slow)
    return pytest.param(TRAINERS[package], *others, id="-".join([package, *others]), marks=marks)


every_scenario = pytest.mark.parametrize(
    "path", [*(pytest.param(path, id=name) for name, path in WRITTEN.items()), *map(of_trainer, TRAINERS)]
)
AVERAGED = "adam[lr=0.003,ema_decay=0.9]"
PAIRS = 6
"""The fewest seeds that can give one comparison a verdict: 2 / 2^6 < 0.05."""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def studied(path: Path, folder: StudyFolder, silent: Silent, **wanted: object) -> Plan:
    plan = planned_experiment(path, "adam[lr=0.003]", "sgd[lr=0.1]", **wanted)
    summary = engine.run(plan, folder, silent)
    assert set(summary.ended) == {"finished"}
    assert not summary.notes
    return plan


@pytest.mark.every(3)
@every_scenario
def test_a_study_ends_with_a_verdict(path: Path, folder: StudyFolder, silent: Silent) -> None:
    plan = studied(path, folder, silent, seeds_wanted=PAIRS)
    assert plan.subject.reproducible
    assert plan.subject.remarks == ()
    results = findings(read_study(folder.path))
    (comparison,) = results.verdicts.comparisons
    assert comparison.verdict in ("better", "worse", "equivalent", "undecided")
    said = answer(results.study, results.verdicts, results.summaries)
    assert said.startswith(f"On test {plan.task.metric.name.replace('_', ' ')} at the end of training, over 6 paired")


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("path", "optimizer"),
    [
        *((path, "adamw[lr=0.01]") for path in WRITTEN.values()),
        (WRITTEN["tabular"], AVERAGED),
        (WRITTEN["accumulation, clipping, bf16 autocast"], "adam[lr=0.003,state_dtype='bfloat16']"),
        (WRITTEN["GAN, two optimizers"], "torch.optim:SGD[lr=0.1,momentum=0.9]"),
        *(of_trainer(package, optimizer) for package in TRAINERS for optimizer in ("adamw[lr=0.01]", AVERAGED)),
    ],
    ids=lambda given: given.stem if isinstance(given, Path) else given,
)
def test_a_killed_trial_ends_in_the_same_bytes(path: Path, optimizer: str, folder: StudyFolder) -> None:
    plan = planned_experiment(path, optimizer, seeds_wanted=1, schedule_wanted="cosine")
    spec, task = evaluations(plan)[0], plan.task
    whole = events_of(spec, task)
    steps = whole[-1].record["step"]
    draw = random.Random(f"{path.name} {optimizer}")
    with folder.writing():
        at = sorted(draw.randint(2 * steps // 3 + 1, steps) for _ in range(2))  # by then one has been proven
        begun = [dropped(spec, task, folder, step) for step in at]
        last = run_with_checkpoints(spec, task, folder)
    assert [events[0].record["kind"] for events in (*begun, last)] == ["trial", "resumed", "resumed"]
    assert record_bytes(folder, spec) == record_bytes(whole)


@pytest.mark.parametrize("path", [WRITTEN["GPT, dict batches"], *map(of_trainer, TRAINERS)])
def test_a_precision_reaches_the_training(path: Path) -> None:
    first = {}
    for precision in ("fp32", "bf16"):
        plan = planned_experiment(path, "adamw", seeds_wanted=1, precision=precision)
        events = events_of(evaluations(plan)[0], plan.task)
        first[precision] = next(event.record["loss"] for event in events if event.record["kind"] == "step")
    assert first["bf16"] != first["fp32"]
    assert first["bf16"] == pytest.approx(first["fp32"], rel=0.02)  # bfloat16 keeps 8 bits


def test_a_search_is_part_of_an_experiments_study(folder: StudyFolder, silent: Silent) -> None:
    plan = planned_experiment(SCENARIOS / "tabular.py", "adam", "sgd", seeds_wanted=2, trials_wanted=2, timing_rounds=1)
    engine.run(plan, folder, silent)
    phases = [trial.phase for trial in folder.document().trials]
    assert (phases.count("search"), phases.count("evaluation")) == (6, 4)
    assert phases.count("timing") == 2
    for trial in folder.document().trials:
        end = json.loads((folder.path / "trials" / f"{trial.id}.jsonl").read_text().splitlines()[-1])
        assert ("test_absolute_error" in end) == (trial.phase == "evaluation")


def test_a_loop_that_keeps_too_little_starts_again_and_says_so(folder: StudyFolder) -> None:
    plan = planned_experiment(SCENARIOS / "forgetful.py", "adam", seeds_wanted=1)
    spec, task = evaluations(plan)[0], plan.task
    with folder.writing():
        dropped(spec, task, folder, step=20)
        first, *_, last = run_with_checkpoints(spec, task, folder)
    assert first.record["kind"] == "trial"
    assert last.timing is not None
    assert (
        last.timing["restarts"]
        == "a twin that went on from a checkpoint had another model and optimizer after its next steps"
    )
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, task))


def read_lines(folder: StudyFolder) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Yield label, seed and records of every trial, read without the library."""
    for path in sorted((folder.path / "trials").glob("*.jsonl")):
        first, *others = [json.loads(line) for line in path.read_text().splitlines()]
        yield first["spec"]["optimizer"]["label"], first["spec"]["seed"], others


def confirmed(values: list[tuple[int, float]], target: float) -> float:
    """Return the step of the first value below the target whose successor is below it, too; else infinity."""
    pairs = pairwise(values)
    return next((step for (step, value), (_, after) in pairs if max(value, after) <= target), math.inf)


def test_the_reports_numbers_are_those_of_the_raw_records(folder: StudyFolder, silent: Silent) -> None:
    studied(SCENARIOS / "tabular.py", folder, silent, seeds_wanted=PAIRS)
    ends: dict[str, dict[int, float]] = defaultdict(dict)
    times: dict[str, dict[int, float]] = defaultdict(dict)
    for label, seed, lines in read_lines(folder):
        epochs = [line for line in lines if line["kind"] == "epoch"]
        losses = [line["loss"] for line in lines if line["kind"] == "step"]
        batches = [losses[start : start + 5] for start in range(0, 20, 5)]  # of equal size
        assert [line["train_loss"] for line in epochs] == pytest.approx([mean(epoch) for epoch in batches])
        ends[label][seed] = lines[-1]["test_absolute_error"]
        times[label][seed] = confirmed([(one["step"], one["validation_absolute_error"]) for one in epochs], 2.0)
    results = findings(read_study(folder.path))
    for summary in results.summaries:
        spread, values = summary.spreads["test_absolute_error"], ends[summary.label].values()
        assert (spread.mean, spread.deviation) == (pytest.approx(mean(values)), pytest.approx(stdev(values)))
    for row in results.targets[0].rows:
        assert dict(row.times["steps"]) == times[row.label]
    assert math.inf in times["Adam[lr=0.003]"].values()
    assert min(times["SGD[lr=0.1]"].values()) < math.inf
    (comparison,) = results.verdicts.comparisons
    differences = [ends["Adam[lr=0.003]"][seed] - ends["SGD[lr=0.1]"][seed] for seed in range(PAIRS)]  # less is better
    flipped = [abs(sum(map(mul, differences, signs))) for signs in product((-1, 1), repeat=PAIRS)]
    as_large = [one for one in flipped if one >= abs(sum(differences)) * (1 - 1e-12)]
    assert comparison.estimate == pytest.approx(mean(differences))
    assert comparison.p_value == len(as_large) / len(flipped)


def test_an_existing_script_becomes_an_experiment_in_under_ten_lines() -> None:
    plain, experiment = (
        (EXAMPLES / name).read_text(encoding="utf-8").partition('"""\n\nimport')[2].splitlines()
        for name in ("plain_script.py", "experiment_existing_script.py")
    )
    lines = [line for line in difflib.unified_diff(plain, experiment, lineterm="") if line[:3] not in ("+++", "---")]
    written = [line for line in lines if line.startswith("+") and line != "+"]
    assert len(written) < 10
    page = (EXAMPLES.parent / "docs" / "experiments.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    changed = [line for line in lines if line.startswith(("+", "-")) and line not in "+-"]
    assert [line for line in shown.splitlines() if line.startswith(("+", "-"))] == changed


def test_the_plain_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLES / "plain_script.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1].startswith("test: accuracy 0.")


def test_a_study_whose_seeds_make_no_difference_is_remarked_on(tmp_path: Path) -> None:
    text = (SCENARIOS / "tabular.py").read_text(encoding="utf-8")
    for place in ("    loader = DataLoader(table(0, 100)", "        for numbers, categories, wanted in loader:"):
        indent = " " * (len(place) - len(place.lstrip()))
        text = text.replace(place, f"{indent}torch.manual_seed(0)\n{place}")
    path = tmp_path / "seeded.py"
    path.write_text(text.replace(', generator=run.generator("order")', ""), encoding="utf-8")
    (remark,) = planned_experiment(path, "adam", seeds_wanted=1).subject.remarks
    assert remark.startswith(
        "two seeds began with the same losses, so that seeds may tell nothing: take out what seeds"
    )


def test_a_figure_that_is_not_measured_in_training_has_no_column(folder: StudyFolder, silent: Silent) -> None:
    studied(WRITTEN["tabular"], folder, silent)
    results = findings(read_study(folder.path))
    metric = results.study.metric
    assert f"train_{metric}" not in {measure.key for measure in measures.table_measures(results.study)}
    assert f"test_{metric}" in {measure.key for measure in measures.table_measures(results.study)}
