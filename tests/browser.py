"""A headless browser that tests drive through the DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str:
    """Return the browser, or skip the test with the reason."""
    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(PROGRAMS)}")
    return found


class Page:
    """A page in the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol. Events on the way are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, address: str, width: int, height: int, scheme: str = "light", motion: str = "no-preference") -> None:
        """Open an address in a window of this size and wait until it is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self.call("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")
        self.settle()

    def ask(self, expression: str) -> Any:
        """Return the value of an expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < until, f"never true: {condition}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse, as a user does."""
        self.ask(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.ask(f"JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect())")
        at = json.loads(box)
        self.mouse("mousePressed", at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        self.mouse("mouseReleased", at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        self.settle()

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move the mouse, or press or release its button."""
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": " "} if key == " " else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)
        self.settle()

    @property
    def troubles(self) -> list[str]:
        """What the console has of errors and warnings, and what was fetched from anywhere but the file."""
        self.settle()
        found = []
        for event in self.events:
            about = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(about["exceptionDetails"]))
            if event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                found.append(str(about["args"]))
            if event["method"] == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(about["entry"]["text"])
            if event["method"] == "Network.requestWillBeSent":
                address = about["request"]["url"]
                found += [] if address.startswith(("file:", "data:", "about:")) else [f"fetches {address}"]
        return found


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start a browser with a profile of its own, and end it afterwards."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    command = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    environment = {**os.environ, "HOME": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            socket = websocket.create_connection(_address(folder, process), timeout=60, suppress_origin=True)
            try:
                yield Page(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(timeout=20)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address of the browser's first page, as soon as it has one."""
    import urllib.request

    until, file = time.monotonic() + 30, folder / "DevToolsActivePort"
    while not (file.is_file() and file.read_text().count("\n")):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < until, "the browser has not opened its port within 30 s"
        time.sleep(0.05)
    port = file.read_text().split()[0]
    while time.monotonic() < until:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            pages = [each for each in json.load(answer) if each["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("the browser has no page")
