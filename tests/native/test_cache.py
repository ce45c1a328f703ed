"""The kernel cache: whose it is, what it believes, who may race, and where kernels go when it cannot be used."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import spec_of
from steepest import SGD
from steepest.executors.base import UnsupportedError
from steepest.executors.native import cache, compiler, library
from steepest.executors.native.executor import kernel_of

from .support import forked, in_child, in_children, parameters, python, script, stepped, wait_until

CONTENT = b"\x7fELF and all that follows" * 100


class Maker:
    """Stands for a compiler."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, target: Path) -> None:
        self.calls += 1
        target.write_bytes(CONTENT)


def kernels(folder: Path) -> Path:
    return folder / "cache" / "steepest" / "kernels"


def obtained(identity: str = "a kernel") -> tuple[Path, int]:
    """The library's path, and how often it had to be made."""
    make = Maker()
    path = cache.obtain(identity, make, lambda found: found)
    assert path.read_bytes().startswith(CONTENT)
    assert cache.is_intact(path)
    return path, make.calls


def assert_private(path: Path, folder: Path) -> None:
    """It lies in a temporary folder that only we can read, and nothing else does."""
    assert path.parent.parent == folder / "temporary"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list((folder / "temporary").iterdir()) == [path.parent]


# -- where ----------------------------------------------------------------------------------------------------------


def test_a_kernel_is_made_once_in_a_folder_of_our_own(cold: Path) -> None:
    path, calls = obtained()
    assert (path.parent, calls) == (kernels(cold), 1)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert obtained() == (path, 0)
    assert list(path.parent.iterdir()) == [path]
    assert list((cold / "temporary").iterdir()) == []


def test_another_identity_is_another_file(cold: Path) -> None:
    paths = {obtained(identity)[0] for identity in ("a", "b", "a ")}
    assert len(paths) == 3


@pytest.mark.parametrize("given", ["", "relative/cache", "."])
def test_a_relative_folder_is_ignored(cold: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(cold / "home"))
    assert obtained()[0].parent == cold / "home" / ".cache" / "steepest" / "kernels"


def test_without_a_home_there_is_a_private_folder(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert_private(obtained()[0], cold)


@pytest.mark.parametrize("name", ["with spaces", "ünï ✓", "two\nlines", "quote'\"$HOME`"])
def test_any_folder_name_will_do_for_a_real_kernel(cold: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cold / name))
    temporary = cold / name / "temporary"
    temporary.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    stepped(SGD(parameters([(3,)]), fused=True))
    (made,) = (cold / name / "steepest" / "kernels").iterdir()
    assert cache.is_intact(made)


# -- whom it trusts -------------------------------------------------------------------------------------------------


def writable_by_the_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o770)


def writable_by_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o1777)


def owned_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)


def a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder.parents[1] / "elsewhere"
    elsewhere.mkdir(parents=True, mode=0o700)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere)


def a_broken_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder.parent / "nowhere")


def a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")


def below_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parents[1].write_text("a file")


def not_to_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self")


UNUSABLE = [
    writable_by_the_group,
    writable_by_all,
    owned_by_another,
    a_link,
    a_broken_link,
    a_file,
    below_a_file,
    not_to_be_made,
]


@pytest.mark.parametrize("spoil", UNUSABLE, ids=lambda f: f.__name__)
def test_a_folder_that_others_could_write_to_is_neither_read_nor_written(
    cold: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    planted, _ = obtained()
    good = planted.read_bytes()
    shutil.rmtree(cold / "cache")
    spoil(kernels(cold), monkeypatch)
    if kernels(cold).is_dir():
        (kernels(cold) / planted.name).write_bytes(good)  # what another user would plant is well-formed
    before = sorted(cold.rglob("cache/**/*"))
    path, calls = obtained()
    assert calls == 1
    assert_private(path, cold)
    assert sorted(cold.rglob("cache/**/*")) == before
    assert obtained() == (path, 0)


# -- what it believes -----------------------------------------------------------------------------------------------


def flipped(place: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        at = int(place * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return damage


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one-byte-short": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "without-the-seal": lambda data: data[: -len(cache.MARK) - 32],
    "only-the-seal": lambda data: data[-len(cache.MARK) - 32 :],
    "longer": lambda data: data + b"\0",
    "foreign": lambda data: b"int main(void) { return 0; }",
    "zeros": lambda data: bytes(len(data)),
    "first-bit": flipped(0.0),
    "middle-bit": flipped(0.5),
    "last-bit": flipped(1.0),
    "bit-of-the-mark": flipped(1.0 - 36 / (len(CONTENT) + 40)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_made_anew(cold: Path, damage: Callable[[bytes], bytes]) -> None:
    path, _ = obtained()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert path.read_bytes() != good
    assert obtained() == (path, 1)
    assert path.read_bytes() == good
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_in_a_kernels_place_is_left_alone(cold: Path) -> None:
    path, _ = obtained()
    path.unlink()
    path.mkdir()
    found, calls = obtained()
    assert calls == 1
    assert_private(found, cold)
    assert path.is_dir()


def test_a_damaged_kernel_is_compiled_again_and_runs(cold: Path) -> None:
    (wanted,) = stepped(SGD(parameters([(5,)]), lr=0.5, fused=True))
    (path,) = kernels(cold).iterdir()
    path.unlink()  # the loaded one must keep its bytes
    path.write_bytes(b"\x7fELF")
    library._library.cache_clear()
    (got,) = stepped(SGD(parameters([(5,)]), lr=0.5, fused=True))
    assert torch.equal(got, wanted)
    assert cache.is_intact(path)


# -- when it cannot be written --------------------------------------------------------------------------------------


def test_what_the_disk_has_no_room_for_goes_to_a_private_folder(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.is_relative_to(cold / "cache"):
            write(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    path, calls = obtained()
    assert calls == 1
    assert_private(path, cold)
    assert list(kernels(cold).iterdir()) == []


def test_where_nothing_can_be_written_it_says_so(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnsupportedError, match=r"a compiled kernel cannot be written.*No space left"):
        cache.obtain("a kernel", lambda target: target.touch(), lambda found: found)


def test_a_cache_that_is_read_only_is_still_read(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes from a stand-in, since no permission stops root, who may run these tests."""
    known, _ = obtained("known")
    make_folder = tempfile.mkdtemp

    def read_only(suffix: str | None = None, prefix: str | None = None, dir: Any = None) -> str:  # noqa: A002 - its name
        if dir is not None and Path(dir).is_relative_to(cold / "cache"):
            raise OSError(errno.EROFS, "Read-only file system")
        return make_folder(suffix, prefix, dir)

    monkeypatch.setattr(tempfile, "mkdtemp", read_only)
    assert obtained("known") == (known, 0)
    path, calls = obtained("new")
    assert calls == 1
    assert_private(path, cold)
    assert list(known.parent.iterdir()) == [known]


@pytest.mark.parametrize(
    ("room", "reason"), [(-1, "a compiled kernel cannot be written"), (100, "the C compiler 'cc -g3' failed")]
)
def test_without_room_for_temporary_files_foreach_runs(
    cold: Path, monkeypatch: pytest.MonkeyPatch, room: int, reason: str
) -> None:
    """No file may grow larger than the source and a little: the source has no room, or what the compiler makes."""
    monkeypatch.setenv("CC", "cc -g3")  # which makes large files
    resource = pytest.importorskip("resource", reason="limits on the size of files are POSIX")
    optimizer = SGD(parameters([(3,)]), lr=0.5)
    size = len(kernel_of(spec_of(optimizer)).source) + room

    def work() -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return stepped(optimizer), repr(optimizer.executor)

    wanted = stepped(SGD(parameters([(3,)]), lr=0.5, foreach=True))
    said = in_child(work)
    assert said.startswith(str((wanted, ""))[:-5])
    assert re.search(rf"'foreach' \(native: {reason}", said), said


# -- who may race ---------------------------------------------------------------------------------------------------


def test_eight_processes_may_compile_the_same_kernel_at_a_time(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, go = os.pipe()
    log = cold / "log"
    monkeypatch.setenv("CC", str(script(cold / "cc", f'echo "$$" >> {log}\nexec {shutil.which("cc")} "$@"')))

    def work() -> Any:
        os.close(go)
        os.read(ready, 1)  # returns for all at once, when the parent closes its end
        return stepped(SGD(parameters([(5,)]), lr=0.5, fused=True))

    results = in_children([work] * 8, start=lambda: os.close(go))
    os.close(ready)
    assert set(results) == {str(stepped(SGD(parameters([(5,)]), lr=0.5, foreach=False)))}
    (path,) = kernels(cold).iterdir()
    assert cache.is_intact(path)
    assert len(log.read_text().split()) > 1, "they did not race"
    assert list((cold / "temporary").iterdir()) == []


def test_what_a_killed_process_leaves_is_in_nobodys_way(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of its compilation."""
    started = cold / "started"
    slow = script(cold / "slow", f"echo $$ > {started}.new; mv {started}.new {started}; exec sleep 100")
    monkeypatch.setenv("CC", str(slow))
    child = forked(lambda: stepped(SGD(parameters([(5,)]), fused=True)))
    wait_until(started.exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.kill(int(started.read_text()), signal.SIGKILL)  # it has a session of its own
    monkeypatch.delenv("CC")
    stepped(SGD(parameters([(5,)]), fused=True), 2)
    (path,) = kernels(cold).iterdir()
    assert cache.is_intact(path)


# -- from process to process ----------------------------------------------------------------------------------------

PRIVATE = """
import os, sys, torch
from steepest import SGD
from steepest.executors.native.cache import private_folder

p = torch.nn.Parameter(torch.ones(2))
p.grad = torch.ones(2)
SGD([p], fused=True).step()
folder = private_folder()
assert list(folder.glob("*.so"))
if not os.fork():
    sys.exit(0)
assert os.wait()[1] == 0
assert list(folder.glob("*.so")), "a forked child took it away"
print(folder)
"""


def test_a_private_folder_goes_with_the_process_that_made_it(cold: Path) -> None:
    folder = Path(python(PRIVATE, XDG_CACHE_HOME="/proc/self", TMPDIR=str(cold / "temporary")))
    assert folder.parent == cold / "temporary"
    assert not folder.exists()


LATER = """
import torch
from steepest import SGD

p = torch.nn.Parameter(torch.ones(2))
p.grad = torch.ones(2)
SGD([p], lr=0.5, fused=True).step()
print(p.tolist())
"""


def test_a_later_process_compiles_nothing(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = cold / "log"
    monkeypatch.setenv("CC", str(script(cold / "cc", f'echo compiled >> {log}\nexec {shutil.which("cc")} "$@"')))
    stepped(SGD(parameters([(3,)]), fused=True))
    assert log.read_text().split() == ["compiled"]
    assert python(LATER) == "[0.5, 0.5]"
    assert log.read_text().split() == ["compiled"]


def test_the_cache_knows_compiler_flags_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is part of a kernel's identity."""
    found = compiler.Compiler(("cc",), "version 1")
    identities = {found.identity, compiler.Compiler(("cc",), "version 2").identity}
    identities.add(compiler.Compiler(("cc", "-m64"), "version 1").identity)
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "-g"))
    identities.add(found.identity)
    monkeypatch.setattr(compiler, "_processor", lambda: "another")
    identities.add(found.identity)
    assert len(identities) == 5


def test_where_nothing_may_be_executed_a_private_folder_serves(cold: Path) -> None:
    def load(path: Path) -> Path:
        if path.parent == kernels(cold):
            raise OSError("failed to map segment from shared object")
        return path

    assert_private(cache.obtain("a kernel", Maker(), load), cold)


def test_a_folder_that_others_could_exchange_is_not_believed(cold: Path) -> None:
    kernels(cold).mkdir(parents=True, mode=0o700)
    kernels(cold).parent.chmod(0o777)
    path, _ = obtained()
    assert_private(path, cold)
