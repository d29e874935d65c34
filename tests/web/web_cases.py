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


@cache
def ready() -> None:
    """Packages of package-lock.json, and vlmp-web compiled; skips the test where Node, npm or the network is missing.

    What is compiled is not written again until its source changes: another process may be reading it.
    """

    def make() -> None:
        build_web.install_packages()
        build_web.run("npm", "run", "build", "--workspace", "vlmp-web")

    _once(make)


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
