"""A phone on loopback for tests of `--device adb`: the real adb client, a daemon of our own, and a phone behind it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from adb_daemon import Daemon, Faults
from adb_phone import Phone, missing_packages


@dataclass(kw_only=True)
class Connected:
    """A phone that adb sees."""

    phone: Phone
    faults: Faults
    daemon: Daemon

    @property
    def serial(self) -> str:
        return self.daemon.serial


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """adb's own server, apart from a server that somebody may have running, with keys of its own."""
    if missing := missing_packages():
        pytest.skip(f"the phone's double needs Debian packages: apt-get install {' '.join(missing)}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "ANDROID_ADB_SERVER_PORT": str(port), "HOME": str(tmp_path_factory.mktemp("adb")),
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "0", "ADB_MDNS": "0",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        adb("start-server")
        yield
        adb("kill-server")


@pytest.fixture
def connected(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    """A phone in good order."""
    one = connect(tmp_path / "phone")
    yield one
    disconnect(one)


@pytest.fixture
def second(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    """Another phone."""
    one = connect(tmp_path / "second-phone")
    yield one
    disconnect(one)


def connect(folder: Path, *, emulated: bool = False) -> Connected:
    phone, faults = Phone(folder, emulated=emulated), Faults()
    daemon = Daemon(phone.root, phone.command, faults)
    adb("connect", daemon.serial)
    return Connected(phone=phone, faults=faults, daemon=daemon)


def disconnect(one: Connected) -> None:
    adb("disconnect", one.serial)
    one.daemon.close()


def adb(*arguments: str) -> str:
    done = subprocess.run(
        ["adb", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout
