"""The study folder: one document about the study, an append-only record and a file of wall times for every trial.

study.json           what was run, on what, with which versions
trials/<id>.jsonl    one line per step, epoch and end; equal trials give equal bytes
times/<id>.jsonl     wall times of the same trial
checkpoints/<id>.pt  the checkpoint of a trial that has not ended
leases/<id>.json     the node that writes a trial, on a cluster
files/<id>/          whatever a training function writes into `run.folder`
workers/<n>.txt      the output of a worker process, including the user's code
"""

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from steepest.study.errors import StoreError, UsageError
from steepest.study.records import records
from steepest.study.records.disk import flush, reading_from, remove_empty, writing_to
from steepest.study.records.format import (
    DIVERGED,
    EVALUATION,
    FINISHED,
    INTERRUPTED,
    SCHEMA,
    FormatError,
    StudyDocument,
    read,
)
from steepest.study.records.lease import EXPIRY, Lease, Writer
from steepest.study.records.lock import acquire, locked
from steepest.study.records.records import Record
from steepest.study.trials.checkpoints import CheckpointFile, Lengths
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

DONE: Final = (FINISHED, DIVERGED)
PATIENCE: Final = 10.0
"""Seconds in which the processes of a killed study may end."""
LONG_PATIENCE: Final = 3 * EXPIRY
"""Seconds in which the lease of a lost node expires."""


@dataclass(frozen=True)
class TrialRecords:
    """The records in a trial's file. `note` describes damage to the file, if any."""

    lines: list[Record]
    note: str | None = None

    @property
    def end(self) -> Record | None:
        """The trial's last record, once it has ended."""
        last = self.lines[-1] if self.lines else {}
        return last if last.get("kind") == "end" else None

    @property
    def status(self) -> str:
        """The status of the trial: finished, diverged, failed or interrupted."""
        return str(self.end["status"]) if self.end else INTERRUPTED

    @property
    def is_done(self) -> bool:
        """True if the trial has ended in a way that a second run would only repeat."""
        return self.status in DONE


class Tail:
    """The records that a file gains while another process writes it. Every byte is read once.

    A file that has been cut has been told up to its end, as another attempt writes the same lines again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = 0

    def news(self) -> list[Record]:
        """Return the records of the lines that were completed since the last look."""
        try:
            with self._path.open("rb") as file:  # opening makes a network's file system look again
                cut = _length(file) < self._told
                file.seek(0 if cut else self._told)
                content = file.read()
        except FileNotFoundError:
            return []
        *lines, rest = content.split(b"\n")
        self._told = len(content) - len(rest) + (0 if cut else self._told)
        return [] if cut else _parsed(lines)


class StudyFolder:
    """A study on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def document_path(self) -> Path:
        """The path of the study's document."""
        return self.path / "study.json"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Create the folder if it is missing, and lock it against other processes."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; a study needs a folder")
        with writing_to(self.path):
            for folder in (self.path, self.path / "trials", self.path / "times"):
                folder.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            yield
            remove_empty(self.path / "checkpoints")
            remove_empty(self.path / "leases")

    def read_document(self) -> StudyDocument | None:
        """Return the study's document, or None in a folder that has none."""
        if not self.document_path.exists():
            return None
        with reading_from(self.document_path):
            content = self.document_path.read_bytes()
        return _checked(content, self.document_path)

    def write_document(self, document: StudyDocument) -> None:
        """Replace the study's document. A reader sees the old one or the new one, never a part."""
        temporary = self.path / ".study.json.new"
        with writing_to(self.document_path):
            with temporary.open("wb") as file:
                file.write(records.encode_document(document))
                flush(file)
            temporary.replace(self.document_path)

    def document(self) -> StudyDocument:
        """Return the study's document; raise StoreError in a folder that has none."""
        document = self.read_document()
        if document is None:
            raise StoreError(f"{self.path} is not a study folder: it has no study.json")
        return document

    @property
    def has_result(self) -> bool:
        """True if an evaluation trial of the study has ended with a result."""
        document = self.read_document()
        trials = () if document is None else document.trials
        return any(self.read_trial(trial.id).status in DONE for trial in trials if trial.phase == EVALUATION)

    def change_document(self, change: Callable[[StudyDocument], StudyDocument]) -> None:
        """Replace the study's document by the result of `change`, if it differs."""
        old = self.document()
        new = change(old)
        if not records.alike(new, old):
            self.write_document(new)

    def read_trial(self, trial: str) -> TrialRecords:
        """Return a trial's records. An incomplete last line is left out, and the note mentions it."""
        return read_records(self.path / "trials" / f"{trial}.jsonl")

    def read_times(self, trial: str) -> TrialRecords:
        """Return a trial's wall times."""
        return read_records(self.path / "times" / f"{trial}.jsonl")

    def is_done(self, trial: str) -> bool:
        """Return whether a trial has ended in a way that a second run would only repeat."""
        return self.read_trial(trial).is_done

    def tails(self, trial: str) -> tuple[Tail, Tail]:
        """Return the tails of a trial's records and of its wall times."""
        return Tail(self.path / "trials" / f"{trial}.jsonl"), Tail(self.path / "times" / f"{trial}.jsonl")

    def log(self, trial: str, writer: Writer | None = None) -> "TrialLog":
        """Open a trial's files for appending, and lock them against other processes, or nodes if a writer is named."""
        lease = None if writer is None else Lease(self.path / "leases" / f"{trial}.json", writer)
        files = (self.path / kind / f"{trial}.jsonl" for kind in ("trials", "times"))
        return TrialLog(*files, lease=lease, writer=writer)

    def files(self, trial: str) -> Path:
        """Return the folder of the files that a trial's training function writes, which need not exist."""
        return self.path / "files" / trial

    def lease(self, trial: str) -> bytes | None:
        """Return the content of a trial's lease, None without one."""
        try:
            return (self.path / "leases" / f"{trial}.json").read_bytes()
        except OSError:
            return None

    def checkpoint(self, spec: TrialSpec) -> CheckpointFile:
        """Return the file of a trial's checkpoint, which need not exist."""
        return CheckpointFile(self.path / "checkpoints" / f"{spec.id}.pt", spec)

    def forget_checkpoints(self, kept: Collection[str]) -> None:
        """Delete the checkpoints of all trials but those with the ids `kept`."""
        for path in (self.path / "checkpoints").glob("*.pt*"):
            if path.name.removesuffix(".new").removesuffix(".pt") not in kept:
                with writing_to(path):
                    path.unlink()


class TrialLog:
    """The open files of a running trial.

    Its end is on the disk before anybody sees it, and so is all before a checkpoint.

    Events between two checkpoints would be cut when the trial resumes, so they do not wait for the disk.
    """

    def __init__(self, trial: Path, times: Path, *, lease: Lease | None = None, writer: Writer | None = None) -> None:
        self._path = trial
        self._lease = lease
        self._writer = writer
        with writing_to(trial):
            self._trial = trial.open("ab")
            self._times = times.open("ab")
        if not (acquire(self._trial, PATIENCE) if lease is None else lease.take(LONG_PATIENCE)):
            self._close()
            raise StoreError(
                f"{trial} is being written by a process that another study left behind; "
                "end that process, then run the same command again"
            )

    @property
    def whole(self) -> Lengths:
        """The lengths up to the last complete line."""
        with reading_from(self._path):
            trial, times = (Path(file.name).read_bytes().rfind(b"\n") + 1 for file in (self._trial, self._times))
        return trial, times

    def cut(self, lengths: Lengths) -> bool:
        """Cut the files to these lengths. Return whether they were that long."""
        with writing_to(self._path):
            sizes = [os.fstat(file.fileno()).st_size for file in (self._trial, self._times)]
            long_enough = all(size >= length for size, length in zip(sizes, lengths, strict=True))
            for file, size, length in zip((self._trial, self._times), sizes, lengths, strict=True):
                if size > length:
                    file.truncate(length)
        return long_enough

    def saved(self) -> Lengths:
        """Flush everything to the disk and return the lengths."""
        with writing_to(self._path):
            flush(self._times)
            flush(self._trial)
            return _length(self._trial), _length(self._times)

    def write(self, event: Event) -> None:
        """Append an event."""
        kind = event.record["kind"]
        if self._lease is not None:
            self._lease.check()
        with writing_to(self._path):
            if event.timing is not None and kind != "step":
                self._times.write(records.encode(self._signed(event.timing, kind)))
            if kind == "end":
                flush(self._times)  # first, so that no trial has ended without its times
            self._trial.write(records.encode(event.record))
            if kind == "end":
                flush(self._trial)
            elif kind != "step":
                self._times.flush()  # a reader sees whole epochs
                self._trial.flush()

    def __enter__(self) -> "TrialLog":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._close()
        finally:
            if self._lease is not None:
                self._lease.release()

    def _signed(self, times: Record, kind: str) -> Record:
        """Return the times of a trial's end with their writer, if there may be several."""
        return {**times, "writer": asdict(self._writer)} if self._writer is not None and kind == "end" else times

    def _close(self) -> None:
        with writing_to(self._path), self._trial, self._times:
            pass  # leaving the block closes both files, the second one even when the first cannot be


def _parsed(lines: list[bytes]) -> list[Record]:
    """Return the records of whole lines; none if one of them is damaged, or begins in the middle of a line."""
    try:
        records = [json.loads(line) for line in lines]
    except ValueError:
        return []
    return records if all(map(_is_record, records)) else []


def read_records(path: Path) -> TrialRecords:
    """Return the complete lines of a record file."""
    if not path.exists():
        return TrialRecords([])
    with reading_from(path):
        *lines, rest = path.read_bytes().split(b"\n")
    entries = _parsed(lines)
    if lines and not entries:
        return TrialRecords([], f"{path.name} is damaged and was not read")
    return TrialRecords(entries, f"{path.name} ends in the middle of a line, which was left out" if rest else None)


def _is_record(line: Any) -> bool:
    return isinstance(line, dict) and "kind" in line


def _length(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _checked(content: bytes, path: Path) -> StudyDocument:
    """Return the document, or raise StoreError with the damage.

    It is replaced whole, so only an outside cause damages it.
    """
    try:
        document = json.loads(content) if content.strip() else None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise _damaged(path, str(error)) from error
    if document is None:
        raise _damaged(path, "it is empty")
    if not isinstance(document, dict):
        raise _damaged(path, f"it holds {str(document)[:40]!r} and no study")
    if document.get("schema") != SCHEMA:
        raise StoreError(
            f"{path} has schema {document.get('schema')!r}; this version of Steepest reads and writes schema {SCHEMA}"
        )
    try:
        return read(StudyDocument, document)
    except FormatError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is damaged ({why}); move it away, or give another folder with --out")
