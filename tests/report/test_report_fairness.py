"""The fairness lists and the methods say what the stored plan and records say, and nothing else."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_study import TUNED, Plan, write_study

from steepest.study.report.findings.findings import Findings, findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.fairness import fairness
from steepest.study.report.text.methods import methods


def _changed(folder: Path, change: Callable[[dict[str, Any]], object], plan: Plan = TUNED) -> Findings:
    """The findings of a study whose plan was tampered with."""
    write_study(folder, plan)
    document = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    change(document)
    (folder / "study.json").write_text(json.dumps(document), encoding="utf-8")
    return findings(read_study(folder))


def test_what_held_is_called_controlled(tuned: Findings) -> None:
    controlled = " ".join(fairness(tuned).controlled)
    for words in (
        "all 5 optimizers ran on the same 8 seeds (0–7)",
        "none of them the optimizer's: dropout, init, order and split",
        "read once by every reported trial",
        "every searched optimizer tried 8 points and its library defaults, on 2 tuning seeds",
        "No seed of the search is among those that are reported.",
        "every chosen point has the best mean score of its search",
        "all that finished took 72 steps; of the points, 2 diverged and 1 failed",
        "One learning-rate schedule for all: cosine.",
        "every finished trial took 72 steps of 250 examples",
        "2 threads on one machine (Some CPU @ 2.90GHz)",
        "a timing pass of 3 rounds",
    ):
        assert words in controlled, words


def test_what_is_never_covered_is_said(tuned: Findings) -> None:
    uncontrolled = " ".join(fairness(tuned).uncontrolled)
    for words in (
        "They do not cover a new test sample (the 2,000 test examples) nor a new draw of the search.",
        "The search was drawn once, and its points were scored on 2 tuning seeds",
        "(exponential, 10 seeds, simulated) 90.5% covered the truth where 95% was claimed",
        "Only lr was searched, within the ranges listed below.",
        "The best rate lies at the edge of what was tried for SGD and Momentum.",
        "2 trials without a result",
        "1 trial of Adam began again from the start",
        "One workload, one horizon of 3 epochs, one machine",
    ):
        assert words in uncontrolled, words


@pytest.mark.parametrize(
    ("change", "gone", "said"),
    [
        (
            lambda plan: plan["chosen"]["Adam"].update(point=1),
            "best mean score of its search",
            "The chosen point is not the one with the best validation score for Adam.",
        ),
        (
            lambda plan: plan["optimizers"][2]["points"].pop(),
            "Equal tuning",
            "The searches differ in size: SGD 8, Momentum 8, Adam 7, AdamW 8 and Lion 8.",
        ),
        (
            lambda plan: plan["optimizers"][2].update(schedule="constant"),
            "One learning-rate schedule",
            "cosine for SGD, Momentum, AdamW and Lion; constant for Adam.",
        ),
        (
            lambda plan: plan["trials"].remove(
                next(one for one in plan["trials"] if (one["optimizer"], one["phase"]) == ("Lion", "evaluation"))
            ),
            "Paired seeds",
            "Lion lack some of 8 seeds (0–7).",
        ),
        (
            lambda plan: [one.update(seed=3) for one in plan["trials"] if one["phase"] == "search"],
            "No seed of the search",
            "Seeds were used for tuning and for evaluation: 3.",
        ),
        (
            lambda plan: plan["optimizers"][0]["space"].update(momentum={"values": [0, 0.9]}),
            "never there",
            "over different numbers of hyperparameters: SGD 2, Momentum 1, Adam 1, AdamW 1 and Lion 1",
        ),
        (lambda plan: plan["optimizers"][0].update(points=[], space={}), "never there", "ran as given: SGD."),
    ],
)
def test_what_did_not_hold_moves_to_the_other_list(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], gone: str, said: str
) -> None:
    found = fairness(_changed(tmp_path, change))
    assert gone not in " ".join(found.controlled)
    assert said in " ".join(found.uncontrolled)


@pytest.mark.parametrize(
    ("kind", "old", "new", "gone", "said"),
    [
        ("search-1-", '"validation_loss"', '"test_loss"', "The test set was read once", "by 10 trials"),
        ("search-1-", '"step": 72', '"step": 60', "No trial was stopped", "after different numbers of steps"),
        ("seed4-", '"step": 72', '"step": 70', "Equal horizon", "different numbers of steps, 70 to 72"),
    ],
)
def test_records_that_contradict_are_believed(
    tmp_path: Path, kind: str, old: str, new: str, gone: str, said: str
) -> None:
    write_study(tmp_path, TUNED)
    for path in (tmp_path / "trials").glob(f"*{kind}*"):
        path.write_text(path.read_text().replace(old, new))
    found = fairness(findings(read_study(tmp_path)))
    assert gone not in " ".join(found.controlled)
    assert said in " ".join(found.uncontrolled)


def test_fixed_settings_claim_no_tuning(found: Callable[[Plan], Findings]) -> None:
    lists = fairness(found(Plan(labels=("Adam", "SGD"))))
    everything = " ".join((*lists.controlled, *lists.uncontrolled))
    assert "No hyperparameter was tuned" in everything
    assert "No timing pass was made" in everything
    assert not re.search(r"tuning seed|search|chosen point|began again", everything)


def test_a_bare_study_has_lists_without_holes(tmp_path: Path) -> None:
    bare = Plan(labels=("Adam",), overrides={"optimizers": [], "trials": [], "seed_purposes": {}, "commit": None})
    its = findings(read_study(write_study(tmp_path, bare)))
    for sentence in (*fairness(its).controlled, *fairness(its).uncontrolled, methods(its)):
        assert "None" not in sentence


def test_the_methods_name_what_the_plan_holds(tuned: Findings) -> None:
    text = methods(tuned)
    for words in (
        "(three convolutions, two linear layers, 474,670 parameters) was trained on fashion-mnist (6,000 training, "
        "1,000 validation and 2,000 test examples) for 3 epochs in batches of 250.",
        "8 settings (scrambled Sobol points: lr from 0.0001 to 1 (log) for SGD, Momentum, Adam, AdamW and Lion)",
        "tried on 2 tuning seeds",
        "evaluated on 8 seeds (0–7)",
        "Holm's correction over 4 comparisons at a family-wise error rate of 5%, with simultaneous 98.8% intervals",
        "the interval lies within ±0.01",
        "validation accuracy reached 0.55, 0.8 and 0.99",
        "in a separate timing pass",
        "Steepest 0.1.0 and PyTorch 2.13.0+cpu on Some CPU @ 2.90GHz, 2 threads a trial",
    ):
        assert words in text, words


def test_the_methods_of_fixed_settings_speak_of_no_search(found: Callable[[Plan], Findings]) -> None:
    text = methods(found(replace(TUNED, trials=0, timing_rounds=0, targets=(), skipped={})))
    assert "ran with one fixed setting each; nothing was tuned." in text
    assert not re.search(r"Sobol|tuning seed|timing pass|Time to target", text)
