"""Checkpoints: the complete state of a running trial, in one file that is replaced whole.

A checkpoint holds the lengths of the trial's files at its time. Resuming from it means cutting both to these lengths.
Later events happen again, and the record ends in the same bytes as without the interruption.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from steepest.study.records.disk import flush, writing_to
from steepest.study.records.format import SCHEMA
from steepest.study.trials.spec import TrialSpec

SECONDS: Final = 30.0
"""Default seconds between two checkpoints, which is the most that a crash costs."""
SHARE: Final = 0.01
"""Maximum share of a trial's time that goes into its checkpoints."""

State = dict[str, Any]
Lengths = tuple[int, int]
"""Bytes of a trial's record and of its file of wall times."""


@dataclass(frozen=True)
class Checkpoint:
    """A state from which a trial resumes."""

    lengths: Lengths
    state: State


class UnsafeStateError(Exception):
    """A state with other parts than tensors, numbers, text and containers, or one that did not load as it was saved."""


class CheckpointFile:
    """The checkpoint of one trial. A file that belongs to another specification or schema is ignored."""

    def __init__(self, path: Path, spec: TrialSpec) -> None:
        self.path = path
        self._new = path.with_name(f"{path.name}.new")
        self._identity = {"schema": SCHEMA, "spec": spec.digest}

    def prepare(self, state: State, lengths: Lengths) -> None:
        """Write a checkpoint to a temporary file, which `commit` renames.

        Raises:
            UnsafeStateError: the state cannot be stored.
            StoreError: the disk is full, or not writable.
        """
        content = io.BytesIO()  # not straight to the disk: torch reports a full one as if the state were at fault
        try:
            torch.save({**self._identity, "lengths": lengths, "state": state}, content)
        except Exception as error:  # whatever a foreign object raises when it is pickled
            raise UnsafeStateError(_first_line(error)) from error
        with writing_to(self.path):
            self.path.parent.mkdir(exist_ok=True)
            with self._new.open("wb") as file:
                file.write(content.getbuffer())
                flush(file)

    def prepared(self) -> State:
        """Return the state that `prepare` wrote, as it loads from the disk."""
        state: State = self._load(self._new)["state"]
        return state

    def commit(self) -> None:
        """Replace the last checkpoint by the prepared one."""
        with writing_to(self.path):
            self._new.replace(self.path)

    def read(self) -> Checkpoint | None:
        """Return the checkpoint; None without one of this specification.

        Raises:
            UnsafeStateError: the file is damaged.
        """
        if not self.path.exists():
            return None
        content = self._load(self.path)
        if {key: content.get(key) for key in self._identity} != self._identity:
            return None
        trial, times = content["lengths"]
        return Checkpoint((trial, times), content["state"])

    def discard(self) -> None:
        """Delete a prepared checkpoint that was not committed."""
        with writing_to(self._new):
            self._new.unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the checkpoint."""
        self.discard()
        with writing_to(self.path):
            self.path.unlink(missing_ok=True)

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises whatever a damaged or forbidden pickle leads to
            raise UnsafeStateError(_first_line(error)) from error
        return content


class CheckpointManager:
    """Decides when a running trial is stored, and stores it.

    Args:
        file: the file of the checkpoint.
        lengths: flushes the trial's files to the disk and returns their lengths.
        seconds: between two checkpoints; 0 stores the trial after every step.
        proven: whether a state of this trial has been stored and continued before.
        stop: whether the trial has been asked to stop; it is then stored at once.
    """

    def __init__(
        self,
        file: CheckpointFile,
        lengths: Callable[[], Lengths],
        seconds: float = SECONDS,
        *,
        proven: bool = False,
        stop: Callable[[], bool] = bool,
    ) -> None:
        self.stop = stop
        self.proven = proven
        self.refused: str | None = None
        self._file = file
        self._lengths = lengths
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    @property
    def due(self) -> bool:
        """True if it is time for a checkpoint."""
        if self.refused is not None:
            return False
        return self.stop() or time.monotonic() >= self._next

    def store(self, state: Callable[[], State]) -> State | None:
        """Store a state. Return it as it loads, if it must still be proven that a trial can resume from it."""
        began = time.monotonic()
        try:
            self._file.prepare(state(), self._lengths())
            if not self.proven:
                return self._file.prepared()
            self._file.commit()
        except UnsafeStateError as error:
            self.refuse(str(error))
        now = time.monotonic()
        self._next = now + max(self._seconds, (now - began) / SHARE if self._seconds else 0.0)
        return None

    def accept(self) -> None:
        """Accept the state that was stored last: it becomes the checkpoint, and later ones are not checked."""
        self.proven = True
        self._file.commit()
        self._next = time.monotonic() + self._seconds

    def refuse(self, reason: str) -> None:
        """Stop keeping checkpoints of this trial."""
        self.refused = reason
        self._file.discard()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
