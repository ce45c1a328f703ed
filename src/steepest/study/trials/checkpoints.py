"""Checkpoints: all that a running trial depends on, in one file that is replaced whole.

A checkpoint knows how long the trial's files were when it was taken. Going on from it means cutting both to these
lengths: what came after happens again, and the record ends in the same bytes as without the interruption.
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
"""Usual time between two checkpoints; what a crash costs at most."""
SHARE: Final = 0.01
"""Largest part of a trial's time that goes into its checkpoints."""

State = dict[str, Any]
Lengths = tuple[int, int]
"""Bytes of a trial's record and of its file of wall times."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial goes on."""

    lengths: Lengths
    state: State


class UnsafeStateError(Exception):
    """A state that is not made of tensors, numbers, text and containers alone, or that did not come back."""


class CheckpointFile:
    """The checkpoint of one trial. A file that belongs to another specification or schema counts as none."""

    def __init__(self, path: Path, spec: TrialSpec) -> None:
        self.path = path
        self._new = path.with_name(f"{path.name}.new")
        self._identity = {"schema": SCHEMA, "spec": spec.digest}

    def prepare(self, state: State, lengths: Lengths) -> None:
        """Write a checkpoint beside the file; `commit` puts it in its place.

        Raises:
            UnsafeStateError: the state cannot be stored.
            StoreError: the disk is full, or will not be written to.
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
        """Return the state that `prepare` wrote, as it comes back from the disk."""
        state: State = self._load(self._new)["state"]
        return state

    def commit(self) -> None:
        """Put what was prepared in the place of the last checkpoint."""
        with writing_to(self.path):
            self._new.replace(self.path)

    def read(self) -> Checkpoint | None:
        """Return the checkpoint, None if there is none for this specification.

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
        """Delete what was prepared and not committed."""
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
        file: where to.
        lengths: puts what has been written of the trial on the disk and tells its length.
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
        """Whether it is time for a checkpoint."""
        if self.refused is not None:
            return False
        return self.stop() or time.monotonic() >= self._next

    def store(self, state: Callable[[], State]) -> State | None:
        """Store a state; return it as it came back if it must still be proven that a trial can go on from it."""
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
        """The state that was stored last is proven: it becomes the checkpoint, and the later ones are not checked."""
        self.proven = True
        self._file.commit()
        self._next = time.monotonic() + self._seconds

    def refuse(self, reason: str) -> None:
        """Keep no checkpoints of this trial any more."""
        self.refused = reason
        self._file.discard()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
