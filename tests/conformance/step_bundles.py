"""The bundles of `steps`, exported when a test first asks for one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from make_steps import BUNDLES, config
from native_cases import locked
from shared_exports import run_folder
from vlmp.export.pipeline import export


@cache
def step_bundle(base: Path, bundle: str) -> Path:
    """The folder of a bundle. base: `shared_folder`; processes that run tests side by side export it once."""
    output = base / bundle
    with locked(base / f"{bundle}.lock"):
        if not output.exists():
            export(replace(config(*BUNDLES[bundle], output), verify=False))
    return output


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Where all processes of a run find these bundles."""
    return run_folder(factory, "steps")
