"""First steps run in processes of their own, which share a cache folder that is empty at first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from steepest.bench.implementations import Implementation, implementations

from steepest import registry
from steepest.bench import first_step

ADAM = registry.parse("adam[betas=(0.5,0.6)]")


def loop() -> Implementation:
    return implementations(ADAM, ["loop"], peers=False)[0]


def test_a_process_of_its_own_takes_the_step(tmp_path: Path) -> None:
    assert first_step.in_process(ADAM, loop(), "cpu", tmp_path) > 0


def test_cold_and_warm_share_one_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, list[str]]] = []

    def run(recipe: Any, implementation: Any, device: str, cache: Path) -> float:
        seen.append((cache, [path.name for path in cache.iterdir()]))
        (cache / "compiled").touch()
        return float(len(seen))

    monkeypatch.setattr(first_step, "in_process", run)
    measured = first_step.measure(ADAM, loop(), "cpu")
    assert (measured.cold, measured.warm, measured.unavailable) == (1.0, 2.0, None)
    assert [found for _, found in seen] == [[], ["compiled"]]
    assert seen[0][0] == seen[1][0]
    assert not seen[0][0].exists()


def test_caches_are_kept_where_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        given.update(options, command=command)
        return subprocess.CompletedProcess(command, 0, 'chatter of a peer\n{"seconds": 0.25}\n', "")

    monkeypatch.setattr(subprocess, "run", run)
    assert first_step.in_process(ADAM, loop(), "cpu", tmp_path) == 0.25
    assert all(Path(given["env"][name]).is_relative_to(tmp_path) for name in first_step.CACHES)
    assert given["command"][:3] == [sys.executable, "-m", "steepest.bench.first_step"]
    assert given["command"][3:] == ["adam", "{'betas': (0.5, 0.6)}", "steepest loop", "cpu"]


def test_the_process_prints_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    first_step.main(["adam", "{'betas': (0.5, 0.6)}", "steepest loop", "cpu"])
    assert json.loads(capsys.readouterr().out)["seconds"] > 0


def test_a_failure_is_reported_by_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nRuntimeError: no kernel\n")

    monkeypatch.setattr(subprocess, "run", run)
    measured = first_step.measure(ADAM, loop(), "cpu")
    assert (measured.cold, measured.unavailable) == (None, "RuntimeError: no kernel")


def test_a_step_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert first_step.measure(ADAM, loop(), "cpu").unavailable == "it took more than 300 s"
