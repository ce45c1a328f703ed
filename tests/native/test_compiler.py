"""The C compiler: which one is taken, and that none, a wrong, a failing, a hanging or a strange one does no harm."""

from __future__ import annotations

import gc
import os
import shutil
import time
import weakref
from pathlib import Path

import pytest
import torch

from steepest import SGD, AdamW
from steepest.executors.base import UnsupportedError
from steepest.executors.native import compiler

from .support import is_alive, parameters, script, stepped, wait_until

REAL = shutil.which("cc")
COMPILES = f'exec {REAL} "$@"'


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def fails_at_the_first_step(match: str) -> None:
    with pytest.raises(RuntimeError, match=rf"(?s)`fused=True` cannot run here: .*{match}.*leave fused=None"):
        stepped(SGD(parameters([(3,)]), fused=True))


def falls_back(match: str) -> None:
    """The default runs foreach, computes what foreach computes, and says why."""
    optimizer = AdamW(parameters([(3,), (2, 2)]), lr=0.1)
    wanted = stepped(AdamW(parameters([(3,), (2, 2)]), lr=0.1, foreach=True), 3)
    assert all(map(torch.equal, stepped(optimizer, 3), wanted))
    assert optimizer.executor == "foreach"
    assert match in optimizer.executor.reason
    assert repr(optimizer.executor) == f"'foreach' ({optimizer.executor.reason})"


# -- which one ------------------------------------------------------------------------------------------------------


def test_none(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cold))
    said = r"no C compiler was found \(CC is not set; cc, gcc, clang are not on PATH\); install gcc or clang, or set CC"
    with pytest.raises(RuntimeError, match=said):
        SGD(parameters([(3,)]), fused=True)
    assert SGD(parameters([(3,)])).executor == "foreach"
    falls_back("native: no C compiler was found")


def test_one_that_is_installed_later_is_found(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cold))
    assert SGD(parameters([(3,)])).executor == "foreach"
    monkeypatch.setenv("CC", str(REAL))
    assert SGD(parameters([(3,)])).executor == "native"


@pytest.mark.parametrize(
    ("present", "taken"), [(["clang"], "clang"), (["clang", "gcc"], "gcc"), (["clang", "gcc", "cc"], "cc")]
)
def test_the_usual_names_in_order(cold: Path, monkeypatch: pytest.MonkeyPatch, present: list[str], taken: str) -> None:
    for name in present:
        script(cold / "bin" / name, "exit 1")
    monkeypatch.setenv("PATH", str(cold / "bin"))
    assert compiler.find_compiler().command == (taken,)
    assert compiler.find_compiler().version.strip() == f"a script at {taken}"


def test_cc_goes_before_them_and_may_have_arguments(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = cold / "log"
    ours = script(cold / "a folder" / "my cc", f'echo "$@" >> {log}\n{COMPILES}')
    monkeypatch.setenv("CC", f"'{ours}' -m64 -DNOTE='two words'")
    assert compiler.find_compiler().command == (str(ours), "-m64", "-DNOTE=two words")
    stepped(SGD(parameters([(3,)]), fused=True))
    (call,) = [line for line in lines(log) if "--version" not in line]
    assert call.startswith("-m64 -DNOTE=two words -std=c11 ")


@pytest.mark.parametrize("wrong", ["no-such-compiler -O2", "/nowhere/cc", "'unbalanced"])
def test_a_wrong_cc_is_an_error_that_names_it(cold: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Although there is another one on PATH: what was asked for runs or raises."""
    monkeypatch.setenv("CC", wrong)
    with pytest.raises(RuntimeError) as raised:
        SGD(parameters([(3,)]), fused=True)
    assert f"CC is {wrong!r}" in str(raised.value)
    falls_back(f"CC is {wrong!r}")


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_cc_is_none(cold: Path, monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    monkeypatch.setenv("CC", empty)
    assert compiler.find_compiler().command == ("cc",)


def test_one_that_does_not_know_this_processor_compiles_for_any(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuses = 'case "$*" in *-march*|*-mcpu*) echo "unknown processor" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", str(script(cold / "cc", f"{refuses}\n{COMPILES}")))
    (p,) = stepped(SGD(parameters([(5,)]), lr=0.5, fused=True))
    assert torch.equal(p, stepped(SGD(parameters([(5,)]), lr=0.5, foreach=False))[0])


def test_it_speaks_english_whatever_the_users_language(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is otherwise called in the user's environment."""
    log = cold / "log"
    monkeypatch.setenv("CC", str(script(cold / "cc", f'echo "$LC_ALL $LANG $STEEPEST_TEST" >> {log}\n{COMPILES}')))
    monkeypatch.setenv("LC_ALL", "tr_TR.ISO-8859-9")
    monkeypatch.setenv("LANG", "xx_YY.nonsense")
    monkeypatch.setenv("STEEPEST_TEST", "kept")
    stepped(SGD(parameters([(3,)]), fused=True))
    assert lines(log) == ["C xx_YY.nonsense kept"]
    assert os.environ["LC_ALL"] == "tr_TR.ISO-8859-9"


# -- one that fails -------------------------------------------------------------------------------------------------


def test_its_own_words_are_in_the_message(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(script(cold / "cc", 'echo "to standard output"; echo "out of coffee" >&2; exit 3')))
    fails_at_the_first_step("exit status 3: to standard output\nout of coffee")
    falls_back("out of coffee")


def test_one_that_cannot_even_say_its_version(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = cold / "cc"
    broken.write_text("#!/bin/sh\necho 'no licence' >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(RuntimeError, match="does not run: no licence"):
        SGD(parameters([(3,)]), fused=True)
    falls_back("no licence")


def test_one_that_is_no_program(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = cold / "cc"
    text.write_bytes(b"\x7fELF\0\0\0")
    text.chmod(0o755)
    monkeypatch.setenv("CC", str(text))
    with pytest.raises(RuntimeError, match="does not start"):
        SGD(parameters([(3,)]), fused=True)
    falls_back("does not start")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('printf "\\377\\376\\000garbage"; exit 1', "garbage"),
        ("yes nonsense | head -c 1000000; exit 1", "nonsense"),
        ('printf "\\033[31m"; kill -9 $$', "exit status -9"),
        ("exit 0", "wrote nothing"),
    ],
    ids=["bytes", "a-megabyte", "killed", "nothing"],
)
def test_one_that_prints_garbage_or_nothing(cold: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str) -> None:
    monkeypatch.setenv("CC", str(script(cold / "cc", body)))
    fails_at_the_first_step(said)
    falls_back(said)
    assert len(SGD(parameters([(3,)])).executor.reason) < 2000


def test_one_that_writes_no_library(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 'while [ "$1" != -o ]; do shift; done; echo "no library" > "$2"'
    monkeypatch.setenv("CC", str(script(cold / "cc", writes)))
    fails_at_the_first_step("cannot be loaded")
    falls_back("cannot be loaded")


def test_one_that_writes_a_foreign_library(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cold / "foreign.c").write_text("int answer(void) { return 42; }")
    foreign = f'while [ "$1" != -o ]; do shift; done; exec {REAL} -shared -fPIC -o "$2" {cold}/foreign.c'
    monkeypatch.setenv("CC", str(script(cold / "cc", foreign)))
    fails_at_the_first_step("cannot be loaded: .*steepest_load")


def test_what_failed_is_not_tried_again_at_every_step(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = cold / "log"
    monkeypatch.setenv("CC", str(script(cold / "cc", f"echo called >> {log}; exit 1")))
    for _ in range(3):
        stepped(SGD(parameters([(3,)])), 3)
        fails_at_the_first_step("exit status 1")
    assert lines(log) == ["called"] * len(compiler.TUNED)


def test_a_version_that_failed_is_not_asked_for_again(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = cold / "log"
    asked = cold / "cc"
    asked.write_text(f"#!/bin/sh\necho asked >> {log}\nexit 1\n")
    asked.chmod(0o755)
    monkeypatch.setenv("CC", str(asked))
    for _ in range(3):
        stepped(SGD(parameters([(3,)])), 3)
    assert lines(log) == ["asked"]


def test_a_remembered_failure_keeps_no_tensors(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(script(cold / "cc", "exit 1")))
    optimizer = AdamW(parameters([(3,)]))
    stepped(optimizer, 2)
    held = [weakref.ref(x) for p in optimizer.state for x in (p, *optimizer.state[p].values())]
    del optimizer
    gc.collect()
    assert [ref() for ref in held] == [None] * len(held)


# -- one that hangs -------------------------------------------------------------------------------------------------


def hanging(cold: Path, body: str, log: Path) -> str:
    """A compiler with a child of its own; both tell their process numbers."""
    return str(script(cold / "cc", f"sleep 100 &\necho $! >> {log}\necho $$ >> {log}\n{body}"))


@pytest.mark.parametrize("body", ["wait", "exit 1", "exit 0"], ids=["itself", "its-child-after-failing", "its-child"])
def test_it_is_ended_with_all_that_it_started(cold: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A child that lives on holds the pipe, so that the end of the compiler is not the end of the wait."""
    log = cold / "log"
    monkeypatch.setattr(compiler, "TIME_LIMIT", 0.5)
    monkeypatch.setenv("CC", hanging(cold, body, log))
    before = time.monotonic()
    fails_at_the_first_step(r"ran for more than 0\.5 s and was ended")
    falls_back("ran for more than 0.5 s")
    assert time.monotonic() - before < 20
    started = list(map(int, lines(log)))
    assert len(started) == 4  # it was called for two kernels
    wait_until(lambda: not any(map(is_alive, started)))


def test_one_that_hangs_at_its_version(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "TIME_LIMIT", 0.3)
    slow = cold / "cc"
    slow.write_text("#!/bin/sh\nexec sleep 100\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CC", str(slow))
    with pytest.raises(RuntimeError, match=r"ran for more than 0\.3 s"):
        SGD(parameters([(3,)]), fused=True)


def test_an_interrupted_compilation_is_ended_too(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by ctrl-C."""
    log = cold / "log"

    def interrupted(self: object, timeout: float | None = None) -> tuple[bytes, None]:
        wait_until(lambda: len(lines(log)) == 2)
        raise KeyboardInterrupt

    found = compiler.Compiler((hanging(cold, "wait", log),), "")
    monkeypatch.setattr(compiler.subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.compile("", cold / "kernel.so")
    wait_until(lambda: not any(map(is_alive, map(int, lines(log)))))


def test_the_time_limit_is_an_unsupported_error(cold: Path) -> None:
    """Which is what executors fall back on."""
    slow = script(cold / "cc", "exec sleep 100")
    with pytest.raises(UnsupportedError, match=r"ran for more than 0\.1 s"):
        compiler._run([str(slow)], 0.1)
