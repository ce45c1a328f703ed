"""The C compiler: which one, with which flags, and one guarded call of it."""

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
"""Looked up on PATH in this order, after the environment variable CC."""

OPTIMIZATION = "-O3"
"""How hard the compiler tries. It decides speed only: the flags below fix how each operation rounds."""

FLAGS = (
    *("-std=c11", "-fPIC", "-shared", "-w", "-Werror=implicit-function-declaration"),
    *(
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
    ),  # each operation rounds once; sqrt is one instruction
)
TUNED = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
"""Flags for this very processor, the first that the compiler understands."""

TIME_LIMIT = 60.0
"""Seconds that one compilation may take; it takes about 0.2."""


@dataclass(frozen=True)
class Compiler:
    """A compiler that was found: its command, and what it says of its version."""

    command: tuple[str, ...]
    version: str

    @property
    def identity(self) -> str:
        """All that decides what this compiler makes of a source on this machine."""
        return "\n".join((*self.command, self.version, *FLAGS, OPTIMIZATION, *map(" ".join, TUNED), _processor()))

    def compile(self, source: str, target: Path) -> None:
        """Compile ``source`` into the shared library ``target``.

        Raises:
            UnsupportedError: it failed or took longer than the time limit; the message has the compiler's own words.
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
    """The machine's C compiler; looked for anew when CC or PATH is another.

    Raises:
        UnsupportedError: there is none, or it does not say its version.
    """
    found = _found(os.environ.get("CC", ""), os.environ.get("PATH", ""))
    if isinstance(found, str):
        raise UnsupportedError(found)
    return found


@cache
def _found(given: str, path: str) -> Compiler | str:
    """The compiler, or why there is none: one that hangs is asked once."""
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
    """On a Mac /usr/bin/cc and its like ask for the developer tools in a dialog where they are not installed."""
    if sys.platform == "darwin" and Path(place).parent == Path("/usr/bin"):
        code, _ = _run(["xcode-select", "-p"], TIME_LIMIT)
        if code:
            raise UnsupportedError(f"{place} needs Apple's developer tools; install them with: xcode-select --install")


def _candidates() -> Iterator[tuple[str, ...]]:
    """$CC alone if it is set (a wrong one is an error, not a hint); otherwise the usual names."""
    try:
        given = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise UnsupportedError(f"CC is {os.environ['CC']!r}, which is no command line: {error}") from error
    yield from [tuple(given)] if given else [(name,) for name in NAMES]


def _run(command: list[str], limit: float) -> tuple[int, str]:
    """Exit status and output of ``command``; all that it started is ended with it."""
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
    """End a command and what it has started, which may run on after the command itself."""
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
    """The processor, with its instruction sets where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
    told = dict.fromkeys(line for line in lines if line.split(":")[0].strip() in wanted)
    return "\n".join((platform.machine(), *told))
