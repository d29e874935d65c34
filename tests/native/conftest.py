"""Builds of the C++ runner, and small bundles of vlmp-tiny for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from make_steps import PRUNINGS, config
from native_cases import PHOTO, built
from PIL import Image
from shared_exports import exported
from step_bundles import shared_folder, step_bundle
from vlmp.export.schedule import parse_schedule

STAGES = "2:0.5:divprune,weigh=1+4:0.25:dart,weigh=1"
"""Of 36 tokens 18 and 9 are left; neither method takes long to export."""


@pytest.fixture(scope="session")
def host() -> Path:
    return built("host")


@pytest.fixture(scope="session")
def arm64() -> Path:
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: apt-get install qemu-user")
    return built("arm64")


@pytest.fixture(scope="session")
def sanitizers() -> Path:
    return built("sanitizers")


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As PNG, which every reader decodes to the same pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.open(PHOTO).save(path)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Bundles of 168 pixels by name: pruned, unpruned and int4 of the conformance steps, staged and single of ours."""

    @cache
    def bundle(name: str) -> Path:
        if name in PRUNINGS and name != "staged":
            return step_bundle(shared_folder(tmp_path_factory), f"executorch-{name}")
        plain = replace(config("executorch", "pruned", Path()), verify=False)
        staged = {"keep": None, "stages": parse_schedule(STAGES)}
        changes: dict[str, Any] = {"single": {"single_file": True}, "staged": staged}[name]
        return exported(tmp_path_factory, replace(plain, **changes))

    return bundle
