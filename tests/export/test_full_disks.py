"""Disks that are really full: one clear line, and nothing half-written stays."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reference import write_other
from vlmp.export import cli
from vlmp.export.checkpoint import locate
from vlmp.export.models import model_entry

TINY = locate(model_entry("vlmp-tiny").checkpoint)

SMALL = ["--model", "vlmp-tiny", "--pruner", "none", "--image-size", "112", "--no-verify"]


def line_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        cli.main([*SMALL, *argv])
    return capsys.readouterr().err.splitlines()[-1]


def test_onnx(disk_of: Callable[[int], Path], capsys: pytest.CaptureFixture[str]) -> None:
    disk = disk_of(9)
    line = line_of(["--target", "onnx", "--output", f"{disk}/new/out"], capsys)
    assert line == f"vlmp-export: cannot write {disk}/new/out: No space left on device"
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("mebibytes", [7, 33])
def test_core_ml(disk_of: Callable[[int], Path], capsys: pytest.CaptureFixture[str], mebibytes: int) -> None:
    """At 7 MiB its writer of weights fails, at 33 MiB the copying of a package."""
    disk = disk_of(mebibytes)
    line = line_of(["--target", "coreml", "--output", f"{disk}/out"], capsys)
    assert line.startswith(f"vlmp-export: coremltools cannot write its files into {disk}, where ")
    assert "MiB are free now: make room there, or choose another --output (" in line
    assert list(disk.iterdir()) == []


@pytest.fixture
def short_files() -> Iterator[None]:
    """No file may be longer than 3 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_core_ml_on_a_disk_of_short_files(
    short_files: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(["--target", "coreml", "--output", f"{tmp_path}/out"], capsys)
    assert line.startswith(f"vlmp-export: coremltools cannot write its files into {tmp_path}, where ")
    assert list(tmp_path.iterdir()) == []


def test_core_ml_writes_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small temporary folder does not matter."""
    import tempfile

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    seen: list[str] = []
    real = tempfile.mkdtemp

    def note(*given: object, **named: object) -> str:
        made = real(*given, **named)  # type: ignore[call-overload]
        seen.append(made)
        return str(made)

    monkeypatch.setattr(tempfile, "mkdtemp", note)
    # Of a smaller model: how much is written does not matter here.
    write_other(tmp_path / "checkpoint", TINY, seed=1, layers=3, blocks=1)
    smaller = ["--checkpoint", f"{tmp_path}/checkpoint", "--image-size", "64", *SMALL[:4], "--no-verify"]
    cli.main([*smaller, "--target", "coreml", "--output", f"{tmp_path}/out"])
    assert len(seen) > 4
    assert [path for path in seen if Path(path).is_relative_to(temporary) and "torch" not in path] == []
    assert tempfile.tempdir == str(temporary)
