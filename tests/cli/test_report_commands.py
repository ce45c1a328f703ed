"""`steepest report --watch` and `steepest export`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from steepest.cli import reporting, upkeep

WRITE = reporting.write
FOLDER = "studies/digits-smoke"


@pytest.fixture
def stored(steepest: Any, no_report: None) -> Path:
    steepest("study", "digits", "--preset", "smoke", "--timing-rounds", "0", "-o", "sgd")
    return Path(FOLDER)


def test_export_writes_csv_unless_asked_for_others(steepest: Any, stored: Path) -> None:
    answer = steepest("export", FOLDER)
    files = list((stored / "export").iterdir())
    assert (answer.code, answer.out) == (0, f"export: {FOLDER}/export ({len(files)} files)\n")
    assert {file.suffix for file in files} == {".csv"}
    answer = steepest("export", FOLDER, "--latex", "--markdown", "--out", "elsewhere")
    assert answer.code == 0
    assert {file.suffix for file in Path("elsewhere").iterdir()} == {".md", ".tex"}


LOGGER = """
class Names:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin_trial(self, trial):
        (self.folder / trial.id).touch()

    def points(self, step, values):
        pass

    def end_trial(self, status, results):
        pass
"""


def test_export_brings_the_logs_of_a_logger_up_to_date(steepest: Any, stored: Path) -> None:
    Path("own.py").write_text(LOGGER, encoding="utf-8")
    command, place = ("export", FOLDER, "--logger", "own.py:Names"), stored / "export" / "Names"
    (trial,) = stored.glob("trials/*-evaluation-*")
    assert steepest(*command).out == f"export: {place} (1 trial new or changed)\n"
    assert [path.name for path in place.glob("[!.]*")] == [trial.stem]
    assert not list((stored / "export").glob("*.csv"))
    assert steepest(*command).out == f"export: {place} (0 trials new or changed)\n"
    answer = steepest(*command, "--csv", "--out", "there")
    assert answer.out.splitlines()[-1] == "export: there/Names (1 trial new or changed)"
    assert list(Path("there").glob("*.csv"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--search",), "--search is for --tensorboard, --mlflow, --wandb and --logger"),
        (("--watch", "--every", "-1"), "--every takes a number of seconds above 0, not -1"),
        (("--logger", "tensorbord"), "a logger is one of tensorboard, mlflow, wandb, or one of yours"),
    ],
)
def test_wrong_usage_of_export(steepest: Any, stored: Path, more: tuple[str, ...], message: str) -> None:
    answer = steepest("export", FOLDER, *more)
    assert answer.code == 2
    assert message in answer.err


def test_export_without_a_logger_s_package_names_the_extra(
    steepest: Any, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    answer = steepest("export", FOLDER, "--wandb")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.endswith("Weights & Biases needs wandb, which is not installed: pip install 'steepest[wandb]'.\n")


def test_export_watches_until_ctrl_c(steepest: Any, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks: before the second a record has grown. After Ctrl-C there is a last one."""
    Path("own.py").write_text(LOGGER, encoding="utf-8")
    record, looks = next(stored.glob("trials/*-evaluation-*")), itertools.count(1)

    def sleep(seconds: float) -> None:
        record.write_bytes(record.read_bytes() + b"\n")
        if next(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(upkeep.time, "sleep", sleep)
    answer = steepest("export", FOLDER, "--logger", "own.py:Names", "--watch")
    assert answer.code == 0
    assert answer.out.splitlines() == 3 * [f"export: {stored}/export/Names (1 trial new or changed)"]


@pytest.mark.parametrize("command", [("export", "."), ("report", ".", "--watch")])
def test_a_folder_without_a_study_is_wrong_usage(steepest: Any, command: tuple[str, ...]) -> None:
    answer = steepest(*command)
    assert answer.code == 2
    assert "is not a study folder: it has no study.json" in answer.err


@pytest.mark.parametrize(
    ("more", "message"),
    [(("--every", "0"), "--every takes a number of seconds above 0, not 0"), ((FOLDER,), "--watch is for the folder")],
)
def test_wrong_usage_of_watch(steepest: Any, stored: Path, more: tuple[str, ...], message: str) -> None:
    answer = steepest("report", FOLDER, "--watch", *more)
    assert answer.code == 2
    assert message in answer.err


def test_watch_writes_the_page_when_records_change_and_the_report_at_the_end(
    steepest: Any, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three looks: the second finds nothing new, before the third a record has grown. Then comes Ctrl-C."""
    looks, pages, page = itertools.count(1), [], stored / "report" / "index.html"

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        pages.append(page.read_text())
        look = next(looks)
        if look == 2:
            record = next(stored.glob("trials/*"))
            record.write_bytes(record.read_bytes() + b"\n")
        if look == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(upkeep.time, "sleep", sleep)
    monkeypatch.setattr(reporting, "write", lambda folder: page)
    answer = steepest("report", FOLDER, "--watch", "--every", "0.5")
    assert answer.code == 0
    assert answer.out.count(str(page)) == 3
    assert answer.out.endswith(f"report: {page}\n")
    assert all('<meta http-equiv="refresh" content="0.5">' in each for each in pages)


def test_a_report_is_not_read_again_by_itself(steepest: Any, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "write", WRITE)
    assert steepest("report", FOLDER).code == 0
    assert "http-equiv" not in (stored / "report" / "index.html").read_text()
