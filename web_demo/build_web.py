"""Builds the browser demo in web_demo/dist, and serves it: docs/web.md."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent
ROOT = SOURCE.parent
DIST = SOURCE / "dist"
PORT = 8321
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
"""Where the system has others, browsers refuse modules."""
NO_NETWORK = re.compile(r"npm error code (E[45]\d\d|ENOTFOUND|EAI_AGAIN|ECONN\w+|ENETUNREACH|\w+TIMEDOUT|\w+TIMEOUT)")
"""What npm says where packages cannot be had."""


class Missing(Exception):
    """A tool or a package that cannot be had here. The message says how to get it."""


def main() -> None:
    """Build, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("build", "serve"), help="serve: build it first")
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    try:
        build()
        if arguments.task == "serve":
            serve_until_stopped(arguments.port)
    except (Missing, RuntimeError, OSError) as error:
        sys.exit(f"build_web.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def build() -> None:
    """Make web_demo/dist, which any static host can serve."""
    install_packages()
    run("npm", "run", "build")
    bundles = [Path(line) for line in run(sys.executable, ROOT / "benchmarks/app_bundles.py").splitlines()]
    for folder in bundles:
        shutil.copytree(folder, DIST / "bundles" / folder.name)
    (DIST / "bundles/index.json").write_text(json.dumps([folder.name for folder in bundles]), encoding="ascii")
    print(f"built {DIST.relative_to(ROOT)}")


def install_packages() -> None:
    """What package-lock.json names, once. Raises Missing where Node, npm or the network is missing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is missing: install Node 20 or later, with npm, https://nodejs.org")
    version = run("node", "--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        raise Missing(f"Node 20 or later is needed, not {version}: https://nodejs.org")
    lock = SOURCE / "package-lock.json"
    installed = SOURCE / "node_modules/.package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        try:
            run("npm", "ci", "--ignore-scripts")
        except RuntimeError as error:
            if found := NO_NETWORK.search(str(error)):
                raise Missing(f"npm cannot download what web_demo/package-lock.json names: {found[1]}") from None
            raise


class Handler(SimpleHTTPRequestHandler):
    """A static host. headers: what it sends with every file."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *arguments: Any, headers: dict[str, str], **named: Any) -> None:
        self.more_headers = headers
        super().__init__(*arguments, **named)

    def end_headers(self) -> None:
        """Add ours."""
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the address was printed."""


def server(port: int, headers: dict[str, str]) -> ThreadingHTTPServer:
    """Serve web_demo/dist to this machine only. port 0: any that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(DIST), headers=headers))


def wanted_headers() -> dict[str, str]:
    """What the build has written into `_headers`: isolation, which threads need, and where nothing may be sent."""
    lines = (DIST / "_headers").read_text(encoding="ascii").splitlines()[1:]
    return {name.strip(): value.strip() for name, value in (line.split(":", 1) for line in lines)}


def serve_until_stopped(port: int) -> None:
    """Print where the page is, also for a phone."""
    with server(port, wanted_headers()) as serving, suppress(KeyboardInterrupt):
        address = f"http://localhost:{serving.server_port}/"
        print(
            f"{address}\n"
            f"On a phone with a cable and USB debugging: adb reverse tcp:{serving.server_port} "
            f"tcp:{serving.server_port}, then open {address} there.\n"
            "Without a cable: put web_demo/dist on a host with HTTPS (docs/web.md). Ctrl-C ends this.",
            flush=True,
        )
        serving.serve_forever()


def run(program: str | Path, *arguments: str | Path) -> str:
    """Run a program. Returns its standard output. Raises RuntimeError with all that it said."""
    command = [str(program), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
