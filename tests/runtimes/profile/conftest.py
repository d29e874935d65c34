"""A phone on loopback for tests of `--device adb`: the real adb client, a daemon of our own, and a phone behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import emulated_phone
import pytest
from adb_phone import PACKAGES, missing_packages
from emulated_phone import Connected, connect
from native_cases import built
from vlmp.runtimes.console import command


@pytest.fixture(autouse=True)
def options_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case says an option of a common command line otherwise by saying it again."""
    monkeypatch.setattr(command, "refuse_repetition", lambda _parser: None)


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """adb's own server, for all tests."""
    if missing := missing_packages(PACKAGES):
        pytest.skip(f"the phone's double needs Debian packages: apt-get install {' '.join(missing)}")
    with emulated_phone.adb_server(tmp_path_factory.mktemp("adb")):
        yield


@pytest.fixture(scope="session")
def runner() -> Path:
    """The native runner for ARM64."""
    return built("arm64") / "dist" / "vlmp_runner"


@pytest.fixture
def connected(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    """A phone in good order."""
    with connect(tmp_path / "phone") as one:
        yield one


@pytest.fixture
def second(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    """Another phone."""
    with connect(tmp_path / "second-phone") as one:
        yield one
