"""kill -9 at random moments, of a study and of its workers, as often as it takes; then the bytes are compared."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steepest.study import engine
from steepest.study.errors import StoreError
from steepest.study.store import StudyFolder

from . import runner
from .support import Silent, children

PARENT_KILLS, WORKER_KILLS = 3, 7
RUNNER = [sys.executable, runner.__file__]


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: the runner waits for the disk some hundred times."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


class Killer:
    """Kills the study or one of its workers after so many lines of what it tells."""

    def __init__(self, folder: StudyFolder, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self.kills = 0

    def run(self, workers: int, parent: bool) -> str:
        """Run the study, kill so many workers, and at last the parent if asked to; return what it told."""
        moments = [self._random.randint(3, 25) for _ in range(workers + parent)]
        told: list[str] = []
        with subprocess.Popen([*RUNNER, str(self._folder.path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told.append(line)
                if moments and len(told) >= moments[0]:
                    time.sleep(self._random.random() / 20)
                    self._kill(process, whole=parent and len(moments) == 1)
                    del moments[0]
                    moments = [len(told) + moment for moment in moments]
        return "".join(told)

    def _kill(self, process: "subprocess.Popen[str]", whole: bool) -> None:
        victims = children(process.pid)
        if whole:
            process.kill()
            process.wait()
            ends_within(10.0, victims)
            self.kills += 1
        elif victims:
            os.kill(self._random.choice(victims), signal.SIGKILL)
            self.kills += 1


def ends_within(seconds: float, processes: list[int]) -> None:
    """Assert that orphans do not live on."""
    last = time.monotonic() + seconds
    while any(Path(f"/proc/{one}").exists() for one in processes):
        assert time.monotonic() < last, "a worker lives on without its parent"
        time.sleep(0.02)


def test_a_study_that_is_killed_again_and_again_ends_in_the_same_bytes(quick_path: Path, silent: Silent) -> None:
    killed, whole = StudyFolder(quick_path / "killed"), StudyFolder(quick_path / "whole")
    killer = Killer(killed, seed=5)
    told = [killer.run(workers, parent=True) for workers in (2, 3, 2)]
    assert killer.kills >= PARENT_KILLS + WORKER_KILLS
    last = killer.run(0, parent=False)
    assert "resumed" in "".join([*told, last])
    plan = runner.made_plan()
    if "failed" in last:
        pytest.fail(last)
    engine.run(plan, whole, silent)
    one, two = killed.read_document() or {}, whole.read_document() or {}
    assert one["trials"] == two["trials"]
    assert one["chosen"] == two["chosen"]
    for trial in two["trials"]:
        path = f"trials/{trial['id']}.jsonl"
        assert (killed.path / path).read_bytes() == (whole.path / path).read_bytes(), path
    assert not list(killed.path.glob("checkpoints/*"))


def test_while_a_study_runs_nobody_else_writes_its_folder(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    with subprocess.Popen([*RUNNER, str(folder.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("started")
        with pytest.raises(StoreError, match=rf"is in use by another study \(process {process.pid}\)"):
            engine.run(runner.made_plan(), folder, silent)
        process.kill()
