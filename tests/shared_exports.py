"""Bundles that tests of several files ask for, exported once for all processes of a run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from native_cases import locked
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export


def exported(factory: pytest.TempPathFactory, config: ExportConfig) -> Path:
    """The bundle of a config, in a folder of ours instead of `config.output`. It is shared: tests change copies."""
    facts = repr(replace(config, output=Path()))
    output = run_folder(factory, "exports") / hashlib.sha256(facts.encode()).hexdigest()[:16]
    with locked(output.with_suffix(".lock")):
        if not output.exists():
            export(replace(config, output=output))
    return output


def run_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """One folder for all processes of a run, which share what lies above their own."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder
