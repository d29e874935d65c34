"""Core ML on Apple's own runtime."""

import platform
from pathlib import Path

import pytest
from vlmp.export.config import ExportConfig, Precision
from vlmp.export.pipeline import export
from vlmp.runtimes import load
from vlmp.runtimes.verify import verify_bundle


@pytest.mark.device
@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_bundle_verifies_on_apples_runtime(tmp_path: Path, precision: Precision) -> None:
    output = tmp_path / "bundle"
    export(ExportConfig(model="vlmp-tiny", targets=("coreml",), output=output, precision=precision))
    session = load(output)
    assert session.runtime.startswith("Core ML on macOS")
    assert verify_bundle(output, session).status == "passed"
