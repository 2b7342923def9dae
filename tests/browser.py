"""A headless Chromium, spoken to over its DevTools protocol with the standard library alone."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome-headless-shell",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The browser that PROXDM_CHROMIUM names, or one that is installed, or None."""
    names = [os.environ["PROXDM_CHROMIUM"]] if "PROXDM_CHROMIUM" in os.environ else NAMES
    return next((found for name in names if (found := shutil.which(name))), None)


class Chromium:
    """A browser with one page, which has no network; use it as a context."""

    def __init__(self, program: str, profile: Path, seconds: float = 15.0) -> None:
        self.until = time.monotonic() + seconds
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.events: list[dict] = []
        self._numbers = itertools.count(1)
        try:
            self._socket = WebSocket(self._address(profile / "DevToolsActivePort"), self._left())
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            self.call(
                "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
            )
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def call(self, method: str, **parameters) -> dict:
        """The result of a command; what happens meanwhile goes to `events`."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)

    def open(self, path: Path) -> None:
        """Load a file, and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of the first element that matches."""
        box = self.evaluate(
            f"(e => {{ e.scrollIntoView({{behavior: 'instant', block: 'center', inline: 'center'}});"
            f"const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def look(self, width: int, scheme: str) -> None:
        """Set the width of the window, and light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def requests(self) -> list[str]:
        """Addresses that were asked for, but for those that hold their own content."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("warning", "error"):
                found.append(event["params"]["entry"]["text"])
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("warning", "error"):
                found.append(json.dumps(event["params"]["args"]))
        return found

    def _left(self) -> float:
        return max(self.until - time.monotonic(), 0.1)

    def _receive(self) -> dict:
        return json.loads(self._socket.receive(self._left()))

    def _address(self, file: Path) -> str:
        while not (file.is_file() and file.read_text().strip()):
            assert self.process.poll() is None, f"the browser left with status {self.process.returncode}"
            assert time.monotonic() < self.until, "the browser did not start in time"
            time.sleep(0.05)
        port = file.read_text().split()[0]
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            with direct.open(f"http://127.0.0.1:{port}/json/list", timeout=self._left()) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
            assert time.monotonic() < self.until, "the browser opened no page in time"
            time.sleep(0.05)


class WebSocket:
    """A client of RFC 6455 that sends and receives texts."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            (
                f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 101 " in status, status
        while self._file.readline().strip():
            pass

    def send(self, text: str) -> None:
        content, mask = text.encode(), os.urandom(4)
        size = len(content)
        head = b"\x81" + (
            bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size) if size < 1 << 16
            else b"\xff" + struct.pack(">Q", size)
        )  # fmt: skip
        self._socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(content)))

    def receive(self, timeout: float) -> str:
        self._socket.settimeout(timeout)
        parts, last = [], False
        while not last:
            first, second = self._file.read(2)
            size = second & 0x7F
            if size > 125:
                size = struct.unpack(*((">H", self._file.read(2)) if size == 126 else (">Q", self._file.read(8))))[0]
            content = self._file.read(size)
            if first & 0x0F in (0, 1):  # a text, or more of it; anything else is for the connection
                parts.append(content)
                last = bool(first & 0x80)
        return b"".join(parts).decode()

    def close(self) -> None:
        self._file.close()
        self._socket.close()
