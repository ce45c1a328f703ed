"""Loggers: they get every figure of every trial once, whole again when it has grown, and what is none is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from logged import Memory, stored
from steepest.study import LoggedTrial, Logger, log_study
from steepest.study.errors import StudyError, UsageError
from steepest.study.report.errors import ReportError
from steepest.study.report.findings.findings import Findings
from steepest.study.report.loggers.find import LOGGERS
from steepest.study.report.loggers.log import log_into
from steepest.study.report.stored.study import Study

OWN = '''
import json

class Lines:
    """A line of JSON for every call, in a file for every trial."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin_trial(self, trial):
        self.path = self.folder / f"{trial.id}.jsonl"
        self.lines = [[trial.optimizer, trial.seed]]

    def points(self, step, values):
        self.lines.append([step, values])

    def end_trial(self, status, results):
        self.lines.append([status, results])
        self.path.write_text("\\n".join(map(json.dumps, self.lines)))

def broken(folder):
    raise OSError("no room")

def other(folder):
    return [folder]

class Stops(Lines):
    def points(self, step, values):
        if step == 5 and (self.folder / "stop").exists():
            raise ValueError("five")
        super().points(step, values)
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.fixture
def copy(mixed_folder: Path, tmp_path: Path) -> Path:
    """A study whose files a test may change."""
    shutil.copytree(mixed_folder, tmp_path / "study")
    return tmp_path / "study"


def with_records(study: Study) -> list[str]:
    return [trial.id for trial in study.trials if trial.status != "not started"]


def test_every_figure_of_every_trial_comes_once(mixed_folder: Path, mixed: Study) -> None:
    memory: Logger = (found := Memory())
    assert log_study(mixed_folder, memory) == found.begun == with_records(mixed)
    assert found.curves == {trial: stored(mixed_folder, trial) for trial in found.begun}
    assert sum(map(len, found.curves.values())) > 1000


def test_a_logger_is_told_what_a_trial_is_and_how_it_ended(mixed_folder: Path, mixed: Study) -> None:
    memory = Memory()
    log_study(mixed_folder, memory)
    document = json.loads((mixed_folder / "study.json").read_text(encoding="utf-8"))
    for trial in (trial for trial in mixed.trials if trial.id in memory.trials):
        told = memory.trials[trial.id]
        assert (told.optimizer, told.seed, told.phase) == (trial.optimizer, trial.seed, "evaluation")
        assert told.hyperparameters == {**trial.options, "schedule": ""}
        assert told.study == document["name"]
        assert (told.config["workload"], told.config["epochs"]) == (document["workload"], document["config"]["epochs"])
        status, results = memory.ends[trial.id]
        assert status == trial.status
        assert set(results) == ({"test_loss", "test_accuracy"} if status == "finished" else set())
    assert {status for status, _ in memory.ends.values()} == {"finished", "diverged", "failed", "interrupted"}


def test_behaviour_and_logged_figures_come_under_their_names(copy: Path, mixed: Study) -> None:
    trial = with_records(mixed)[0]
    sample = {name: number for number, name in enumerate(("gradient_norm", "update_norm", "weight_norm", "cosine"))}
    records = [
        {"kind": "behaviour", "step": 3, "epoch": 1, **sample, "layers": {"0.weight": [1.5, 2.5, 3.5, "nan"]}},
        {"kind": "log", "step": 3, "epoch": 1, "loss": 9.25},
    ]
    path = copy / "trials" / f"{trial}.jsonl"
    path.write_text("".join([path.read_text(encoding="utf-8"), *(json.dumps(each) + "\n" for each in records)]))
    memory = Memory()
    log_study(copy, memory)
    curves = memory.curves[trial]
    assert curves == stored(copy, trial)
    assert (curves["update_norm/all", 3], curves["cosine/0.weight", 3], curves["log/loss", 3]) == ("1.0", "nan", "9.25")


def test_the_search_comes_after_the_evaluation_and_when_asked(tuned_folder: Path, tuned: Findings) -> None:
    evaluated, both = Memory(), Memory()
    log_study(tuned_folder, evaluated)
    log_study(tuned_folder, both, search=True)
    assert {trial.phase for trial in evaluated.trials.values()} == {"evaluation"}
    assert both.begun[: len(evaluated.begun)] == evaluated.begun
    assert both.begun[len(evaluated.begun) :] == [trial.id for trial in tuned.study.search_trials]
    for trial in both.begun:
        assert both.curves[trial] == stored(tuned_folder, trial)


def test_an_export_brings_logs_up_to_date(copy: Path, mixed: Study, own: Path, tmp_path: Path) -> None:
    """A trial that is cut in the middle, as one that runs, then goes on: the logs are those of the whole study."""
    source, out = f"{own}:Lines", tmp_path / "out"
    trial = with_records(mixed)[0]
    path = copy / "trials" / f"{trial}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    place, logged = log_into(copy, source, out)
    assert (place, logged) == (out / "Lines", with_records(mixed))
    half = (place / f"{trial}.jsonl").read_text()
    assert half.splitlines()[-1] == '["interrupted", {}]'
    assert log_into(copy, source, out) == (place, [])
    path.write_bytes(whole)
    assert log_into(copy, source, out) == (place, [trial])
    log_into(copy, source, tmp_path / "at once")
    files = sorted(place.glob("*.jsonl"))
    assert len(files) == len(with_records(mixed))
    for file in files:
        assert file.read_bytes() == (tmp_path / "at once" / "Lines" / file.name).read_bytes()
    assert len((place / f"{trial}.jsonl").read_text()) > len(half)


def test_a_trial_at_which_a_logger_stopped_comes_again(
    mixed_folder: Path, mixed: Study, own: Path, tmp_path: Path
) -> None:
    source, place = f"{own}:Stops", tmp_path / "Stops"
    place.mkdir()
    (place / "stop").touch()
    message = rf"the logger Stops stopped at trial {with_records(mixed)[0]} with ValueError: five"
    with pytest.raises(StudyError, match=message):
        log_into(mixed_folder, source, tmp_path)
    (place / "stop").unlink()
    assert log_into(mixed_folder, source, tmp_path)[1] == with_records(mixed)


def test_two_loggers_of_one_name_both_get_all(mixed_folder: Path, mixed: Study, own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(OWN, encoding="utf-8")
    log_into(mixed_folder, f"{own}:Lines", tmp_path)
    assert log_into(mixed_folder, f"{other}:Lines", tmp_path)[1] == with_records(mixed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", "a logger is one of tensorboard, mlflow, wandb, or one of yours as MODULE:NAME or FILE.py:NAME"),
        ("{own}:Line", "own.py has no class or function 'Line'; a logger is one with begin_trial"),
        ("{own}:broken", "own.py:broken stopped with OSError: no room when it got its folder"),
        ("{own}:other", "a list was given as a logger and lacks begin_trial, points, end_trial"),
        (
            "no_such_module:Lines",
            "cannot import 'no_such_module' for the logger 'no_such_module:Lines': No module",
        ),
        ("{own}x.py:Lines", "there is no file"),
    ],
)
def test_what_is_no_logger_is_refused(mixed_folder: Path, own: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        log_into(mixed_folder, name.format(own=own), tmp_path)


def test_a_logger_of_a_module(
    mixed_folder: Path, mixed: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Memory] = []

    class Remembered(Memory):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            made.append(self)

    monkeypatch.setattr("logged.Remembered", Remembered, raising=False)
    log_into(mixed_folder, "logged:Remembered", tmp_path)
    assert (made[0].folder, made[0].begun) == (tmp_path / "Remembered", with_records(mixed))


def test_an_object_without_the_methods_is_refused(mixed_folder: Path) -> None:
    with pytest.raises(UsageError, match="a dict was given as a logger and lacks begin_trial"):
        log_study(mixed_folder, {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "package", "tool"),
    [
        ("tensorboard", "tensorboard", "TensorBoard"),
        ("mlflow", "sqlalchemy", "MLflow"),
        ("wandb", "wandb", "Weights & Biases"),
    ],
)
def test_a_missing_package_is_named(
    mixed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, tool: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"{tool} needs {package}, which is not installed: pip install 'steepest\[{name}\]'"
    with pytest.raises(ReportError, match=message):
        log_into(mixed_folder, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_logger_is_tried_with_its_package() -> None:
    """tests/adapters/test_loggers.py does that."""
    assert set(LOGGERS) == {"tensorboard", "mlflow", "wandb"}


def test_a_logger_needs_nothing_but_the_methods(mixed_folder: Path) -> None:
    class Counts:
        points_seen = 0

        def begin_trial(self, trial: LoggedTrial) -> None: ...

        def points(self, step: int, values: Mapping[str, float]) -> None:
            self.points_seen += len(values)

        def end_trial(self, status: str, results: Mapping[str, float]) -> None: ...

    counts, memory = Counts(), Memory()
    log_study(mixed_folder, counts)
    log_study(mixed_folder, memory)
    assert counts.points_seen == sum(map(len, memory.curves.values())) > 0
