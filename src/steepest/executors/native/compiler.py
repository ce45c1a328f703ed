"""The C compiler: its choice, its flags, and a guarded call of it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..base import UnsupportedError

NAMES = ("cc", "gcc", "clang")
"""Names to look up on PATH in this order, after the environment variable CC."""

OPTIMIZATION = "-O3"
"""Optimization level. It decides speed only: the flags below fix how each operation rounds."""

FLAGS = (
    *("-std=c11", "-fPIC", "-shared", "-w", "-Werror=implicit-function-declaration"),
    *(
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
    ),  # each operation rounds once; sqrt is one instruction
)
TUNED = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
"""Sets of flags for this very processor. The first that the compiler understands is used."""

TIME_LIMIT = 60.0
"""Seconds that one compilation may take. About 0.2 are usual."""


@dataclass(frozen=True)
class Compiler:
    """A compiler on this machine: its command, and its own words about its version."""

    command: tuple[str, ...]
    version: str

    @property
    def identity(self) -> str:
        """All that decides the library that this compiler makes of a source on this machine."""
        return "\n".join((*self.command, self.version, *FLAGS, OPTIMIZATION, *map(" ".join, TUNED), _processor()))

    def compile(self, source: str, target: Path) -> None:
        """Compile ``source`` into the shared library ``target``.

        Raises:
            UnsupportedError: the compiler fails, or takes longer than the time limit. The message quotes the compiler.
        """
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="compiling-") as folder:
            text = Path(folder, "kernel.c")
            text.write_text(source, encoding="utf-8")
            for tuned in TUNED:
                command = [*self.command, *FLAGS, OPTIMIZATION, *tuned, "-o", str(target), str(text), "-lm"]
                code, output = _run(command, TIME_LIMIT)
                if code == 0 and target.is_file():
                    return
        outcome = f"failed with exit status {code}" if code else "wrote nothing"
        raise UnsupportedError(f"the C compiler {' '.join(self.command)!r} {outcome}: {output.strip()[-800:]}")


def find_compiler() -> Compiler:
    """Find the machine's C compiler. The search is repeated when CC or PATH has changed.

    Raises:
        UnsupportedError: the compiler is missing, or does not say its version.
    """
    found = _found(os.environ.get("CC", ""), os.environ.get("PATH", ""))
    if isinstance(found, str):
        raise UnsupportedError(found)
    return found


@cache
def _found(given: str, path: str) -> Compiler | str:
    """Return the compiler, or why none can be used. A compiler that hangs is asked only once."""
    try:
        return _search()
    except UnsupportedError as refusal:
        return str(refusal)


def _search() -> Compiler:
    for command in _candidates():
        if place := shutil.which(command[0]):
            _refuse_shim(place)
            code, output = _run([*command, "--version"], TIME_LIMIT)
            if code:
                raise UnsupportedError(f"the C compiler {' '.join(command)!r} does not run: {output.strip()[-800:]}")
            return Compiler(command, output)
    asked = f"CC is {os.environ['CC']!r}, which is not there" if os.environ.get("CC") else "CC is not set"
    raise UnsupportedError(
        f"no C compiler was found ({asked}; {', '.join(NAMES)} are not on PATH); install gcc or clang, or set CC"
    )


def _refuse_shim(place: str) -> None:
    """Raise `UnsupportedError` for a Mac's /usr/bin/cc and its like if the developer tools are not installed.

    Such a command would ask for them in a dialog.
    """
    if sys.platform == "darwin" and Path(place).parent == Path("/usr/bin"):
        code, _ = _run(["xcode-select", "-p"], TIME_LIMIT)
        if code:
            raise UnsupportedError(f"{place} needs Apple's developer tools; install them with: xcode-select --install")


def _candidates() -> Iterator[tuple[str, ...]]:
    """Yield only $CC if it is set (a wrong one is an error, not a hint); otherwise the usual names."""
    try:
        given = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise UnsupportedError(f"CC is {os.environ['CC']!r}, which is no command line: {error}") from error
    yield from [tuple(given)] if given else [(name,) for name in NAMES]


def _run(command: list[str], limit: float) -> tuple[int, str]:
    """Run ``command`` and return its exit status and output. All that the command started is ended with it."""
    environment = os.environ | {"LC_ALL": "C"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        started = subprocess.Popen(command, env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
    except OSError as error:
        raise UnsupportedError(f"the C compiler {command[0]!r} does not start: {error}") from error
    output = None
    try:
        output, _ = started.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"the C compiler {command[0]!r} ran for more than {limit:g} s and was ended") from None
    finally:
        if output is None:
            _end(started)
    return started.returncode, output.decode(errors="replace")


def _end(started: subprocess.Popen[bytes]) -> None:
    """End a command and the processes that it has started, which may outlive it."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(started.pid, signal.SIGKILL)
        else:  # Windows
            started.kill()
    if started.stdout is not None:
        started.stdout.close()
    started.wait()


@cache
def _processor() -> str:
    """Describe the processor, with its instruction sets where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
    told = dict.fromkeys(line for line in lines if line.split(":")[0].strip() in wanted)
    return "\n".join((platform.machine(), *told))
