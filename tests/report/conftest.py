from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_study import MIXED, TUNED, Plan, write_study

from steepest.study.report import write_report
from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Study


@pytest.fixture(scope="session")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every status and a torn line, with its report."""
    folder = write_study(tmp_path_factory.mktemp("mixed"), MIXED)
    assert write_report(folder) == folder / "report" / "index.html"
    return folder


@pytest.fixture(scope="session")
def mixed(mixed_folder: Path) -> Study:
    return read_study(mixed_folder)


@pytest.fixture(scope="session")
def tuned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned study with every stage, every status, a skipped optimizer and a restarted trial."""
    return write_study(tmp_path_factory.mktemp("tuned"), TUNED)


@pytest.fixture(scope="session")
def tuned(tuned_folder: Path) -> Findings:
    return findings(read_study(tuned_folder))


@pytest.fixture
def found(tmp_path: Path) -> Callable[[Plan], Findings]:
    """Write a study by plan and find what follows from it."""
    return lambda plan: findings(read_study(write_study(tmp_path, plan)))


@pytest.fixture
def study(tmp_path: Path) -> Callable[[Plan], Study]:
    """Write a study by plan and read it back."""
    return lambda plan: read_study(write_study(tmp_path, plan))
