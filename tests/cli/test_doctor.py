from pathlib import Path
from typing import Any

import pytest

from steepest.study import doctor
from steepest.study.data import fashion_mnist
from steepest.study.errors import DataError


def checks(folder: Path) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(folder)}


def test_the_doctor_looks_at_everything(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "find", lambda: None)
    answer = steepest("doctor")
    assert answer.code == 0
    for name in ("python", "torch", "machine", "threads", "C compiler", "disk", "writable"):
        assert f"{name}: " in answer.out
    assert "warn fashion-mnist: not found (steepest data fetch fashion-mnist)" in answer.out


def test_damaged_data_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise DataError("x.gz is truncated")

    monkeypatch.setattr(fashion_mnist, "find", damaged)
    check = checks(tmp_path)["fashion-mnist"]
    assert (check.good, check.found) == (False, "x.gz is truncated")


def test_the_compiler_is_the_one_that_cc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "find", lambda: None)
    compiler = tmp_path / "my-compiler"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -O2")
    assert checks(tmp_path)["C compiler"].found == str(compiler)
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not checks(tmp_path)["C compiler"].good


def test_too_many_threads_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "find", lambda: None)
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    check = checks(tmp_path)["threads"]
    assert not check.good
    assert "OMP_NUM_THREADS" in check.advice
