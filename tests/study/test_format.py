"""study.json is declared once: what an older run wrote is read and written back byte for byte."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steepest.study.errors import StoreError
from steepest.study.records.format import SEARCH, FormatError, SearchedRange, StudyDocument, read
from steepest.study.records.records import encode_document
from steepest.study.report import ReportError
from steepest.study.report.stored.reader import read_study
from steepest.study.running.store import StudyFolder

from .support import PlanMaker, stored

WRITTEN = sorted(Path(__file__).with_name("stored").glob("*.json"))
"""Written by the program before the format was declared: a tuned study, and one that was extended."""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_a_stored_document_is_written_back_byte_for_byte(path: Path) -> None:
    content = path.read_bytes()
    document = read(StudyDocument, json.loads(content))
    assert encode_document(document) == content
    assert document.optimizers[0].space["lr"] == SearchedRange(low=0.0001, high=10.0, scale="log", complement=False)
    assert {trial.phase for trial in document.trials} >= {SEARCH, "evaluation", "timing"}


def test_a_plan_is_read_back_as_it_was_written(plan: PlanMaker) -> None:
    content = encode_document(plan("sgd", "adam[betas=(0.8,0.9)]").document)
    assert encode_document(read(StudyDocument, json.loads(content))) == content


def changed(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    whole = json.loads(json.dumps(document))
    inside = whole
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("threads",), "two", "threads is 'two', not an integer"),
        (("threads",), True, "threads is True, not an integer"),
        (("protocol", "margin"), None, "protocol.margin is None, not a number"),
        (("protocol", "targets", 0), [], "protocol.targets[0] is [], not a number"),
        (("protocol",), [], "protocol is [], not an object"),
        (("config", "all_train"), 1, "config.all_train is 1, not true or false"),
        (("optimizers",), {}, "optimizers is {}, not a list"),
        (
            ("optimizers", 1, "points", 0, "point"),
            0.5,
            "optimizers[1].points[0].point is 0.5, not an integer or",
        ),
        (("trials", 2, "phase"), "lunch", "trials[2].phase is 'lunch', not 'search' or 'evaluation' or 'timing'"),
        (("chosen", "SGD", "given"), 3, "chosen.SGD.given is 3, not an object"),
        (("commit",), 7, "commit is 7, not a text or null"),
        (("published",), 7, "published is 7, not an object"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(place: tuple[str | int, ...], value: Any, told: str) -> None:
    document = json.loads(WRITTEN[0].read_bytes())
    document["protocol"]["targets"] = [0.5]
    with pytest.raises(FormatError) as caught:
        read(StudyDocument, changed(document, place, value))
    assert str(caught.value).startswith(told)


def test_a_missing_entry_is_refused_with_its_place() -> None:
    document = json.loads(WRITTEN[0].read_bytes())
    del document["optimizers"][0]["rule_sha256"]
    with pytest.raises(FormatError, match=r"^optimizers\[0\]\.rule_sha256 is missing$"):
        read(StudyDocument, document)


def test_numbers_that_json_lacks_come_back_as_numbers() -> None:
    document = read(StudyDocument, json.loads(WRITTEN[0].read_bytes()))
    endless = replace(document, protocol=replace(document.protocol, targets=(float("inf"),)))
    content = encode_document(endless)
    again = read(StudyDocument, json.loads(content))
    assert again.protocol.targets == (float("inf"),)
    assert encode_document(again) == content


def test_study_and_report_name_the_same_place(plan: PlanMaker, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.write_document(plan("sgd").document)
    folder.document_path.write_text(json.dumps(changed(stored(folder), ("data", "test"), "many")))
    with pytest.raises(StoreError, match=r"damaged \(data\.test is 'many', not an integer\)"):
        folder.read_document()
    with pytest.raises(ReportError, match=r"damaged \(data\.test is 'many', not an integer\)"):
        read_study(folder.path)
