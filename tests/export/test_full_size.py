"""Qwen2-VL-2B: every target at full widths with few layers, and, slowly, the whole model within its limits.

The whole model, about two hours on 2 cores: `pytest -m slow tests/export/test_full_size.py`
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import Result, export
from vlmp.runtimes import Chat
from vlmp.runtimes.bundle.folder import read_manifest, size_bytes
from vlmp.runtimes.session import load

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NATIVE = Path(__file__).parents[2] / "runtimes" / "native"
PHOTO = Path(__file__).parents[2] / "runtimes" / "assets" / "photo.jpg"
TARGETS = ("onnx", "executorch", "coreml")
MOST_GIB, MOST_MINUTES, MOST_GB, MOST_SESSION_GB = 12, 45, 1.7, 2.3


def checkpoint(folder: Path, *options: str) -> Path:
    command = [sys.executable, str(BENCHMARKS / "make_random.py"), "--output", str(folder), *options]
    subprocess.run(command, check=True)
    return folder


def export_default(checkpoint: Path, output: Path, target: str, side: int) -> Result:
    """With the model's default quantization, int4."""
    config = ExportConfig(
        model="qwen2-vl-2b", targets=(target,), output=output, checkpoint=checkpoint,
        image_size=(side, side), text_len=16, max_new_tokens=16,
    )  # fmt: skip
    (result,) = export(config)
    return result


# --- Full widths, few layers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(
        tmp_path_factory.mktemp("wide") / "checkpoint", "--layers", "3", "--vision-layers", "1", "--vocab", "8192"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_full_widths_export_verify_and_answer(wide: Path, tmp_path: Path, target: str) -> None:
    result = export_default(wide, tmp_path / "bundle", target, 448)
    assert result.manifest.parity.status == "passed"
    assert result.manifest.quantization == "int4"
    assert (result.manifest.shape.image.visual_tokens, result.manifest.shape.num_kept) == (256, 28)
    layer = 2 * 1536 * 1536 + 2 * 1536 * 256 + 3 * 1536 * 8960
    vision = 12 * 1280 * 1280 + 5120 * 5120 + 5120 * 1536
    once = 3 * layer / 2 + 8192 * 1536 + vision  # 4-bit layers, 8-bit table and vision tower
    weights = max(file.size_bytes for file in result.manifest.files)
    assert once < weights < 1.2 * once  # with scales, norms, patches and biases
    assert len(Chat(load(result.output)).ask(PHOTO, "What?", max_new_tokens=3).token_ids) <= 3


# --- The whole model --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("whole") / "checkpoint")


def session_gb(target: str, bundle: Path) -> float:
    """Most memory of a process that loads a session and runs all its methods; ExecuTorch's is the runner of phones."""
    if target == "executorch":
        runner = Path(told(sys.executable, NATIVE / "build.py", "host").splitlines()[-1]) / "dist" / "vlmp_runner"
        line = told(runner, bundle, "--image", PHOTO, "--prompt", "What?", "--reply", "And?", "--max-new-tokens", "4")
    else:
        line = told(sys.executable, BENCHMARKS / "memory.py", bundle)
    found = re.search(r"(?:peak of the whole process|peak memory) ([\d.]+) MiB", line)
    assert found, line
    return float(found[1]) * 2**20 / 1e9


def told(*command: str | Path) -> str:
    """What a command printed on stderr, then on stdout."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("side", [448, 672])
@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_model_keeps_its_limits(whole: Path, tmp_path: Path, target: str, side: int) -> None:
    bundle = tmp_path / "bundle"
    told(
        Path(sys.executable).with_name("vlmp-export"), "--model", "qwen2-vl-2b", "--checkpoint", whole,
        "--target", target, "--image-size", str(side), "--text-len", "16", "--max-new-tokens", "16", "--output", bundle,
    )  # fmt: skip
    manifest = read_manifest(bundle)
    assert manifest.parity.status == "passed"
    assert manifest.cost is not None
    assert manifest.cost.peak_memory_mib / 1024 <= MOST_GIB
    assert manifest.cost.seconds / 60 <= MOST_MINUTES
    assert size_bytes(bundle) / 1e9 <= MOST_GB
    if target != "coreml" and side == 448:
        assert session_gb(target, bundle) <= MOST_SESSION_GB
