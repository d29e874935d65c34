"""`make emulated-phone`: vlmp-tiny pruned against unpruned on a phone that is emulated here, profiled through adb.

Bundles, ARM64 runner, adb client and report are real; `adb_phone.py` plays the phone. Also what tests of `--device adb`
share: adb's server, and a phone that it sees.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from adb_daemon import Daemon, Faults
from adb_phone import PACKAGES, Phone, missing_packages
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.console.command import exit_with_one_line
from vlmp.runtimes.console.streams import quiet_libraries
from vlmp.runtimes.profile import cli
from vlmp.runtimes.profile.adb.runner import BUILDS

ROOT = Path(__file__).parents[3]
OUTPUT = ROOT / "build/emulated-phone"
RUNNER = BUILDS / "arm64/dist/vlmp_runner"
COMPILER = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu"}
"""Program -> the Debian package that has it."""


@dataclass(kw_only=True)
class Connected:
    """A phone that adb sees."""

    phone: Phone
    faults: Faults
    daemon: Daemon

    @property
    def serial(self) -> str:
        return self.daemon.serial


def main() -> None:
    """Build what is missing, profile, and leave the report and the bundles only."""
    if missing := missing_packages(PACKAGES | COMPILER):
        raise UserError(f"tools are missing: apt-get install {' '.join(missing)}")
    print("building the runner for ARM64, minutes at the first time ...", flush=True)
    if code := subprocess.run([sys.executable, ROOT / "runtimes/native/build.py", "arm64"], check=False).returncode:
        raise SystemExit(code)
    quiet_libraries()
    bundles = small(OUTPUT)
    for bundle in bundles:
        if not bundle.output.exists():
            export(bundle)
    with (
        TemporaryDirectory(prefix="vlmp-phone-") as scratch,
        adb_server(Path(scratch)),
        connect(Path(scratch) / "phone", emulated=True),
    ):
        profile_small([bundle.output for bundle in bundles], OUTPUT, runs=cli.LEAST_RUNS)


def small(folder: Path) -> list[ExportConfig]:
    """vlmp-tiny unpruned and pruned, as small as can be: emulated, a turn takes seconds."""
    return [
        ExportConfig(
            model="vlmp-tiny", targets=("executorch",), output=folder / pruner, pruner=pruner, verify=False,
            keep=None if pruner == "none" else 0.25, image_size=(112, 112), text_len=16, max_new_tokens=24,
        )
        for pruner in ("none", "vlm-pruner")
    ]  # fmt: skip


def profile_small(bundles: list[Path], output: Path, *, runs: int) -> None:
    """Write out.json and out.html, on the only phone that adb sees."""
    unpruned, pruned = map(str, bundles)
    cli.main([
        unpruned, "--compare", pruned, "--device", "adb", "--runner", str(RUNNER), "--prompt", "What?",
        "--runs", str(runs), "--cool-down", "0", "--decode-tokens", "2", "--threads", "1",
        "--json", str(output / "out.json"), "--html", str(output / "out.html"),
    ])  # fmt: skip


@contextmanager
def adb_server(folder: Path) -> Iterator[None]:
    """adb's own server, apart from a server that somebody may have running, with its keys and its log in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(folder), "ADB_LOCAL_TRANSPORT_MAX_PORT": "0", "ADB_MDNS": "0",
    }  # fmt: skip
    with patch.dict(os.environ, settings):
        try:
            with patch.dict(os.environ, {"TMPDIR": str(folder)}):
                adb("start-server")
            yield
        finally:
            adb("kill-server")


@contextmanager
def connect(folder: Path, *, emulated: bool = False) -> Iterator[Connected]:
    """A phone in good order in `folder`, seen by adb for the time of the block."""
    phone, faults = Phone(folder, emulated=emulated), Faults()
    daemon = Daemon(phone.root, phone.command, faults)
    try:
        adb("connect", daemon.serial)
        yield Connected(phone=phone, faults=faults, daemon=daemon)
    finally:
        adb("disconnect", daemon.serial)
        daemon.close()


def adb(*arguments: str) -> str:
    """What it prints."""
    done = subprocess.run(
        ["adb", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


if __name__ == "__main__":
    exit_with_one_line("emulated-phone", main)
