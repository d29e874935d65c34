"""Builds of the C++ runner, and small bundles of vlmp-tiny for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from native_cases import PHOTO, built
from PIL import Image
from shared_exports import exported
from vlmp.export.config import ExportConfig
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
    """Bundles of 168 pixels by name: pruned, staged, unpruned, int4, single. Exported when they are first asked for."""

    @cache
    def bundle(name: str) -> Path:
        pruning: dict[str, Any] = {
            "unpruned": {"pruner": "none"}, "staged": {"stages": parse_schedule(STAGES)},
        }.get(name, {"keep": 0.25})  # fmt: skip
        config = ExportConfig(
            model="vlmp-tiny", targets=("executorch",), output=Path(), **pruning,
            quant="int4" if name == "int4" else "none", image_size=(168, 168), max_new_tokens=20, verify=False,
            single_file=name == "single",
        )  # fmt: skip
        return exported(tmp_path_factory, config)

    return bundle
