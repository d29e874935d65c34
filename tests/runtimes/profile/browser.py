"""Pages in a real browser, headless: what it shows, says and asks the network for."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--enable-logging=stderr", "--force-color-profile=srgb",
)  # fmt: skip
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What came of a page. dom: after its scripts; console: what it logged, errors included."""

    dom: str
    console: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A folder on a local server. asked: the paths that were requested, in order."""

    address: str
    folder: Path
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve a folder for the time of the block."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Site(address=f"http://127.0.0.1:{server.server_port}", folder=folder, asked=asked)
        finally:
            server.shutdown()
            thread.join()


def show(address: str, *options: str) -> Shown:
    """Load a page and wait for its scripts."""
    done = _run("--dump-dom", *options, address)
    console = re.findall(r":CONSOLE[^\]]*\] (.*)", done.stderr)
    return Shown(dom=done.stdout, console=console)


def screenshot(address: str, path: Path, size: tuple[int, int], *options: str) -> None:
    """A picture of the page, width and height in pixels."""
    _run(f"--screenshot={path}", f"--window-size={size[0]},{size[1]}", *options, address)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    with TemporaryDirectory() as data:
        command = [BROWSER, *OPTIONS, f"--user-data-dir={data}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
