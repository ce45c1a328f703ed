"""What is saved is complete, is JSON, and replaces the old file as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steepest.bench import document, machine
from steepest.bench.first_step import FirstStep
from steepest.bench.plan import make_plan

from .test_group import GROUP


def content(**changed: Any) -> dict[str, Any]:
    plan = make_plan(["sgd"], ["small"])
    steps = [FirstStep("SGD", "steepest", "default", 0.2, 0.1)]
    return document.document(plan, [GROUP], steps, {"commit": None}, **{"complete": True, **changed})


def test_samples_and_what_follows_from_them(tmp_path: Path) -> None:
    document.write(tmp_path / "out.json", content())
    saved = json.loads((tmp_path / "out.json").read_text())
    assert (saved["schema"], saved["kind"], saved["complete"]) == (1, "steepest bench step", True)
    assert saved["plan"]["cases"]["small"] == {
        "title": "100 tensors of 1,000 floats",
        "tensors": 100,
        "elements": 100_000,
    }
    entry = saved["groups"][0]["entries"][0]
    assert entry["samples"] == [1.0, 2.0, 3.0]
    assert (entry["low"], entry["median"], entry["high"]) == (1.5, 2.0, 2.5)
    assert (entry["times_faster_than_torchs_best"], entry["of_in_place_add"]) == (3.0, 50 / 80)
    assert saved["groups"][0]["entries"][-1] == {
        "source": "steepest",
        "mode": "fused",
        "unavailable": "RuntimeError: none",
    }
    assert saved["first_steps"][0]["cold"] == 0.2


def test_every_key_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    saved = content()
    described = {*saved, *saved["plan"], *saved["groups"][0], *saved["first_steps"][0]}
    entries = {key for entry in saved["groups"][0]["entries"] for key in entry}
    facts = set(machine.describe("cpu"))
    assert [key for key in sorted(described | entries | facts) if f"`{key}`" not in page] == []


def test_a_write_that_fails_leaves_the_old_document(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    document.write(path, content(complete=False))
    before = path.read_text()
    with pytest.raises(TypeError):
        document.write(path, {"bad": object()})
    with pytest.raises(ValueError, match="JSON"):
        document.write(path, {"bad": float("nan")})
    assert path.read_text() == before


def test_the_machine_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, (level, kind, size) in enumerate([("1", "Data", "48K"), ("2", "Unified", "2048K")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(value + "\n")
    (tmp_path / "index2").mkdir()  # a cache that the system says nothing about
    assert dict(machine.caches(tmp_path)) == {"L1 Data": "48K", "L2 Unified": "2048K"}
    fake = tmp_path / "my cc"
    fake.write_text("#!/bin/sh\necho my compiler 1.2; echo more\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CC", f"'{fake}' -O2")
    assert machine.compiler() == "my compiler 1.2"
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compiler() is None
