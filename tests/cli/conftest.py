"""The command line, called in this process as the command `steepest` would call it."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from quick import brief_timing  # noqa: F401 - a fixture
from steepest.cli import reporting
from steepest.cli.main import main
from steepest.study.running.worker_limits import WorkerLimits


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def steepest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `steepest ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    # Trials run in this process: tests change what is in it, and worker processes have their own tests.
    monkeypatch.setattr(WorkerLimits, "workers", lambda *_: nullcontext())
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["steepest", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: figures take seconds, and they have their own tests."""
    monkeypatch.setattr(reporting, "write", lambda folder: folder / "report" / "index.html")
