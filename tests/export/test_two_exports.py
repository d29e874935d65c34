"""Two exports to one place, as processes: the second is refused at once, and nothing of either is lost or left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from vlmp.runtimes.bundle.folder import read_manifest

PROGRAM = Path(sys.executable).with_name("vlmp-export")
SMALL = ["--model", "vlmp-tiny", "--pruner", "none", "--image-size", "112", "--no-verify"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(*argv: str, output: str = "new/out") -> subprocess.Popen[str]:
    command = [PROGRAM, *SMALL, "--output", output, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def has_begun(process: subprocess.Popen[str]) -> None:
    """Wait for its first graph."""
    assert process.stderr is not None
    assert any(line.startswith("onnx: vision") for line in process.stderr)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and the last line of what it complains about."""
    _, err = process.communicate(timeout=300)
    return process.returncode, err.splitlines()[-1] if err else ""


def names() -> list[str]:
    return sorted(path.name for path in Path("new").iterdir())


def test_the_second_one_is_refused_before_its_long_work() -> None:
    first = start("--target", "onnx")
    try:
        has_begun(first)
        for overwrite in ([], ["--overwrite"]):
            code, line = end(start("--target", "onnx", *overwrite))
            assert (code, line) == (
                2,
                "vlmp-export: output new/out is being written by another process: wait until it is done, "
                "or choose another",
            )
        assert first.poll() is None, "the second one has not waited for the first"
        assert end(first)[0] == 0
    finally:
        first.kill()
        first.communicate()
    assert names() == ["out"]
    read_manifest(Path("new/out"))


def test_what_a_later_target_will_write_is_kept_free_from_the_start() -> None:
    first = start("--target", "onnx", "--target", "executorch")
    try:
        has_begun(first)
        code, line = end(start("--target", "executorch", output="new/out/executorch"))
        assert code == 2
        assert "output new/out/executorch lies in" in line
        assert "which is being written by another process" in line
        assert not Path("new/out/onnx").exists(), "the first one is still at its first target"
        first.terminate()
        assert end(first) == (130, "vlmp-export: interrupted, nothing unfinished is left behind")
    finally:
        first.kill()
        first.communicate()
    assert not Path("new").exists()


def test_what_a_killed_export_leaves_is_gone_after_the_next() -> None:
    killed = start("--target", "onnx")
    has_begun(killed)
    killed.kill()
    killed.communicate()
    assert len(names()) == 2, "a lock that nobody holds, and a folder"
    assert end(start("--target", "onnx"))[0] == 0
    assert names() == ["out"]
