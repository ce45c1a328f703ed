"""Leases on files: one writer at a time on file systems of several nodes, where locks cannot be trusted.

The holder changes its lease every few seconds. Another node that sees a lease stand still for long enough takes it.
Only that node's own clock counts, so clocks of nodes may differ.
"""

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from steepest.study.errors import StoreError
from steepest.study.records.disk import writing_to

HEARTBEAT: Final = 5.0
"""Seconds between two changes of a lease."""
EXPIRY: Final = 30.0
"""Seconds without a change after which a lease has ended."""
POLL: Final = 0.2


@dataclass(frozen=True)
class Writer:
    """The writer of a record: the job that runs the trial, its node, and the number of the attempt, from 1."""

    job: str
    node: str
    attempt: int

    @classmethod
    def here(cls, job: str, attempt: int) -> "Writer":
        """Return a writer on this node."""
        return cls(job, socket.gethostname(), attempt)


class Lease:
    """A lease of one file, renewed in the background until it is released.

    Args:
        path: the file of the lease.
        writer: the writer that wants it.
        heartbeat, expiry: seconds, see the module's constants.
    """

    def __init__(self, path: Path, writer: Writer, *, heartbeat: float = HEARTBEAT, expiry: float = EXPIRY) -> None:
        self._path = path
        self._content: dict[str, Any] = {**asdict(writer), "process": os.getpid(), "holder": uuid.uuid4().hex}
        self._heartbeat = heartbeat
        self._expiry = expiry
        self._beats = 0
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def take(self, patience: float) -> bool:
        """Take the lease as soon as it is free or has expired. Return whether that was within so many seconds."""
        last, seen, since = time.monotonic() + patience, None, time.monotonic()
        while True:
            found = self._read()
            now = time.monotonic()
            if found is None or self._is_dead(found) or (found == seen and now - since >= self._expiry):
                self._write()
                time.sleep(POLL)  # of two that take it at once, the later one has it
                if self._is_mine(self._read()):
                    self._thread.start()
                    return True
            elif found != seen:
                seen, since = found, now
            if now >= last:
                return False
            time.sleep(POLL)

    def check(self) -> None:
        """Raise StoreError if another writer has taken the lease, because this one stood still for too long."""
        if self._lost:
            raise StoreError(
                f"{self._path} was taken by another node while this one stood still; its attempt ends here, and the "
                "other one goes on"
            )

    def release(self) -> None:
        """End the lease."""
        self._released.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._is_mine(self._read()):
            self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat):
            if not self._is_mine(self._read()):
                self._lost = True
                return
            self._beats += 1
            self._write()

    def _read(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # in the middle of being replaced, on some file systems
            return {}
        return content

    def _write(self) -> None:
        temporary = self._path.with_name(f"{self._path.name}.{self._content['holder']}")
        with writing_to(self._path):
            self._path.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps({**self._content, "beats": self._beats}), encoding="utf-8")
            temporary.replace(self._path)

    def _is_mine(self, found: dict[str, Any] | None) -> bool:
        return found is not None and found.get("holder") == self._content["holder"]

    def _is_dead(self, found: dict[str, Any]) -> bool:
        """Return whether the holder was a process of this node that has ended."""
        if found.get("node") != self._content["node"] or os.name != "posix":
            return False
        try:
            os.kill(int(found["process"]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False
