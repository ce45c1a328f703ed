"""The call `compare` with workloads of every form, several of them, a budget; its answer in a notebook."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch.nn.functional import cross_entropy

from own_work import own_files
from steepest.study import LOSS, Answer, Experiment, compare, workloads
from steepest.study.declaration import ACCURACY
from steepest.study.errors import MetricError, StudyError, UsageError
from steepest.study.planning import estimate, suites
from steepest.study.running import engine

from . import experiments
from .small import CLASSES, X, net, small

__all__ = ["own_files"]

PAIR = ["mini-batch", "full-batch"]
FEW: dict[str, Any] = {"optimizers": ["sgd", "adam"], "preset": "smoke", "trials": 0, "seeds": 2, "timing_rounds": 0}


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steepest.study.report.write_report", lambda folder: folder / "report" / "index.html")
    monkeypatch.setattr("steepest.study.report.answer.write_comparison", lambda _, folders, out: out / "index.html")


def document(folder: Path) -> Any:
    return json.loads((folder / "study.json").read_text())


# -- forms of one workload ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_report")
def test_a_model_and_its_workload_are_one_study(tmp_path: Path) -> None:
    few = {"optimizers": ["sgd"], "seeds": 2, "timing_rounds": 0}
    loose = compare(net, (X, CLASSES), cross_entropy, **few, horizon=1, metric=ACCURACY, batch_size=16, out=tmp_path)
    assert loose.statuses == {"finished": 2}
    assert compare(small(horizon=1), **few, out=tmp_path).statuses == {}
    usual = compare(net, (X, CLASSES), cross_entropy, **few, out=tmp_path / "usual")
    assert usual.statuses == {"finished": 2}
    config = document(tmp_path / "usual")["config"]
    assert (config["epochs"], config["batch_size"]) == (10, 32)
    assert document(tmp_path / "usual")["metric"]["name"] == LOSS.name


@pytest.mark.usefixtures("no_report")
def test_every_argument_of_a_workload_may_be_given_to_a_model(tmp_path: Path) -> None:
    few = {"optimizers": ["sgd"], "seeds": 1, "timing_rounds": 0, "horizon": 1}
    compare(net, (X, CLASSES), cross_entropy, **few, accumulate=4, max_norm=1.0, margin=0.1, target=0.5, out=tmp_path)
    made = document(tmp_path)
    assert (made["config"]["accumulate"], made["config"]["max_norm"]) == (4, 1.0)
    assert made["protocol"]["margin"] == 0.1
    told = r"compare\(\) got an unknown argument 'sead'; did you mean 'seeds'\? Choose from model, data, loss"
    with pytest.raises(TypeError, match=told):
        compare(net, (X, CLASSES), cross_entropy, ["sgd"], sead=3)
    with pytest.raises(UsageError, match="batch_size of a workload must be a whole number of at least 1, not 0"):
        compare(net, (X, CLASSES), cross_entropy, ["sgd"], batch_size=0)


@pytest.mark.usefixtures("no_report", "own_files")
def test_a_workload_is_named_as_on_the_command_line() -> None:
    answer = compare("my_task.py", **FEW)
    assert document(answer.folder)["config"]["task"]["source"] == "my_task.py:my_task"
    assert document(compare(["mini-batch"], **FEW).folder)["workload"] == "mini-batch"
    assert "Adagrad" in compare("full-batch", **FEW | {"optimizers": ["adagrad"]}).rows
    with pytest.raises(UsageError, match="unknown workload 'digit'; did you mean 'digits'"):
        compare("digit", **FEW)


@pytest.mark.usefixtures("no_report")
def test_an_experiment_that_is_an_object_reads_the_preset_of_its_run(tmp_path: Path) -> None:
    made = Experiment(function=experiments.train_by_steps, metric=experiments.ACCURACY)
    answer = compare(made, **FEW, horizon=4, out=tmp_path)
    assert answer.statuses == {"finished": 4}
    assert document(tmp_path)["config"]["task"] == {"source": "comparison", "preset": "smoke", "sizes": None}
    assert document(tmp_path)["config"]["epochs"] == 4


# -- several workloads -------------------------------------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path, no_report: None) -> Answer:
    return compare([*PAIR, small(title="Two classes")], **FEW, out=tmp_path)


def test_several_workloads_have_one_answer(several: Answer) -> None:
    root = several.folder
    assert several.statuses == {"finished": 12}
    assert list(several.workloads) == ["mini-batch smoke", "full-batch smoke", "Two-classes smoke"]
    assert [one.folder.name for one in several.workloads.values()] == [*PAIR, "Two-classes"]
    assert [one.statuses for one in several.workloads.values()] == [{"finished": 4}] * 3
    assert all(document(root / name)["config"]["seeds"] == [0, 1] for name in PAIR)
    assert several.sentence.startswith("Over 3 workloads, ")
    assert "Against SGD, no optimizer is better, worse or equivalent on all 3 workloads." in several.sentence
    assert list(several.rows["SGD"])[1:] == list(several.workloads)
    lines = str(several).splitlines()
    assert re.search(r"^SGD +\S+ +reference \([12.5]+\)", "\n".join(lines), re.MULTILINE)
    assert "- mini-batch smoke: No verdict: for 1 comparison with SGD, 6 paired seeds are needed, and" in str(several)
    assert lines[-1] == f"report: {root / 'report' / 'index.html'}"
    entries = json.loads((root / "suite.json").read_text())["workloads"]
    assert [entry["source"] for entry in entries] == [*PAIR, "comparison:Two-classes"]


def test_the_table_of_several_has_the_rows_of_all(several: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    table = several.to_dataframe()
    assert table.columns[0] == "workload"
    assert list(table.index) == [label for one in several.workloads.values() for label in one.rows]
    assert list(table["workload"].unique()) == list(several.workloads)
    one = several.workloads["Two-classes smoke"]
    mine = table[table["workload"] == "Two-classes smoke"].drop(columns="workload")
    pandas.testing.assert_frame_equal(mine[one.to_dataframe().columns], one.to_dataframe())
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    several.open()
    assert opened == [(several.folder / "report" / "index.html").as_uri()]


def test_the_same_call_resumes_and_other_workloads_are_refused(several: Answer) -> None:
    again = compare([*PAIR, small(title="Two classes")], **FEW, out=several.folder)
    assert (again.statuses, again.rows) == ({}, several.rows)
    with pytest.raises(UsageError, match=r"holds a study of other workloads. There and here: comparison:Two-cl"):
        compare(PAIR, **FEW, out=several.folder)
    with pytest.raises(UsageError, match="holds a study of several workloads"):
        compare("mini-batch", **FEW, out=several.folder)


@pytest.mark.usefixtures("no_report")
def test_a_suite_has_its_workloads_and_takes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def prepare(arguments: Any, command: str) -> Any:
        asked.append([one.declared.source for one in arguments.requests])
        raise UsageError(f"{arguments.name}: {command.split(' in ')[0]}")

    monkeypatch.setattr("steepest.study.running.suite_preparation.prepare", prepare)
    with pytest.raises(UsageError, match=r"small-mini-batch: steepest\.study\.compare"):
        compare("mini-batch", suite="small", **FEW)
    with pytest.raises(UsageError, match="text: "):
        compare(suite="text", **FEW)
    assert asked[0] == [*suites.SUITES["small"].workloads, "mini-batch"]
    assert asked[1] == ["char-lstm", "char-transformer"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, "missing WORKLOAD: name one, several, or a suite"),
        ({"suite": "smal"}, "unknown suite 'smal'; did you mean 'small'"),
        ({"suite": "small", "loss": cross_entropy}, "a suite declares its loss itself; leave it out"),
        ({"model": ["digits", "digits"]}, "digits is given twice"),
        ({"model": [small(title="a"), small(title="a")]}, "comparison:a is given twice"),
        ({"model": PAIR, "margin": 0.1}, "mini-batch, full-batch declares its margin itself"),
        (
            {"model": ["mini-batch", net]},
            "holds names, FILE.py:NAME, declared functions and objects, not <func",
        ),
        ({"model": [*PAIR, small()], "jobs": 2}, "cannot import comparison:comparison-3; put it into a file"),
        ({"model": PAIR, "optimizers": {"mine": torch.optim.SGD}, "jobs": 2}, "which cannot import mine;"),
        ({"model": small()}, "preset='smoke' has no effect on a model"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(tmp_path: Path, wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        compare(**{**FEW, "out": tmp_path / "study", **wanted})
    assert not (tmp_path / "study").exists()


@pytest.mark.usefixtures("no_report")
def test_a_metric_without_a_finite_value_ends_its_own_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, broken = engine._Study._check_metric, {"mini-batch"}

    def checked(study: Any, trials: Any, split: str) -> None:
        if study.folder.path.name in broken:
            raise MetricError("no finite value")
        check(study, trials, split)

    monkeypatch.setattr(engine._Study, "_check_metric", checked)
    answer = compare(PAIR, **FEW, out=tmp_path / "one")
    assert list(answer.workloads) == ["full-batch smoke"]
    assert "mini-batch: no finite value" in answer.notes
    broken.add("full-batch")
    with pytest.raises(StudyError, match="no workload has a result: mini-batch: no finite value; full-batch: no fini"):
        compare(PAIR, **FEW, out=tmp_path / "none")


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_several_run_in_processes_too(tmp_path: Path) -> None:
    here = compare(PAIR, **FEW, out=tmp_path / "here")
    there = compare(PAIR, **FEW, jobs=2, out=tmp_path / "there")
    assert (here.statuses, here.rows) == (there.statuses, there.rows)


# -- a budget ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trial of full-batch take three seconds, and any other one second."""

    def seconds(plan: Any) -> dict[str, float]:
        return {config.label: 3.0 if plan.document.workload == "full-batch" else 1.0 for config in plan.configs}

    monkeypatch.setattr(estimate, "trial_seconds", seconds)


BUDGETED: dict[str, Any] = {"optimizers": ["sgd", "adam"], "preset": "smoke", "timing_rounds": 0}


@pytest.mark.usefixtures("no_report", "prices")
@pytest.mark.parametrize("budget", ["20s", 20, 20.0])
def test_a_budget_chooses_the_seeds_that_fit(tmp_path: Path, budget: Any) -> None:
    answer = compare("mini-batch", **BUDGETED, trials=0, budget=budget, out=tmp_path)
    assert document(tmp_path)["config"]["seeds"] == list(range(9))  # 18 seconds, two for every seed
    assert re.match(r"budget: 20(\.0)?s, a tenth of it in reserve: no search and 9 seeds, about", answer.notes[0])
    again = compare("mini-batch", **BUDGETED, trials=0, budget="1h", out=tmp_path)
    assert again.statuses == {}
    assert again.notes[0] == "budget: 1h for what is left of the plan of this folder"


@pytest.mark.usefixtures("no_report", "prices")
def test_a_budget_is_divided_between_workloads_and_what_is_left_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = property(lambda study: study.folder.path.name == "mini-batch" and study.summary.ended["finished"] > 1)
    with monkeypatch.context() as context:
        context.setattr(engine._Study, "_is_late", late)
        answer = compare(PAIR, **BUDGETED, trials=0, budget="60s", out=tmp_path)
    assert [len(document(tmp_path / name)["config"]["seeds"]) for name in PAIR] == [6, 6]
    assert answer.notes[0].startswith("budget: 60s, a tenth of it in reserve: no search and 6 seeds")
    spent = "mini-batch: the budget of 60s (its share: 25%) is spent, and trials that this stage has not run: 9; the"
    assert any(note.startswith(spent) for note in answer.notes)
    assert answer.statuses == {"finished": 3 + 12}
    again = compare(PAIR, **BUDGETED, trials=0, budget="60s", out=tmp_path)
    assert again.statuses == {"finished": 9}


@pytest.mark.usefixtures("prices")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"budget": "2 hours"}, "--budget 2 hours is no time above zero; give numbers with units"),
        ({"budget": -5}, "is no time above zero"),
        ({"budget": 3}, "--budget 3s is too short"),
        ({"budget": "60s", "seeds": 6, "more_seeds": 12}, "--budget chooses the seeds that fit, and --more-seeds adds"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        compare("mini-batch", **BUDGETED, trials=0, **wanted)


# -- a notebook --------------------------------------------------------------------------------------------------------


def images(page: str) -> list[tuple[str, str]]:
    """Return the words and the content of every image on a page."""
    return re.findall(r'<img style="[^"]*" alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]+)">', page)


def test_a_notebook_shows_the_charts_of_the_report(tmp_path: Path) -> None:
    answer = compare(small(), optimizers=["sgd", "adam"], seeds=3, timing_rounds=0, out=tmp_path)
    page = answer._repr_html_()
    shown = images(page)
    assert [figure.key for figure in answer.figures] == ["verdicts", "learning-over-epochs"]
    assert "Line chart: Training loss over epochs. Last values: SGD" in shown[1][0]
    assert page.count("<figure") == len(shown) == 2
    for (_, content), key in zip(shown, ("verdicts", "learning-over-epochs"), strict=True):
        drawn = base64.b64decode(content)
        assert drawn == (tmp_path / "report" / "figures" / f"{key}.svg").read_bytes()
    assert len(page) < 300_000


def test_two_answers_on_one_page_share_no_name_and_need_no_network(several: Answer) -> None:
    one = several.workloads["Two-classes smoke"]
    page = several._repr_html_() + one._repr_html_()
    around = re.sub(r"base64,[^\"]+", "", page)
    assert len(images(page)) == 4
    assert not re.findall(r"\s(?:id|class|name)=|<style|<script|<svg|https?:|url\(", around)
    assert re.findall(r"<summary>([^<]+)</summary>", around) == list(several.workloads)
    assert "No verdict: for 1 comparison with SGD, 6 paired seeds" in around
    assert around.count("<table>") == 1 + 3 + 1
    assert [figure.key for figure in several.figures] == ["ranks", "performance-profiles"]


def test_a_workload_of_the_library_may_be_given_as_it_is_found(several: Answer) -> None:
    again = compare([*map(workloads.find, PAIR), small(title="Two classes")], **FEW, out=several.folder)
    assert again.statuses == {}
