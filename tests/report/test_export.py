"""Exports: every number that is written is the study's, in each format, and what cannot be written says so."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from steepest.study.report import ReportError
from steepest.study.report.export import CURVES, FORMATS, LOSSES, export
from steepest.study.report.stored.study import Study


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def curves(study: Study) -> set[tuple[str, int, str, float]]:
    """Trial, step, figure and value of every evaluation."""
    return {
        (trial.id, epoch.step, name, value)
        for trial in study.trials
        for epoch in trial.epochs
        for name, value in epoch.values.items()
        if name != "epoch"
    }


def losses(study: Study) -> set[tuple[str, int, str]]:
    """As text, so that the NaN of a diverged trial is equal to itself."""
    return {
        (trial.id, int(step), repr(loss))
        for trial in study.trials
        for step, loss in zip(trial.steps.tolist(), trial.losses.tolist(), strict=True)
    }


def test_csv_has_every_evaluation_and_every_loss(mixed_folder: Path, mixed: Study, tmp_path: Path) -> None:
    files = export(mixed_folder, ["csv"], tmp_path)
    assert {file.suffix for file in files} == {".csv"}
    assert {"results.csv", "trials.csv", "curves.csv", "losses.csv"} <= {file.name for file in files}
    found = rows(tmp_path / "curves.csv")
    assert tuple(found[0]) == CURVES
    assert {(row["trial"], int(row["step"]), row["figure"], float(row["value"])) for row in found} == curves(mixed)
    steps = rows(tmp_path / "losses.csv")
    assert tuple(steps[0]) == LOSSES
    assert {(row["trial"], int(row["step"]), repr(float(row["loss"]))) for row in steps} == losses(mixed)
    assert len(steps) == sum(len(trial.steps) for trial in mixed.trials) > 0


def test_tables_are_those_of_the_report(mixed_folder: Path, tmp_path: Path) -> None:
    files = export(mixed_folder, ["markdown", "latex"], tmp_path)
    for file in files:
        assert file.read_bytes() == (mixed_folder / "report" / "tables" / file.name).read_bytes()
    assert {file.suffix for file in files} == {".md", ".tex"}


def test_parquet(mixed_folder: Path, mixed: Study, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pandas = pytest.importorskip("pandas")
    export(mixed_folder, ["parquet"], tmp_path)
    frame: Any = pandas.read_parquet(tmp_path / "curves.parquet")
    assert tuple(frame.columns) == CURVES
    assert set(zip(frame.trial, frame.step, frame.figure, frame.value, strict=True)) == curves(mixed)


def test_a_missing_package_is_named(mixed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ReportError, match=r"--parquet needs pyarrow, which is not installed: pip install pyarrow"):
        export(mixed_folder, ["parquet"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(mixed_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("")
    with pytest.raises(ReportError, match=r"in_the_way.* could not be written"):
        export(mixed_folder, ["csv"], tmp_path / "in_the_way")


def test_every_format_is_tried_here() -> None:
    assert set(FORMATS) == {"csv", "markdown", "latex", "parquet"}
