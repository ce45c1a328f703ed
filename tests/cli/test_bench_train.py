"""`steepest bench train`: what it prints, saves and refuses. Never how fast anything is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.support import TINY_TRAINING
from steepest.bench import timing
from steepest.bench.train import cases
from steepest.cli import bench_train

TINY = ("--case", "tiny", "--rounds", "2")
QUICK = ("bench", "train", "sgd", "adam", "--no-compile", "--no-memory", *TINY)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cases.CASES, "tiny", TINY_TRAINING)
    monkeypatch.setattr(timing, "SHORTEST_SAMPLE", 0.0)
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")


def test_a_run_prints_times_and_saves(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    answer = steepest(*QUICK, "--json", "out.json")
    assert answer.code == 0
    assert "[1/2] tiny: SGD\n[2/2] tiny: Adam\n" in answer.err
    assert re.search(r"^machine +\S.*cores", answer.out, re.MULTILINE)
    assert "tiny: a perceptron (4 examples, 2 rounds)" in answer.out
    assert "memory of a training step" not in answer.out
    for who in ("steepest default", "torch default", "torch fused"):
        assert len(re.findall(rf"no +{who} .*\d (µs|ms|s) +\d.* – .*x +\d+\.\d%", answer.out)) == 2, who
    assert answer.out.endswith("saved: out.json\n")
    saved = json.loads(Path("out.json").read_text())
    assert saved["complete"]
    assert [(group["rule"], len(group["entries"])) for group in saved["groups"]] == [("SGD", 3), ("Adam", 3)]
    assert saved["command"].startswith("steepest bench train sgd adam --no-compile")
    assert saved["machine"]["threads"] == torch.get_num_threads()


def test_memory_is_shown_of_each_state_with_the_step_after_and_in_the_backward_pass(steepest: Any) -> None:
    answer = steepest("bench", "train", "adam", "--no-compile", *TINY, "--batch", "3")
    assert answer.code == 0
    assert "tiny: a perceptron (3 examples, 2 rounds)" in answer.out
    assert "tiny: memory of a training step (3 examples)" in answer.out
    for where in ("after backward", "in backward"):
        for who in ("steepest default +float32", "steepest default +int8", "torch default +float32"):
            assert re.search(rf"{who} +{where} +\d\.\d\d MiB +\d\.\d\d MiB$", answer.out, re.MULTILINE), who


def test_a_compiler_that_fails_is_a_note_below_the_other_rows(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(training: cases.Training) -> cases.Training:
        raise RuntimeError("No working C++ compiler")

    monkeypatch.setattr(cases.Training, "compiled", broken)
    answer = steepest("bench", "train", "sgd", "adam", "--no-memory", *TINY)
    assert answer.code == 0
    assert re.search(r"^SGD +no +(steepest|torch) ", answer.out, re.MULTILINE)
    (line,) = (line for line in answer.out.splitlines() if line.startswith("not available"))
    assert line.startswith("not available: steepest default [compiled: model], torch default [compiled: model], ")
    assert line.endswith(" [compiled: model+step] (SGD, Adam): RuntimeError: No working C++ compiler")


def test_a_run_without_any_of_ours_is_a_failure(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("steepest.bench.implementations._build_own", broken)
    answer = steepest(*QUICK)
    assert answer.code == 1
    assert "not available: steepest default [compiled: no] (SGD, Adam): RuntimeError: no kernel" in answer.out
    assert "Error: none of Steepest's modes that take part could run: Adam, SGD" in answer.err


def test_a_model_that_cannot_train_on_the_batch_says_why(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (torch.nn.Linear(8, 3), torch.nn.BatchNorm1d(3))
    monkeypatch.setitem(cases.CASES, "tiny", replace(TINY_TRAINING, model=lambda: torch.nn.Sequential(*layers)))
    answer = steepest(*QUICK, "--batch", "1")
    assert answer.code == 1
    assert "(SGD, Adam): ValueError: Expected more than 1 value per channel when training" in answer.out


def test_an_interruption_keeps_what_was_finished(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench_train.run_group

    def interrupted(case: Any, rule: str, *rest: Any) -> Any:
        if rule == "Adam":
            raise KeyboardInterrupt
        return run(case, rule, *rest)

    monkeypatch.setattr(bench_train, "run_group", interrupted)
    answer = steepest(*QUICK, "--json", "out.json")
    assert answer.code == 130
    assert "tiny: a perceptron" in answer.out
    assert "1 group of 2; they are saved in out.json" in answer.err
    saved = json.loads(Path("out.json").read_text())
    assert not saved["complete"]
    assert [group["rule"] for group in saved["groups"]] == ["SGD"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("adaam", "unknown optimizer 'adaam'; did you mean 'adam'?"),
        ("sgd --case gpt-10", "unknown case 'gpt-10'; did you mean 'gpt-10m'? (there are: digits-mlp"),
        ("sgd --rounds 0", "--rounds must be at least 1, not 0"),
        ("sgd --batch 0", "--batch must be at least 1, not 0"),
        ("sgd --threads 0", "--threads must be at least 1, not 0"),
        ("sgd --device tpu", "unknown device 'tpu'"),
        ("sgd --json nowhere/out.json", "there is no folder nowhere; make it first"),
        ("sgd --json .", "--json . is a folder; give a file in it"),
        ("sgd --no-compil", "--no-compil"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(steepest: Any, arguments: str, told: str) -> None:
    answer = steepest("bench", "train", *arguments.split())
    assert answer.code == 2
    assert told in answer.err
    assert answer.out == ""
