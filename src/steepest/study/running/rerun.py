"""Running a stored trial once more from its record, and comparing the two records byte by byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steepest.study import source_code, workloads
from steepest.study.errors import StoreError, UsageError
from steepest.study.planning.merge import compare
from steepest.study.records import machine, records
from steepest.study.records.records import Record
from steepest.study.running.execution import with_crashes
from steepest.study.running.store import StudyFolder
from steepest.study.suggest import choices
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import load_task
from steepest.study.trials.trial import Event

SHOWN: Final = 8


@dataclass(frozen=True)
class Rerun:
    """The comparison of a repetition with its record.

    `different` is the number of the first line that differs, from 1.
    """

    lines: int
    different: int | None = None
    there: str = ""
    here: str = ""

    @property
    def bit_equal(self) -> bool:
        """True if every line is equal, byte for byte."""
        return self.different is None


def find(folder: StudyFolder, trial: str) -> str:
    """Return the name of the trial that has this name, or the only one that begins with it."""
    document = folder.read_document()
    known = [entry.id for entry in document.trials] if document else []
    matches = [name for name in known if name.startswith(trial)]
    if not matches:
        raise UsageError(choices(f"trial of {folder.path}", trial, known[:SHOWN]))
    if len(matches) > 1 and trial not in matches:
        raise UsageError(f"{trial!r} begins several names; choose from {', '.join(matches[:SHOWN])}")
    return matches[0]


def rerun(folder: StudyFolder, trial: str, data_dir: Path | None = None) -> Rerun:
    """Run the trial of this name again and compare.

    Raises:
        StoreError: the folder does not have a record of it.
        UsageError: the code, the data or the versions that it needs are not those of the record.
    """
    stored = folder.read_trial(trial).lines
    if not stored:
        raise StoreError(f"{trial} has no record yet; run the study's command to run it")
    if "spec" not in stored[0]:
        error = stored[0].get("error", "the reason is not known")
        raise StoreError(
            f"{trial} failed before its record said what it was ({error}), so it cannot be repeated from it; "
            "the study's command runs it again"
        )
    spec = TrialSpec.read(stored[0]["spec"])
    workloads.find(spec.task.source)  # before the optimizer's file, as in a study: what it sets holds for all trials
    document = folder.read_document()
    _check_same(stored[0]["spec"], spec, document.code if document else {})
    again = _Comparison([records.encode(line) for line in stored])
    try:
        with_crashes(spec, lambda: load_task(spec.task, data_dir), again.tell)
    except _DifferentError:
        return again.result
    return again.finished()


class _DifferentError(BaseException):
    """A line differs, so that the repetition can end here."""


class _Comparison:
    """A receiver of events that compares their lines with a record's."""

    def __init__(self, stored: Sequence[bytes]) -> None:
        self.result = Rerun(0)
        self._stored = stored

    def tell(self, event: Event) -> None:
        number, here = self.result.lines, records.encode(event.record)
        there = self._stored[number] if number < len(self._stored) else b""
        self.result = Rerun(number + 1)
        if there != here:
            self.result = Rerun(number + 1, number + 1, there.decode().strip(), here.decode().strip())
            raise _DifferentError

    def finished(self) -> Rerun:
        """Return the comparison after the last event; the record may have further lines."""
        number = self.result.lines
        if number == len(self._stored):
            return self.result
        return Rerun(number + 1, number + 1, self._stored[number].decode().strip())


def _check_same(stored: Record, spec: TrialSpec, code: Mapping[str, source_code.Description]) -> None:
    """Raise UsageError if the specification has another meaning here: other versions, code of the rule, or data."""
    here = {**spec.document(), "versions": {name: machine.versions()[name] for name in stored["versions"]}}
    file = spec.task.source.rpartition(":")[0]
    files = [*spec.config.origin.files, *([file] if file.endswith(".py") else [])]
    different = [
        *compare("trial", stored, records.plain(here)),
        *source_code.changes(code, source_code.descriptions(files)),
    ]
    if different:
        raise UsageError(f"the trial cannot be repeated bit by bit, there and here: {'; '.join(different)}")
