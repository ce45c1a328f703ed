"""Ctrl-C and SIGTERM from outside: a real process, a real signal."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steepest.study.running.store import StudyFolder

# A shell starts its background jobs with SIGINT ignored, which Python then leaves so.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{LISTENING}; from steepest.cli.main import main; main()"]
ARGUMENTS = ["study", "digits", "--preset", "smoke", "--epochs", "3", "--seeds", "400", "-o", "sgd"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_at_once_and_the_command_says_how_to_continue(tmp_path: Path, number: int) -> None:
    arguments = [*COMMAND, *ARGUMENTS, "--out", str(tmp_path / "study")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("evaluation [3/400] SGD seed 2: finished"):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert re.search(r"Interrupted\. Finished trials are kept in .*\nTo continue: steepest study digits", errors)
    assert "Traceback" not in errors
    folder = StudyFolder(tmp_path / "study")
    ids = [trial.id for trial in folder.document().trials]
    done = [trial for trial in ids if folder.is_done(trial)]
    assert 3 <= len(done) < 400
    assert done == ids[: len(done)]
