"""Full widths of Qwen2-VL-2B: all methods of a bundle share one copy of the weights in memory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "checkpoint"
    command = [sys.executable, BENCHMARKS / "make_random.py", "--output", folder]
    subprocess.run([*command, "--layers", "4", "--vision-layers", "1", "--vocab", "8192"], check=True)
    return folder


def ratio(bundle: Path, *options: str) -> float:
    """Memory after running all methods, over the weights."""
    command = [sys.executable, str(BENCHMARKS / "memory.py"), str(bundle), *options]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"\(([\d.]+)x the weights\)", line)
    assert found, line
    return float(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_methods_share_weights_in_memory(wide: Path, tmp_path: Path, target: str) -> None:
    (result,) = export(
        ExportConfig(model="qwen2-vl-2b", targets=(target,), output=tmp_path / "bundle", checkpoint=wide, quant="none")
    )
    assert result.manifest.parity.status == "passed"
    checkpoint_bytes = sum(path.stat().st_size for path in wide.glob("*.safetensors"))
    assert result.size_bytes < 2 * checkpoint_bytes * 1.05  # float32 from bfloat16
    assert ratio(result.output) < 1.4
    if target == "executorch":  # which packs a weight for every method that uses it, unless told otherwise
        assert ratio(result.output, "--runtime-defaults") > 2
