"""Other systems and incomplete installations, played on this one: Windows, a Mac without tools, no study packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steepest.executors.base import UnsupportedError
from steepest.executors.native import cache, compiler
from steepest.study.records import lock


@pytest.mark.parametrize(
    ("module", "arguments", "code", "told"),
    [
        ("steepest", ["list", "optimizers"], 0, "adamw"),
        ("steepest", ["nonsense"], 2, ""),
        pytest.param("steepest.cli.main", ["list", "optimizers"], 0, "adamw", marks=pytest.mark.slow),
        pytest.param("steepest.cli.main", ["nonsense"], 2, "", marks=pytest.mark.slow),
    ],
)
def test_modules_that_are_run_are_the_command(module: str, arguments: list[str], code: int, told: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code
    assert told in done.stdout


@pytest.mark.parametrize("code", ["from steepest.study import compare", "import steepest.study as s; s.Metric"])
def test_studies_without_their_packages_say_what_to_install(code: str) -> None:
    hidden = "import sys; sys.modules['numpy'] = sys.modules['scipy'] = sys.modules['rich'] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; {code}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert 'which is not installed: pip install "steepest[study]"' in done.stderr


class Windows:
    """What msvcrt offers: it locks one byte from the position of the file on."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        if place in self.held.values():
            raise OSError(36, "deadlock avoided")
        self.held[descriptor] = place


def test_on_windows_two_processes_lock_the_same_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msvcrt", Windows())  # type: ignore[arg-type]
    monkeypatch.setattr(lock, "_acquire", lock._acquire_on_windows)
    path = tmp_path / "lock"
    with path.open("a+", encoding="utf-8") as first, path.open("a+", encoding="utf-8") as second:
        assert lock.acquire(first)
        first.write("process 1, and more than there was")
        first.flush()
        second.seek(0, os.SEEK_END)
        assert not lock.acquire(second)
        first.seek(0)
        assert first.read().startswith("process 1")


def test_on_windows_a_cache_folder_is_its_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "geteuid")
    tmp_path.chmod(0o777)
    assert cache.is_private(tmp_path)


def test_on_windows_a_compiler_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg")
    with pytest.raises(UnsupportedError, match=r"ran for more than 0.2 s and was ended"):
        compiler._run([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)


@pytest.mark.parametrize("has_tools", [True, False])
def test_on_a_mac_without_tools_the_shim_is_not_run(has_tools: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], limit: float) -> tuple[int, str]:
        ran.append(command)
        return (0 if has_tools else 2) if command[0] == "xcode-select" else 0, "clang 15"

    monkeypatch.setattr(compiler, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(compiler, "_run", run)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("CC", raising=False)
    if has_tools:
        assert compiler._search().command == ("cc",)
    else:
        with pytest.raises(UnsupportedError, match="xcode-select --install"):
            compiler._search()
        assert ran == [["xcode-select", "-p"]]


def test_a_missing_option_is_no_misspelt_other_one() -> None:
    import torch

    from steepest import Rprop

    given: dict[str, Any] = {"weight_decay": 0.1}
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight_decay'") as caught:
        Rprop([torch.nn.Parameter(torch.ones(2))], **given)
    assert "did you mean" not in str(caught.value)
