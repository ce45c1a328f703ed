"""`steepest study` of several workloads: one folder, a study for each, and the comparison across them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from own_work import TASK, own_files
from steepest.cli import reporting
from steepest.study.errors import MetricError
from steepest.study.planning import estimate
from steepest.study.planning.estimate import Cost
from steepest.study.running import engine
from steepest.study.workloads import workloads

__all__ = ["own_files"]

PAIR = ("study", "mini-batch", "full-batch", "--preset", "smoke", "--timing-rounds", "0")
FEW = (*PAIR, "-o", "sgd", "-o", "adam", "--trials", "0", "--seeds", "2")
ROOT = Path("studies/mini-batch-full-batch-smoke")
FOLDERS = [ROOT / "mini-batch", ROOT / "full-batch"]


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "cost", lambda plan: Cost(seconds=60.0, disk_bytes=1_000_000))


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Path]]:
    """Draw nothing, and note which studies were compared."""
    compared: list[list[Path]] = []

    def write(folders: Any, out: Path) -> Path:
        compared.append(list(folders))
        return out / "index.html"

    monkeypatch.setattr(reporting, "write", lambda folder: folder / "report" / "index.html")
    monkeypatch.setattr(reporting, "write_across", lambda _, folders, out: write(folders, out))
    monkeypatch.setattr(reporting, "write_comparison", write)
    return compared


def _document(folder: Path) -> Any:
    return json.loads((folder / "study.json").read_text())


def test_every_workload_has_a_study_and_one_answer_stands_at_the_end(steepest: Any, drawn: list[list[Path]]) -> None:
    answer = steepest(*FEW)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"mini-batch-full-batch (smoke): 2 workloads, one study each, in {ROOT}\n")
    places = [answer.out.index(f"workload {number} of 2: {name}") for number, name in ((1, "mini"), (2, "full"))]
    assert places == sorted(places)
    across = answer.out[answer.out.index("across 2 workloads") :]
    assert re.search(r"Over 2 workloads, (SGD|Adam|SGD and Adam) (has|share) the best mean rank", across)
    assert "Against SGD, no optimizer is better, worse or equivalent on all 2 workloads." in across
    assert re.search(r"^SGD +[125.]+ +reference \([125.]+\) +reference \([125.]+\)$", across, re.MULTILINE)
    assert across.endswith(f"report: {ROOT}/report/index.html\n")
    assert drawn == [FOLDERS]
    one, other = map(_document, FOLDERS)
    assert one["config"]["seeds"] == other["config"]["seeds"] == [0, 1]
    assert one["command"] == other["command"] == f"steepest {' '.join(FEW)}"
    assert [entry["source"] for entry in json.loads((ROOT / "suite.json").read_text())["workloads"]] == [
        "mini-batch",
        "full-batch",
    ]


def test_the_same_command_resumes_and_takes_more_optimizers_and_seeds(steepest: Any) -> None:
    first = steepest(*FEW)
    again = steepest(*FEW)
    assert again.code == 0
    assert again.out.count("4 trials had been done before") == 2
    assert again.out[again.out.index("across") :] == first.out[first.out.index("across") :]
    more = steepest(*FEW[:-1], "3", "-o", "nag")
    assert more.code == 0
    assert [len(_document(folder)["trials"]) for folder in FOLDERS] == [9, 9]
    assert [_document(folder)["seed_counts"] for folder in FOLDERS] == [[2, 3], [2, 3]]


def test_each_study_is_an_ordinary_one(steepest: Any) -> None:
    steepest(*FEW)
    alone = steepest("study", "full-batch", *FEW[3:], "--out", str(FOLDERS[1]))
    assert "4 trials had been done before" in alone.out
    trial = next((FOLDERS[1] / "trials").iterdir()).stem
    assert steepest("rerun", str(FOLDERS[1]), trial).out.startswith("bit-equal")


def test_all_take_the_largest_of_their_numbers_and_the_optimizers_of_most(steepest: Any, calibrated: None) -> None:
    names = ("digits", "digits-mlp", "linear-regression")
    answer = steepest("study", *names, "--preset", "quick", "--plan-only")
    assert answer.code == 0
    assert answer.out.count("seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n") == 3
    for label in ("SGD", "RMSprop", "Adam"):  # of all three; momentum, nag and adagrad are of one
        assert len(re.findall(rf"^  {label}: lr=", answer.out, re.MULTILINE)) == 3
    assert "Adagrad" not in answer.out
    assert answer.out.count("27 of the search") == 3
    assert "total      3 workloads, about 3:00 with one job, 3.0 MB of records" in answer.out
    assert "in studies/digits-digits-mlp-linear-regression-quick" in answer.out
    assert not Path("studies").exists()


def test_a_suite_names_its_workloads(steepest: Any, calibrated: None) -> None:
    assert "text         Text: a recurrent network and a transformer: char-lstm" in steepest("list", "suites").out
    listed = {entry["name"]: entry["workloads"] for entry in json.loads(steepest("list", "suites", "--json").out)}
    assert set().union(*listed.values()) <= set(workloads())
    assert all(len(set(names)) == len(names) > 1 for names in listed.values())
    few = ("--trials", "0", "--seeds", "2", "-o", "sgd", "-o", "adam")
    answer = steepest("study", "--suite", "small", "mini-batch", "--preset", "smoke", *few, "--plan-only")
    assert answer.code == 0
    assert answer.out.startswith("small-mini-batch (smoke): 6 workloads, one study each, in studies/small-mini-batch-")
    assert f"folder     studies/small-mini-batch-smoke-0-trials/{listed['small'][0]}\n" in answer.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "missing WORKLOAD: name one, several, or a suite; see `steepest list workloads` and"),
        (("--suite", "smal"), "unknown suite 'smal'; did you mean 'small'? Choose from small, vision"),
        (("--suite", "small", "digits-mlp"), "digits-mlp is one of the suite small, so leave it out"),
        (("digits", "digits"), "digits is given twice; a comparison across workloads counts each once"),
        (("digits", "digit"), "unknown workload 'digit'; did you mean 'digits'?"),
        (("digits", "mini-batch", "-o", "adm"), "Error: unknown optimizer 'adm'"),
        (("digits", "mini-batch", "-o", "adam", "--steps", "3"), "digits counts epochs; give its length as --epochs"),
        (("digits", "mini-batch", "-o", "adam", "--reference", "sgd"), "Error: unknown reference 'sgd'"),
        (("my_task.py", "x/../my_task.py", "-o", "sgd"), "are one workload: equal name, data and model"),
        (("my_task.py", "mini-batch", "-o", "sgd", "--extend", "--trials", "0"), "--extend has no effect with"),
        (("my_task.py", "mini-batch", "-o", "sgd", "--extend"), "--extend needs a finished search"),
        (("my_task.py", "mini-batch"), "most of these workloads have no usual optimizer in common; name some"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    steepest: Any, own_files: Path, arguments: tuple[str, ...], told: str
) -> None:
    Path("x").mkdir()
    answer = steepest("study", *arguments, "--preset", "smoke")
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not Path("studies").exists()


def test_the_mistakes_of_all_workloads_are_told_at_once(steepest: Any, own_files: Path) -> None:
    for name, wrong in (("a", "nn.Linear(3, 8)"), ("b", "nn.Linear(5, 8)")):
        Path(f"{name}.py").write_text(TASK.replace("nn.Linear(4, 8)", wrong).replace("my_task(", f"{name}("))
    answer = steepest("study", "mini-batch", "a.py", "b.py", "-o", "sgd", "-o", "adam", "--preset", "smoke")
    assert answer.code == 2
    assert re.search(r"\n  a\.py:a: .*3x8", answer.err)
    assert re.search(r"\n  b\.py:b: .*5x8", answer.err)
    assert not Path("studies").exists()


def test_an_optimizer_is_skipped_where_it_cannot_run(steepest: Any) -> None:
    few = ("--preset", "smoke", "--timing-rounds", "0", "--trials", "0", "--seeds", "1")
    answer = steepest("study", "mini-batch", "matrix-factorisation", "-o", "sgd", "-o", "adam", "-o", "adagrad", *few)
    assert answer.code == 0
    assert re.search(r"skipped: Adam: .*sparse", answer.out)
    across = answer.out[answer.out.index("across 2 workloads") :]
    assert re.search(r"^Adam +– +\S.* skipped$", across, re.MULTILINE)
    assert "Without a result in some study, and so left out: Adam." in across


def test_two_files_may_give_one_name(steepest: Any, own_files: Path) -> None:
    for name in ("a", "b"):
        Path(f"{name}.py").write_text(TASK.replace("manual_seed(1)", f"manual_seed({ord(name)})"))
    answer = steepest("study", "a.py", "b.py", "-o", "sgd", "-o", "adam", *FEW[5:7], "--trials", "0", "--out", "here")
    assert answer.code == 0
    assert {path.parent.name for path in Path("here").glob("*/study.json")} == {"a-my_task", "b-my_task"}


def test_other_workloads_are_another_study(steepest: Any) -> None:
    steepest(*FEW, "--out", "here")
    answer = steepest("study", "mini-batch", "single-example", *FEW[3:], "--out", "here")
    assert answer.code == 2
    assert "here holds a study of other workloads. There and here: full-batch, mini-batch; mini-batch" in answer.err
    answer = steepest("study", "mini-batch", *FEW[3:], "--out", "here")
    assert answer.code == 2
    assert "here holds a study of several workloads (here/mini-batch, here/full-batch)" in answer.err
    answer = steepest(*FEW, "--out", "here/mini-batch")
    assert answer.code == 2
    assert "here/mini-batch is the study of one workload; give another folder" in answer.err
    answer = steepest(*FEW, "--out", "here", "--epochs", "3")
    assert answer.code == 2
    assert all(f"{name}: here/{name} holds another study" in answer.err for name in ("mini-batch", "full-batch"))


def test_an_interruption_keeps_all_plans_and_the_command_goes_on(
    steepest: Any, monkeypatch: pytest.MonkeyPatch, drawn: list[list[Path]]
) -> None:
    stage = engine._Study._run_stage

    def interrupted(study: Any, trials: Any, alone: bool = False) -> None:
        stage(study, trials, alone)
        if study.folder.path.name == "mini-batch" and not alone:
            raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(engine._Study, "_run_stage", interrupted)
        answer = steepest(*FEW[:-4])
    assert answer.code == 130
    assert f"To continue: steepest {' '.join(FEW[:-4])}" in answer.err
    assert "workload 2 of 2" not in answer.out
    assert all((folder / "study.json").exists() for folder in FOLDERS)
    assert drawn == []
    told = steepest("report", str(ROOT))
    assert told.code == 1
    assert f"no study in {ROOT} has a result yet; go on with: steepest study mini-batch" in told.err
    assert steepest(*FEW[:-4]).code == 0
    assert drawn == [FOLDERS]


def test_a_metric_without_a_finite_value_ends_its_own_study(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check = engine._Study._check_metric

    def broken(study: Any, trials: Any, split: str) -> None:
        if study.folder.path.name == "mini-batch":
            raise MetricError("no finite value")
        check(study, trials, split)

    monkeypatch.setattr(engine._Study, "_check_metric", broken)
    answer = steepest(*FEW)
    assert answer.code == 1
    assert "Error: mini-batch: no finite value" in answer.err
    assert "workload 2 of 2: full-batch" in answer.out


def test_the_comparison_is_written_anew(steepest: Any, drawn: list[list[Path]]) -> None:
    steepest(*FEW)
    answer = steepest("report", str(ROOT))
    assert (answer.code, answer.out) == (0, f"report: {ROOT}/report/index.html\n")
    answer = steepest("report", str(ROOT), "--out", "there")
    assert (answer.code, answer.out) == (0, "report: there/index.html\n")
    shutil.copytree(FOLDERS[0], "other")
    answer = steepest("report", str(ROOT), "other")
    assert answer.code == 0
    assert drawn[1:] == [FOLDERS, FOLDERS, [*FOLDERS, Path("other")]]
    (ROOT / "suite.json").write_text("{")
    answer = steepest("report", str(ROOT))
    assert (answer.code, "suite.json is damaged" in answer.err) == (1, True)


def test_a_search_is_extended_on_the_workloads_that_need_it(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = (*PAIR, "-o", "sgd", "-o", "adam", "--trials", "2", "--seeds", "1")
    assert steepest(*tuned).code == 0
    root = Path(f"{ROOT}-2-trials")
    found = {"mini-batch": {"SGD": {"low": 10.0, "high": 100.0}}}
    monkeypatch.setattr(engine, "next_extension", lambda _, folder: found.get(folder.path.name, {}))
    answer = steepest(*tuned, "--extend")
    assert answer.code == 0
    assert "note: full-batch: no best learning rate lies on the edge of its range, so there is nothing to" in answer.err
    points = {name: len(_document(root / name)["optimizers"][0]["points"]) for name in ("mini-batch", "full-batch")}
    assert points == {"mini-batch": 5, "full-batch": 3}
    found.clear()
    answer = steepest(*tuned, "--extend")
    assert answer.code == 2
    assert "lies on the edge of its range on any workload: nothing to extend" in answer.err


def test_looks_are_planned_for_every_workload(steepest: Any, calibrated: None) -> None:
    answer = steepest(*FEW[:-2], "--seeds", "6", "--more-seeds", "12", "--plan-only")
    assert answer.code == 0
    assert answer.out.count("looks      at 6, 12 seeds") == 2
    assert "total      2 workloads, at most about 2:00" in answer.out


def test_verdicts_at_equal_cost_are_those_of_every_workload(steepest: Any) -> None:
    few = (*FEW[:-1], "6", "--match", "evaluations")
    answer = steepest(*few)
    assert answer.code == 0
    root = Path(f"{ROOT}-equal-evaluations")
    assert [_document(root / folder.name)["protocol"]["match"] for folder in FOLDERS] == ["evaluations"] * 2
    assert "- Verdicts are those at equal gradient evaluations, where the plan names that; ranks" in answer.out
    answer = steepest(*few[:-2], "--out", str(root))
    assert answer.code == 2
    assert "protocol.match is 'evaluations' and 'steps'" in answer.err


BUDGET = (*PAIR, "-o", "sgd", "-o", "adam", "--budget", "2m")


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trial of mini-batch take a second, and one of full-batch three."""

    def seconds(plan: Any) -> dict[str, float]:
        return {config.label: 1.0 if plan.document.workload == "mini-batch" else 3.0 for config in plan.configs}

    monkeypatch.setattr(estimate, "trial_seconds", seconds)


def test_a_budget_is_divided_by_cost_and_chooses_one_size_for_all(
    steepest: Any, prices: None, calibrated: None
) -> None:
    answer = steepest(*BUDGET, "--plan-only")
    assert answer.code == 0
    seeds = re.findall(r"search trials of every optimizer and (\d+) seeds", answer.out)
    assert len(seeds) == 2
    assert seeds[0] == seeds[1]
    assert int(seeds[0]) >= 6
    assert "share      2m (its share: 25%)" in answer.out
    assert "share      2m (its share: 75%)" in answer.out
    assert "in studies/mini-batch-full-batch-smoke-in-2m" in answer.out


def test_a_budget_that_is_too_short_is_told_for_all_together(steepest: Any, prices: None) -> None:
    answer = steepest(*BUDGET[:-1], "30s")
    assert answer.code == 2
    assert "--budget 30s is too short" in answer.err
    answer = steepest(*BUDGET, "--seeds", "6", "--more-seeds", "12")
    assert answer.code == 2
    assert "--budget chooses the seeds that fit, and --more-seeds adds some" in answer.err


def test_a_spent_share_leaves_time_for_the_next_workload(
    steepest: Any, prices: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = property(lambda study: study.folder.path.name == "mini-batch" and _ended(study.folder.path) >= 3)
    few = (*BUDGET, "--trials", "0", "--seeds", "6")
    with monkeypatch.context() as context:
        context.setattr(engine._Study, "_is_late", late)
        answer = steepest(*few)
    assert answer.code == 0
    assert "The budget of 2m (its share: 25%) is spent, and 9 trials of this stage have not run" in answer.err
    assert "workload 2 of 2: full-batch" in answer.out
    root = Path(f"{ROOT}-in-2m")
    assert (_ended(root / "mini-batch"), _ended(root / "full-batch")) == (3, 12)
    again = steepest(*few)
    assert "2m for what is left of the plans of all workloads" in again.out
    assert (again.code, again.err, _ended(root / "mini-batch")) == (0, "", 12)


def _ended(folder: Path) -> int:
    return sum('"kind":"end"' in path.read_text() for path in (folder / "trials").glob("*.jsonl"))
