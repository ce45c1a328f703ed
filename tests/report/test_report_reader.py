import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_study import NINE, Plan, write_study

from steepest.study.report import ReportError, write_report
from steepest.study.report.stored.reader import read_study
from steepest.study.report.stored.study import Study, Trial


def _trial(study: Study, label: str, seed: int) -> Trial:
    return next(trial for trial in study.trials if (trial.optimizer, trial.seed) == (label, seed))


def test_every_status_is_read_for_what_it_is(mixed: Study) -> None:
    assert _trial(mixed, "Adam", 0).status == "finished"
    assert _trial(mixed, "RMSProp", 1).status == "diverged"
    assert _trial(mixed, "NAdam", 0).status == "failed"
    assert _trial(mixed, "AdaMax", 2).status == "interrupted"
    assert _trial(mixed, "NAdam", 2).status == "not started"


def test_what_ended_a_trial_is_kept(mixed: Study) -> None:
    diverged, failed = _trial(mixed, "RMSProp", 1), _trial(mixed, "NAdam", 0)
    assert diverged.reason == "loss is nan at step 16"
    assert diverged.step == 16
    assert math.isnan(diverged.losses[-1])
    assert failed.reason is not None
    assert failed.reason.startswith("ValueError")
    assert failed.traceback is not None
    assert "run_trial" in failed.traceback


def test_a_torn_last_line_is_cut_and_reported(mixed: Study) -> None:
    assert len(mixed.notices) == 1
    assert "trials/07-seed2-0a1b2c3d.jsonl: the last line could not be read" in mixed.notices[0]
    assert _trial(mixed, "AdaMax", 2).step == 39


def test_everything_after_a_torn_line_is_left_out(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:10], b'{"kind":"step","loss":0.1', *lines[11:]]))
    study = read_study(folder)
    assert study.trials[0].status == "interrupted"
    assert len(study.trials[0].steps) == 8
    assert "line 11 and the" in study.notices[0]


def test_two_halves_that_join_to_an_object_are_still_torn(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    path.write_bytes(path.read_bytes() + b'{"kind":"step"\n"loss":1}\n')
    assert len(read_study(folder).notices) == 1


@pytest.mark.parametrize("line", [b"[1, 2]", b"7", b"\xff\xfe\x00", b'"step"'])
def test_a_line_that_is_no_object_is_cut(tmp_path: Path, line: bytes) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    path.write_bytes(path.read_bytes() + line + b"\n")
    study = read_study(folder)
    assert study.trials[0].status == "finished"
    assert len(study.notices) == 1


def test_only_the_last_run_of_a_repeated_trial_counts(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"\n".join(whole.split(b"\n")[:12]) + b"\n" + whole)
    assert len(read_study(folder).trials[0].steps) == 48


def test_numbers_spelled_as_words_are_numbers(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[2]["loss"], records[3]["loss"] = "inf", "-inf"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_study(folder).trials[0].losses[:2].tolist() == [math.inf, -math.inf]


def test_a_folder_without_a_study_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"has no study\.json.*Give the folder that 'steepest study' wrote"):
        write_report(tmp_path)
    with pytest.raises(ReportError, match="does not exist"):
        write_report(tmp_path / "nowhere")
    write_study(tmp_path / "inner", Plan(labels=("Adam",), seeds=1))
    with pytest.raises(ReportError, match="It holds studies: inner"):
        write_report(tmp_path)


@pytest.mark.parametrize("schema", [1, None, "2"])
def test_an_unknown_schema_is_refused(tmp_path: Path, schema: object) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1, overrides={"schema": schema}))
    with pytest.raises(ReportError, match=r"has schema .* this version of Steepest reads schema 3"):
        read_study(folder)


def test_an_unknown_schema_of_a_record_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    path = next((folder / "trials").iterdir())
    path.write_text(path.read_text().replace('"schema": 3', '"schema": 9'))
    with pytest.raises(ReportError, match="has schema 9"):
        read_study(folder)


def test_a_study_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"schema": 3, ')
    with pytest.raises(ReportError, match="not readable JSON"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(ReportError, match="holds a list"):
        read_study(tmp_path)


def test_a_study_that_lacks_a_part_is_refused_with_its_place(tmp_path: Path) -> None:
    folder = write_study(tmp_path, Plan(labels=("Adam",), seeds=1))
    whole = json.loads((folder / "study.json").read_text())
    del whole["protocol"]["alpha"]
    (folder / "study.json").write_text(json.dumps(whole))
    with pytest.raises(ReportError, match=r"is damaged \(protocol\.alpha is missing\)"):
        read_study(folder)


def test_a_trial_of_an_unlisted_optimizer_is_shown(study: Callable[[Plan], Study]) -> None:
    found = study(Plan(labels=("Adam", "SGD"), seeds=1, overrides={"optimizers": []}))
    assert found.labels == ("Adam", "SGD")


def test_display_order_is_that_of_the_study(mixed: Study) -> None:
    assert mixed.labels == NINE
