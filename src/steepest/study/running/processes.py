"""Worker processes: started when there is work, kept between trials, replaced when they die."""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from steepest.study.errors import StoreError
from steepest.study.records.disk import remove_empty, writing_to
from steepest.study.records.format import FAILED, TIMED_OUT
from steepest.study.running.execution import record_death
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_process import Message, WorkerConfig
from steepest.study.running.workers import Take, TrialUpdate
from steepest.study.trials.checkpoints import SECONDS
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

PULSE: Final = 0.5
"""Seconds between two looks at the clock while nothing happens."""
GRACE: Final = 5.0
"""Seconds in which a stopped trial may take its checkpoint, and a worker may end."""
LAST_WORDS: Final = 4000
"""Characters of a dead worker's output that its record keeps."""


class Processes:
    """Workers that run trials in several processes at once. Use it in a `with` block, which ends all of them.

    Args:
        folder: the study's folder.
        jobs: number of processes.
        data_dir: the first folder in which workloads search for their data.
        time_limit: seconds after which a trial is ended as timed out; None lets it take its time.
        seconds: between two checkpoints of a trial.
        environments: environment variables of the processes, which take turns; they say which device each one sees.
    """

    def __init__(
        self,
        folder: StudyFolder,
        jobs: int = 1,
        *,
        data_dir: Path | None = None,
        time_limit: float | None = None,
        seconds: float = SECONDS,
        environments: Sequence[Mapping[str, str]] = ({},),
    ) -> None:
        self._environments = environments
        self._folder = folder
        self._limit = time_limit
        self._config = WorkerConfig(os.getpid(), folder.path, data_dir, seconds)
        self._updates: queue.SimpleQueue[tuple[_Process, Message | None]] = queue.SimpleQueue()
        self._waiting: deque[TrialSpec] = deque()
        self._places: list[_Process | None] = [None] * jobs

    def submit(self, trial: TrialSpec) -> None:
        """Put a trial into the queue."""
        self._waiting.append(trial)

    def collect(self, take: Take) -> None:
        """Send the waiting trials to the workers, and tell their updates."""
        while self._waiting or self._busy:
            for update in chain(self._hand_out(), self._listen()):
                take(update)

    def forget(self) -> None:
        """Forget the waiting trials. The running ones end as they would."""
        self._waiting.clear()

    def cancel(self) -> None:
        """Forget the waiting trials, and stop the running ones, with a checkpoint if it can be taken soon."""
        self.forget()
        for process in self._busy:
            process.send(("stop", None))
        with contextlib.suppress(KeyboardInterrupt):  # who presses Ctrl-C twice does not want to wait
            self._wait_for_stops()
        for process in self._busy:
            process.kill()
            process.trial = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.cancel()
        for process in filter(None, self._places):
            process.close()
        remove_empty(self._folder.path / "workers")

    @property
    def _busy(self) -> list["_Process"]:
        return [process for process in self._places if process is not None and process.trial is not None]

    def _hand_out(self) -> Iterator[TrialUpdate]:
        for number in range(len(self._places)):
            if not self._waiting:
                return
            process = self._ready(number)
            if process.trial is None:
                trial = self._waiting.popleft()
                process.run(trial)
                yield TrialUpdate(trial)

    def _ready(self, number: int) -> "_Process":
        """Return the process of this number. A process that has not started or died while idle is replaced."""
        process = self._places[number]
        if process is not None and process.trial is None and not process.alive:
            process.close()
            process = None
        if process is None:
            output = self._folder.path / "workers" / f"{number + 1}.txt"
            process = self._places[number] = _Process(
                self._config, output, self._updates, self._environments[number % len(self._environments)]
            )
        return process

    def _wait_for_stops(self) -> None:
        """Wait until every trial has stopped, or ended, or its process died."""
        last = time.monotonic() + GRACE
        while self._busy and time.monotonic() < last:
            with contextlib.suppress(queue.Empty):
                process, message = self._updates.get(timeout=PULSE)
                if message is None or message[0] not in ("ready", "event") or _is_end(message):
                    process.trial = None

    def _listen(self) -> Iterator[TrialUpdate]:
        """Wait a short time for a message, and yield its update."""
        try:
            process, message = self._updates.get(timeout=PULSE)
        except queue.Empty:
            pass
        else:
            yield from self._understood(process, message)
        yield from self._overdue()

    def _understood(self, process: "_Process", message: Message | None) -> Iterator[TrialUpdate]:
        trial = process.trial
        if trial is None:  # an idle worker died, or one that was killed spoke before
            return
        if message is None:
            yield self._end(process, trial, process.fate())
            return
        what, content = message
        if what == "ready":
            process.restart_clock()
            return
        if what == "event":
            event = Event(*content)
            if event.record["kind"] == "end":
                process.trial = None
            yield TrialUpdate(trial, event)
            return
        process.trial = None
        if what == "store":
            raise StoreError(content)
        if what == "failed":
            yield TrialUpdate(trial, record_death(trial, self._folder, *content))

    def _overdue(self) -> Iterator[TrialUpdate]:
        for process in self._busy:
            if process.trial is not None and self._limit is not None and process.seconds > self._limit:
                process.kill(politely=True)
                fate = f"it took longer than the time limit of {self._limit / 60:g} minutes and was ended"
                yield self._end(process, process.trial, fate, TIMED_OUT)

    def _end(self, process: "_Process", trial: TrialSpec, fate: str, status: str = FAILED) -> TrialUpdate:
        process.trial = None
        return TrialUpdate(trial, record_death(trial, self._folder, fate, process.last_words(), status))


class _Process:
    """One worker process and, while it works, its trial."""

    def __init__(
        self,
        config: WorkerConfig,
        output: Path,
        updates: "queue.SimpleQueue[tuple[_Process, Message | None]]",
        environment: Mapping[str, str],
    ) -> None:
        self.trial: TrialSpec | None = None
        self._output = output
        self._updates = updates
        self._began = 0.0
        self._told = 0
        with writing_to(output):
            output.parent.mkdir(exist_ok=True)
            with output.open("ab") as file, _sigint_blocked():
                self._child = subprocess.Popen(
                    [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {_MAIN}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    env={**os.environ, **environment},
                )
        threading.Thread(target=self._read, daemon=True).start()
        self.send(config)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def seconds(self) -> float:
        """Seconds since its trial began."""
        return time.monotonic() - self._began

    def restart_clock(self) -> None:
        """Restart the clock of its trial, because until now the process was only starting."""
        self._began = time.monotonic()

    def run(self, trial: TrialSpec) -> None:
        self.trial = trial
        self.restart_clock()
        self._told = self._output.stat().st_size
        self.send(("run", trial.document()))

    def send(self, what: WorkerConfig | Message) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it is dead; the reader will tell
            pickle.dump(what, self._child.stdin)
            self._child.stdin.flush()

    def kill(self, politely: bool = False) -> None:
        """Kill the worker. With `politely`, send SIGABRT first, so that faulthandler prints a traceback."""
        if politely and sys.platform != "win32":
            self._child.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(GRACE)
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Let the worker end, and delete its output file if it is empty."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE)
        self.kill()
        if self._output.stat().st_size == 0:
            self._output.unlink()

    def fate(self) -> str:
        """Return a sentence on how the worker ended."""
        code = self._child.wait()
        if code >= 0:
            return f"its process ended with exit code {code}"
        often = ", often for lack of memory" if -code == signal.SIGKILL else ""
        return f"its process was killed by signal {-code} ({signal.strsignal(-code)}){often}"

    def last_words(self) -> str:
        """Return the end of its output since its trial began, with the traceback of a crash."""
        words = self._output.read_bytes()[self._told :].decode(errors="replace")
        return words.partition("\nExtension modules: ")[0][-LAST_WORDS:]  # faulthandler's long list of what was loaded

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as source:
            while True:
                try:
                    message: Any = pickle.load(source)
                except (EOFError, OSError, pickle.UnpicklingError):
                    self._updates.put((self, None))
                    return
                self._updates.put((self, message))


def _is_end(message: Message) -> bool:
    what, content = message
    return what == "event" and bool(content[0]["kind"] == "end")


_MAIN: Final = "from steepest.study.running.worker_process import main; main()"


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start a child with Ctrl-C blocked, which only its parent handles."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
