"""Downloads: whole or not at all, never for ever."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from steepest.study.data import debian, fashion_mnist, fetch, places
from steepest.study.data.fetch import FetchError


@contextmanager
def server(files: dict[str, bytes], cut: int = 0, stall: float = 0.0) -> Iterator[str]:
    """Serve files from a thread; the last `cut` promised bytes never come, nor does anything before `stall` seconds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.removeprefix("/"))
            time.sleep(stall)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that hung up, as it should

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def archives(small_files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in small_files.items()}


def test_a_download_lands_in_the_cache_and_is_found(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(archives) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        data = fashion_mnist.load(None)
    assert (data.name, data.fallback) == ("fashion-mnist", None)
    cache = places.cache_folder("fashion-mnist")
    assert fashion_mnist.find() == cache
    assert sorted(path.name for path in cache.iterdir()) == sorted(archives)


def test_the_next_source_is_tried(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with server({}) as empty, server(archives) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (empty, url))
        assert fashion_mnist.load(None).fallback is None


@pytest.mark.parametrize("cut", [1, 100])
def test_a_partial_download_never_passes_for_a_whole_one(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    with server(archives, cut=cut) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        with pytest.raises(FetchError, match=r"ended after|IncompleteRead"):
            fashion_mnist.get()
    assert list(places.cache_folder("fashion-mnist").iterdir()) == []
    assert fashion_mnist.find() is None


def test_a_wrong_file_is_not_kept(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-labels-idx1-ubyte.gz"
    with server(archives | {name: gzip.compress(b"\0\0\x08\x01\0\0\0\x0a" + bytes(10))}) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        with pytest.raises(FetchError, match="not the official file"):
            fashion_mnist.get()
    assert list(places.cache_folder("fashion-mnist").iterdir()) == []


def test_a_damaged_file_is_replaced_and_the_others_are_left(
    data_folder: Path, no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, *others = sorted(archives)
    (data_folder / damaged).write_bytes(b"damaged")
    untouched = {name: (data_folder / name).stat().st_mtime_ns for name in others}
    with server({damaged: archives[damaged]}) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        assert fashion_mnist.get(data_folder) == data_folder
    assert fashion_mnist.read(data_folder).fallback is None
    assert {name: (data_folder / name).stat().st_mtime_ns for name in others} == untouched


def test_a_silent_network_does_not_hang(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PATIENCE", 0.1)
    with server(archives, stall=0.5) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        with pytest.raises(FetchError, match="timed out"):
            fashion_mnist.get()


def test_a_slow_network_does_not_hang(
    no_data_anywhere: Path, archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LIMIT", -1.0)
    with server(archives) as url:
        monkeypatch.setattr(fetch, "PUBLISHERS", (url,))
        with pytest.raises(FetchError, match="took longer"):
            fashion_mnist.get()


def test_a_folder_that_cannot_be_written(no_data_anywhere: Path, small_files: dict[str, bytes]) -> None:
    occupied = no_data_anywhere / "occupied"
    occupied.write_text("a file")
    with pytest.raises(FetchError, match=r"cannot write into.*--data-dir"):
        fashion_mnist.get(occupied)


def script(folder: Path, name: str, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", "PATH=/usr/bin:/bin", *lines, ""]))
    path.chmod(0o755)


@pytest.fixture
def package(no_data_anywhere: Path, archives: dict[str, bytes]) -> Path:
    """Stand in for apt-get and dpkg-deb: the package is a folder, and unpacking it copies that folder."""
    content = no_data_anywhere / "package" / fetch.DEBIAN_FOLDER
    content.mkdir(parents=True)
    for name, archive in archives.items():
        (content / name).write_bytes(archive)
    tools = no_data_anywhere / "bin"
    script(tools, "apt-get", f"touch {fetch.DEBIAN_PACKAGE}_1_all.deb")
    script(tools, "dpkg-deb", f'cp -r {no_data_anywhere}/package/. "$3"')
    return tools


def test_the_debian_package_is_unpacked_without_installing_it(package: Path) -> None:
    folder = fashion_mnist.get()
    assert fashion_mnist.read(folder).fallback is None
    assert all(path.suffix == ".gz" for path in folder.iterdir())


def test_missing_lists_of_packages_are_got_without_root(package: Path) -> None:
    """A fresh container has no lists: download fails, and works after an update into a folder of our own."""
    script(
        package,
        "apt-get",
        'case "$*" in',
        f"*Dir::State::Lists=*download*) touch {fetch.DEBIAN_PACKAGE}_1_all.deb ;;",
        "*Dir::State::Lists=*update*) exit 0 ;;",
        "*) echo 'E: Unable to locate package' >&2; exit 100 ;;",
        "esac",
    )
    assert fashion_mnist.read(fashion_mnist.get()).fallback is None


def test_what_apt_says_is_passed_on(package: Path) -> None:
    script(package, "apt-get", "echo 'E: Unable to fetch some archives' >&2", "exit 100")
    with pytest.raises(FetchError, match="Unable to fetch some archives"):
        fashion_mnist.get()


def test_an_apt_that_hangs_is_stopped(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "LIMIT", 0.2)
    script(package, "apt-get", "exec sleep 5")
    with pytest.raises(FetchError, match="took longer"):
        fashion_mnist.get()


def test_nothing_is_downloaded_when_a_place_has_the_data(no_data_anywhere: Path, data_folder: Path) -> None:
    system = places.SYSTEM / "fashion-mnist"
    system.parent.mkdir()
    data_folder.rename(system)
    assert fashion_mnist.obtain() == system
    assert not places.cache_folder("fashion-mnist").exists()


def test_whole_files_in_the_wanted_folder_are_not_downloaded_again(no_data_anywhere: Path, data_folder: Path) -> None:
    assert fashion_mnist.obtain(data_folder) == data_folder
