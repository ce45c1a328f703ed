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

from steepest.study.errors import StoreError
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from . import runner
from .support import SCENARIOS, Silent, children, stored

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
    """Runs a study and kills it, or one of its workers, whenever it has told of some more steps."""

    def __init__(self, folder: StudyFolder, victims: str, seed: int, file: str = runner.MY_TASK) -> None:
        self._folder = folder
        self._file = file
        self._victims = list(victims)
        self._random = random.Random(seed)

    @property
    def done(self) -> bool:
        """Whether all that were to be killed have been."""
        return not self._victims

    def run(self) -> str:
        """Run the study until it is killed or ends; return what it told."""
        told: list[str] = []
        moment = self._random.randint(3, 12)
        command = [*RUNNER, str(self._folder.path), self._file]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told.append(line)
                if self._victims and len(told) >= moment:
                    time.sleep(self._random.random() / 20)
                    self._kill(process, self._victims.pop(0))
                    moment = len(told) + self._random.randint(3, 12)
        return "".join(told)

    def _kill(self, process: "subprocess.Popen[str]", victim: str) -> None:
        workers = children(process.pid)
        if victim == "w" and workers:
            os.kill(self._random.choice(workers), signal.SIGKILL)
        else:
            process.kill()
            process.wait()
            ends_within(10.0, workers)


def ends_within(seconds: float, processes: list[int]) -> None:
    """Assert that orphans do not live on."""
    last = time.monotonic() + seconds
    while any(Path(f"/proc/{one}").exists() for one in processes):
        assert time.monotonic() < last, "a worker lives on without its parent"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_in_the_same_bytes(quick_path: Path, silent: Silent) -> None:
    assert_equal_after_kills(quick_path, silent, "wwwwpwwwwp", runner.MY_TASK)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accumulation.py", "tabular.py"])
def test_an_experiment_that_is_killed_ends_in_the_same_bytes(quick_path: Path, silent: Silent, name: str) -> None:
    assert_equal_after_kills(quick_path, silent, "wwpw", str(SCENARIOS / name))


def assert_equal_after_kills(path: Path, silent: Silent, victims: str, file: str) -> None:
    killed, whole = StudyFolder(path / "killed"), StudyFolder(path / "whole")
    killer = Killer(killed, victims, seed=5, file=file)
    told = [killer.run()]
    while not killer.done or "tally" not in told[-1] or "failed" in told[-1]:
        told.append(killer.run())
    assert "resumed" in "".join(told)
    plan = runner.made_plan(file)
    engine.run(plan, whole, silent)
    one, two = stored(killed), stored(whole)
    assert one["trials"] == two["trials"]
    assert one["chosen"] == two["chosen"]
    for trial in two["trials"]:
        path = f"trials/{trial['id']}.jsonl"
        assert (killed.path / path).read_bytes() == (whole.path / path).read_bytes(), path
    assert not list(killed.path.glob("checkpoints/*"))


def test_while_a_study_runs_nobody_else_writes_its_folder(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    with subprocess.Popen([*RUNNER, str(folder.path), runner.MY_TASK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("started")
        with pytest.raises(StoreError, match=rf"is in use by another study \(process {process.pid}\)"):
            engine.run(runner.made_plan(), folder, silent)
        process.kill()
