"""What is on the disk: complete, readable after any accident, and never half of a document."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest

from steepest.study.errors import StoreError, UsageError
from steepest.study.records import disk, records
from steepest.study.records.lock import locked
from steepest.study.running.store import StudyFolder, TrialLog, read_records
from steepest.study.trials.trial import Event

from .support import PlanMaker, evaluations, events_of

END = {"kind": "end", "status": "finished", "epoch": 1, "step": 1}


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path / "study")
    with study.writing():
        pass
    return study


def test_numbers_that_json_lacks_become_words() -> None:
    line = records.encode({"b": math.nan, "a": [math.inf, -math.inf], "c": (1, 2.5), "d": {"e": None}})
    assert line == b'{"a":["inf","-inf"],"b":"nan","c":[1,2.5],"d":{"e":null}}\n'
    assert math.isnan(records.number(json.loads(line)["b"]))


def test_floats_survive_exactly() -> None:
    value = 0.1 + 0.2
    assert json.loads(records.encode({"x": value}))["x"] == value


def test_a_trial_is_read_back_as_it_was_written(folder: StudyFolder, plan: PlanMaker) -> None:
    made = plan("adam")
    events = events_of(evaluations(made)[0], made.task)
    with folder.log("one") as log:
        for event in events:
            log.write(event)
    assert folder.read_trial("one").lines == [json.loads(records.encode(event.record)) for event in events]
    assert folder.read_trial("one").status == "finished"
    assert folder.is_done("one")
    times = folder.read_times("one").lines
    assert [line["kind"] for line in times] == ["epoch", "end"]
    assert set(times[-1]) >= {"train_seconds", "examples", "total_seconds", "executor", "started"}


@pytest.mark.parametrize(("status", "done"), [("finished", True), ("diverged", True), ("failed", False)])
def test_what_is_done(folder: StudyFolder, status: str, done: bool) -> None:
    with folder.log("one") as log:
        log.write(Event(END | {"status": status}))
    assert folder.is_done("one") is done


def test_a_trial_without_an_end_is_interrupted(folder: StudyFolder) -> None:
    with folder.log("one") as log:
        log.write(Event({"kind": "trial", "schema": 3}))
    assert folder.read_trial("one").status == "interrupted"
    assert folder.read_trial("never begun").status == "interrupted"


def test_a_line_that_was_cut_off_is_left_out_and_told(folder: StudyFolder) -> None:
    path = folder.path / "trials" / "one.jsonl"
    path.write_bytes(records.encode({"kind": "trial"}) + records.encode(END)[:-9])
    read = folder.read_trial("one")
    assert read.lines == [{"kind": "trial"}]
    assert read.status == "interrupted"
    assert read.note == "one.jsonl ends in the middle of a line, which was left out"


def test_a_damaged_file_is_told_and_runs_again(folder: StudyFolder) -> None:
    path = folder.path / "trials" / "one.jsonl"
    path.write_bytes(b"\x00\x00 not json\n" + records.encode(END))
    assert read_records(path).note == "one.jsonl is damaged and was not read"
    assert not folder.is_done("one")


def test_epochs_are_on_the_disk_before_the_trial_goes_on(folder: StudyFolder) -> None:
    with folder.log("one") as log:
        log.write(Event({"kind": "trial"}))
        log.write(Event({"kind": "step", "step": 1}))
        log.write(Event({"kind": "epoch", "epoch": 1}, {"kind": "epoch", "train_seconds": 1.0}))
        assert [line["kind"] for line in folder.read_trial("one").lines] == ["trial", "step", "epoch"]
        assert len(folder.read_times("one").lines) == 1


@pytest.mark.parametrize("line", ["[1]", "null", "7", '{"step": 3}'])
def test_a_line_that_is_no_record_is_damage(folder: StudyFolder, line: str) -> None:
    path = folder.path / "trials" / "one.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    found = folder.read_trial("one")
    assert (found.lines, found.status) == ([], "interrupted")
    assert found.note == "one.jsonl is damaged and was not read"


def test_a_document_is_replaced_whole_or_not_at_all(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_document({"name": "old"})
    monkeypatch.setattr("steepest.study.running.store.flush", full_disk)
    with pytest.raises(StoreError, match=r"cannot write .*study\.json: No space left on device.*Finished trials are"):
        folder.write_document({"name": "new"})
    assert json.loads(folder.document_path.read_text()) == {"name": "old"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{half", "is damaged"), ('{"schema": 99}', "has schema 99; this version of Steepest reads and writes schema 3")],
)
def test_a_document_that_cannot_be_understood(folder: StudyFolder, text: str, complaint: str) -> None:
    folder.document_path.write_text(text)
    with pytest.raises(StoreError, match=complaint):
        folder.read_document()


def test_a_full_disk(tmp_path: Path) -> None:
    """Linux has a device that is always full: the real thing, down to fsync."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full; the simulated full disk is tested with the engine")
    with (
        pytest.raises(StoreError, match="cannot write /dev/full: No space left on device"),
        TrialLog(device, tmp_path / "times") as log,
    ):
        log.write(Event(END))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot write .*Not a directory"),
        StudyFolder(tmp_path / "file" / "in").writing(),
    ):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="file is a file; a study needs a folder"),
        StudyFolder(tmp_path / "file").writing(),
    ):
        pass


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere, so the system's refusal is played
    with pytest.raises(StoreError, match=r"Permission denied.*--out"), StudyFolder(tmp_path / "study").writing():
        pass


def test_two_studies_do_not_write_one_folder(folder: StudyFolder) -> None:
    with (
        folder.writing(),
        pytest.raises(StoreError, match=r"is in use by another study \(process \d+\).*--out"),
        locked(folder.path),
    ):
        pass
    with folder.writing():
        pass


def test_reading_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"), disk.reading_from(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "step", "loss": 0.1 + 0.2, "epoch": 3, "step": 10**20},
        {"b": -0.0, "a": 1e-310, "c": 1e22, "d": 123456789.125},
        {"words": 'a "quote", a\\b, a\nline, \u00e9 \u2028 \ud800', "\u00fc": 1},
        {},
        {"loss": math.nan},
        {"loss": math.inf, "flag": True, "nothing": None, "list": [1, 2.5]},
    ],
)
def test_a_line_is_what_json_writes(record: dict[str, Any]) -> None:
    text = json.dumps(records.plain(record), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert records.encode(record) == text.encode("utf-8", "backslashreplace") + b"\n"
