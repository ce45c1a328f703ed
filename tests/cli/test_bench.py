"""`steepest bench step`: what it prints, saves and refuses. Never how fast anything is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from steepest import registry
from steepest.bench import cases, first_step, timing
from steepest.bench.first_step import FirstStep
from steepest.cli import bench

QUICK = ("bench", "step", "sgd", "adam", "--case", "tiny", "--no-peers", "--rounds", "2")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cases.CASES, "tiny", cases.Case("tiny", "two tensors", lambda: iter([(2, 3), (5,)]), 2))
    monkeypatch.setattr(timing, "SHORTEST_SAMPLE", 0.0)
    monkeypatch.setattr(
        first_step,
        "measure",
        lambda recipe, implementation, device: FirstStep(
            recipe.label, implementation.source, implementation.mode, 0.5, 0.01
        ),
    )


def test_a_run_prints_tables_and_saves(steepest: Any) -> None:
    answer = steepest(*QUICK, "--modes", "loop,foreach", "--json", "out.json")
    assert answer.code == 0
    assert "[1/2] tiny: SGD\n[2/2] tiny: Adam\n" in answer.err
    assert re.search(r"^machine +\S.*cores", answer.out, re.MULTILINE)
    assert "tiny: two tensors (2 tensors, 11 floats, 2 rounds)" in answer.out
    for who in ("steepest loop +reference", "steepest foreach +foreach", "torch fused", "in-place add"):
        assert len(re.findall(rf"{who} +\d[\d.]+ (µs|ms|s) +\d.* – ", answer.out)) == 2, who
    assert re.search(r"SGD +steepest loop +500 ms +10.0 ms", answer.out)
    assert answer.out.endswith("saved: out.json\n")
    saved = json.loads(Path("out.json").read_text())
    assert saved["complete"]
    assert [group["rule"] for group in saved["groups"]] == ["SGD", "Adam"]
    assert saved["command"].startswith("steepest bench step sgd adam --case tiny")
    assert saved["machine"]["threads"] == torch.get_num_threads()
    assert len(saved["first_steps"]) == 2 * 5


def test_what_could_not_run_is_told_with_its_reason(steepest: Any) -> None:
    answer = steepest(*QUICK, "adam[eps_in_sqrt=true]", "--modes", "loop", "--no-first-step")
    assert answer.code == 0
    reason = "ValueError: Adam has no option 'eps_in_sqrt'"
    modes = "torch loop, torch foreach, torch fused"
    assert f"not available: {modes} (Adam[eps_in_sqrt=true]): {reason}\n" in answer.out


def test_a_run_without_any_of_ours_is_a_failure(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("steepest.bench.implementations._build_own", broken)
    answer = steepest(*QUICK, "--modes", "fused", "--no-first-step")
    assert answer.code == 1
    assert "not available: steepest fused (SGD, Adam): RuntimeError: no kernel" in answer.out
    assert "Error: none of Steepest's modes that take part could run: Adam, SGD" in answer.err


def test_an_interruption_keeps_what_was_finished(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.run_group

    def interrupted(case: Any, rule: str, *rest: Any) -> Any:
        if rule == "Adam":
            raise KeyboardInterrupt
        return run(case, rule, *rest)

    monkeypatch.setattr(bench, "run_group", interrupted)
    answer = steepest(*QUICK, "--json", "out.json")
    assert answer.code == 130
    assert "tiny: two tensors" in answer.out
    assert re.search(r"^SGD ", answer.out, re.MULTILINE)
    assert "1 group of 2; they are saved in out.json" in answer.err
    saved = json.loads(Path("out.json").read_text())
    assert not saved["complete"]
    assert [group["rule"] for group in saved["groups"]] == ["SGD"]


def test_threads_are_set(steepest: Any) -> None:
    before = torch.get_num_threads()
    try:
        answer = steepest(*QUICK, "--threads", "2", "--no-first-step", "--modes", "loop")
        assert "running    2 threads on cpu" in answer.out
    finally:
        torch.set_num_threads(before)


def test_rules_that_need_a_closure_are_named(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: registry.find(name) for name in ("adam", "sgd", "sparseadam", "steepestdescent")}
    monkeypatch.setattr(registry, "optimizers", lambda: few)
    answer = steepest("bench", "step", "--case", "tiny", "--rounds", "1", "--modes", "loop", "--no-first-step")
    assert answer.code == 0
    assert "left out   SteepestDescent: asks for new gradients during its step" in answer.out
    assert "left out   SparseAdam: takes sparse gradients alone" in answer.out
    assert re.search(r"^peers +.*; not installed: ", answer.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("adaam", "unknown optimizer 'adaam'; did you mean 'adam'?"),
        ("steepestdescent", "rules that take plain gradients: ada"),
        ("sparseadam", "takes sparse gradients alone, and those of all cases are dense; rules that take plain"),
        ("sgd --case smal", "unknown case 'smal'; did you mean 'small'? (there are: small, matrices"),
        ("sgd --modes loop,fusd", "unknown mode 'fusd'; did you mean 'fused'?"),
        ("sgd --rounds 0", "--rounds must be at least 1, not 0"),
        ("sgd --threads 0", "--threads must be at least 1, not 0"),
        ("sgd --device tpu", "unknown device 'tpu'"),
        ("sgd --json nowhere/out.json", "there is no folder nowhere; make it first"),
        ("sgd --json .", "--json . is a folder; give a file in it"),
        ("sgd --jsn out.json", "--jsn"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(steepest: Any, arguments: str, told: str) -> None:
    answer = steepest("bench", "step", *arguments.split())
    assert answer.code == 2
    assert told in answer.err
    assert answer.out == ""


def test_the_library_does_not_load_the_benchmark() -> None:
    program = "import sys, steepest; print([name for name in sys.modules if name.startswith('steepest.bench')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
