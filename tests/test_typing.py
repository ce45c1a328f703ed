"""Type checkers know the constructors: right calls pass, wrong ones are errors, in mypy and in pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steepest
from steepest import registry

ROOT = Path(__file__).parents[1]
CALLS = ROOT / "tests" / "typing" / "calls.py"
REFUSED = {n for n, line in enumerate(CALLS.read_text(encoding="utf-8").splitlines(), 1) if "# refused" in line}


def run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT).stdout


def test_mypy() -> None:
    """With the project's settings, so that the cache of `make types` serves."""
    out = run([sys.executable, "-m", "mypy", str(CALLS)])
    assert {int(n) for n in re.findall(r"calls\.py:(\d+): error", out)} == REFUSED, out


def test_pyright(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="pyright is not installed")
    settings = tmp_path / "pyrightconfig.json"
    settings.write_text(json.dumps({"include": [str(CALLS)], "typeCheckingMode": "standard"}), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    out = run([*command, "--project", str(settings)])
    found = json.loads(out)["generalDiagnostics"]
    assert {d["range"]["start"]["line"] + 1 for d in found if d["severity"] == "error"} == REFUSED, out


def test_the_names_for_type_checkers_are_those_that_are_found() -> None:
    found = {cls.__name__ for cls in registry.optimizers().values()}
    text = Path(steepest.__file__).read_text(encoding="utf-8")
    static = set(re.findall(r"^    from \.\w+\.\w+ import (.+)$", text, re.MULTILINE))
    assert {name.split(" as ")[0] for line in static for name in line.split(", ")} == found
    others = {"Field", "LrRange", "Optimizer", "Rule", "State", "__version__"}
    others |= {"check_replicas", "create", "groups", "info", "lr_range", "names", "schedules", "update_bn"}
    others |= {"PostHocEMA", "PowerLaw", "Snapshots"}
    others |= {"ASAM", "GSAM", "Mechanic", "SAM"}  # around an optimizer, so not among those that have names
    assert set(steepest.__all__) == found | others
    assert all(getattr(steepest, name).__name__ == name for name in found)


def test_an_unknown_class_gets_the_close_match() -> None:
    with pytest.raises(AttributeError, match=r"module 'steepest' has no attribute 'Adamw'; did you mean 'AdamW'\?"):
        steepest.Adamw  # noqa: B018
    assert set(steepest.__all__) <= set(dir(steepest))
