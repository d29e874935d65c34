"""What the browser demo's tests need."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable
from functools import cache

import build_web
import pytest

BROWSER = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)


def ready() -> None:
    """Install the packages of package-lock.json; skips the test where Node, npm or the network is missing."""
    _once(build_web.install_packages)


@cache
def built() -> None:
    """The page in web_demo/dist, with its bundles."""
    _once(build_web.build)


def _once(make: Callable[[], None]) -> None:
    output = build_web.ROOT / "build/web"
    output.mkdir(parents=True, exist_ok=True)
    with (output / "lock").open("w") as lock:  # tests in several processes share the folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            make()
        except build_web.Missing as error:
            pytest.skip(str(error))


def outcomes(tap: str) -> dict[str, str]:
    """Test -> "ok", "not ok" or "skipped", of what `node --test` prints."""
    found = re.findall(r"^(ok|not ok) \d+ - (.*?)(?: # (SKIP).*)?$", tap, re.MULTILINE)
    return {name: "skipped" if skipped else outcome for outcome, name, skipped in found}
