"""A worker process: it takes trials from its standard input until that ends, and reports them on its standard output.

Both carry pickled plain data. Whatever else is printed here goes to standard error.
"""

import ctypes
import faulthandler
import math
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

from steepest.study import workloads
from steepest.study.errors import StoreError, StudyError
from steepest.study.records.records import alike
from steepest.study.running import signals
from steepest.study.running.execution import execute
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.store import StudyFolder
from steepest.study.trials.run import Trainable
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import load_task
from steepest.study.trials.trial import Event

QUIET: Final = 0.2
"""Seconds between two steps that are reported."""
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

Message = tuple[str, Any]
"""`("run", document)` and `("stop", None)` come in. Out go `("ready", None)` once, `("event", (record, timing))`, and
instead of a trial's end `("stopped", None)`, `("failed", (error, traceback))`, or `("store", words)` for a file that
cannot be written.
"""


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration of a worker, sent once before its first trial."""

    parent: int
    folder: Path
    data_dir: Path | None
    seconds: float


def main() -> None:
    """Work until standard input ends. The process ends with it, even in the middle of a trial."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the user's code prints must not get in between
    faulthandler.enable()
    config: WorkerConfig = pickle.load(source)
    _die_with(config.parent)
    keep_freed_memory()
    worker = _Worker(config, sink)
    signals.handle(worker.terminate)
    worker.work(source)


class _Worker:
    def __init__(self, config: WorkerConfig, sink: IO[bytes]) -> None:
        self._config = config
        self._sink = sink
        self._stop = threading.Event()
        self._trials: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._busy = False
        self._signal: int | None = None

    def work(self, source: IO[bytes]) -> None:
        threading.Thread(target=self._listen, args=(source,), daemon=True).start()
        self._tell(("ready", None))
        while True:
            document = self._trials.get()
            self._busy = True
            self._run(document)
            self._busy = False
            if self._signal is not None:
                signals.end_by(self._signal)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """End on a signal. A running trial first takes its checkpoint, after the present step."""
        self._signal = number
        self._stop.set()
        if not self._busy:
            signals.end_by(number)

    def _tell(self, message: Message) -> None:
        pickle.dump(message, self._sink)
        self._sink.flush()

    def _listen(self, source: IO[bytes]) -> None:
        while True:
            try:
                what, content = pickle.load(source)
            except EOFError:
                os._exit(0)
            if what == "stop":
                self._stop.set()
            else:
                self._stop.clear()
                self._trials.put(content)

    def _run(self, document: dict[str, Any]) -> None:
        """Run a trial and send messages on it to the parent."""
        config, events = self._config, _Throttled(self._tell)
        try:
            spec = unchanged(document)
            load = partial(load_checked, spec, config.data_dir)
            execute(spec, load, StudyFolder(config.folder), events.tell, config.seconds, self._stop.is_set)
        except StoreError as error:
            self._tell(("store", str(error)))
        except Exception as error:  # the optimizer cannot even be found
            self._tell(("failed", (f"{type(error).__name__}: {error}", traceback.format_exc())))
        else:
            if not events.ended and self._signal is None:  # else the parent sees this process end
                self._tell(("stopped", None))


def unchanged(document: dict[str, Any]) -> TrialSpec:
    """Return the specification of a document. Raise StudyError if its code differs from the parent's."""
    spec = TrialSpec.read(document)
    workloads.find(spec.task.source)  # before the optimizer's file, as in the parent: what it sets holds for all trials
    if not alike(spec.document(), document):
        raise StudyError(f"the source of {spec.config.label} has changed since the study began; start it again")
    return spec


def load_checked(spec: TrialSpec, data_dir: Path | None) -> Trainable:
    """Return the task. Raise StudyError if its data differ from the parent's."""
    task = load_task(spec.task, data_dir)
    if not alike(task.sha256, (spec.setting["data"] or {"sha256": {}})["sha256"]):
        raise StudyError(
            f"{spec.task.source} has other data in a worker process than in the one that made the plan: "
            "let it draw them from a seed of its own, or read them from a file"
        )
    return task


class _Throttled:
    """Sends events, and leaves out steps that soon follow another. `ended` is True after a trial's end."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.ended = False
        self._send = send
        self._reported = -math.inf

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        if event.record["kind"] != "step" or now - self._reported > QUIET:
            self._reported = now
            self.ended = event.record["kind"] == "end"
            self._send(("event", (event.record, event.timing)))


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent. Other systems rely on the end of standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(0)
