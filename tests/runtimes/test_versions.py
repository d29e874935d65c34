"""Versions name a release, whatever a build adds to it."""

from __future__ import annotations

from importlib import metadata

import pytest
import torch
from vlmp.runtimes import versions
from vlmp.runtimes.versions import package_version, release


def test_a_release_is_named_without_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_version("torch") == torch.__version__.partition("+")[0]
    assert package_version("no-such-package") == "unknown"
    assert [release(one) for one in ("2.13.0+cu130", "2.13.0", "2.14.0a0+git1b2c", "1.5.1.dev0")] == [
        "2.13.0", "2.13.0", "2.14.0a0", "1.5.1.dev0",
    ]  # fmt: skip
    assert versions.version is metadata.version
    monkeypatch.setattr(versions, "version", lambda _: "2.13.0+cpu")
    assert package_version("torch") == "2.13.0"
