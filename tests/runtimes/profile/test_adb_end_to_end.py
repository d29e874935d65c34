"""The native runner for ARM64 on bundles of vlmp-tiny, pruned against unpruned, through the real adb client.

The phone is emulated: that shows that files, commands and results are right, and nothing of how fast a phone is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from emulated_phone import Connected, connect, main, profile_small, small
from shared_exports import exported
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.profile import cli
from vlmp.runtimes.profile.adb import phone
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import PARTS, read_profile


@pytest.fixture
def emulated(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    with connect(tmp_path / "phone", emulated=True) as one:
        yield one


@pytest.mark.usefixtures("runner")
def test_pruned_against_unpruned_on_an_emulated_phone(
    emulated: Connected,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One round: that bundles take turns is shown without an emulator."""
    monkeypatch.setattr(cli, "LEAST_RUNS", 1)
    monkeypatch.setattr(phone, "TRACED_RUNS", 1)
    bundles = [Path(shutil.copytree(exported(tmp_path_factory, one), one.output)) for one in small(tmp_path)]
    profile_small(bundles, tmp_path, runs=1)
    profile = read_profile(tmp_path / "out.json")
    assert (profile.machine.kind, profile.machine.name) == ("android", "emulated phone (QEMU)")
    assert profile.machine.memory_mib == pytest.approx(psutil.virtual_memory().total / 2**20)
    assert profile.machine.facts["runner"] == "glibc program with its own loader and libraries"
    assert "the phone is emulated" in profile.warnings[0]
    assert "no NDK build" in profile.warnings[-1]
    assert all(one.before.thermal_status is None for one in profile.conditions)
    assert "executorch" in profile.machine.runtimes
    for bundle, kept in zip(profile.bundles, (16, 4), strict=True):
        assert bundle.manifest.kept_tokens == kept
        assert bundle.prefill_split.startswith("split by ExecuTorch's event tracer")
        for name, timed in bundle.phases.items():
            assert len(timed.samples_ms) == 1
            assert timed.median_ms > 0 or (name, kept) == ("prefill_pruner", 16)
        parts = [bundle.phases[part].median_ms for part in PARTS["prefill"].values()]
        assert sum(parts) == pytest.approx(bundle.phases["prefill"].median_ms)
        for method in ("vision", "prefill", "decode"):
            assert sum(one.ms for one in bundle.operators if one.method == method) > 0
        assert bundle.memory is not None
        assert bundle.memory.peak_rss_mib > bundle.size_mib
    assert profile.bundles[0].phases["prefill_after"].median_ms > 0
    assert {"topk.values", "argmax.out"} <= {one.op for one in profile.bundles[1].operators if one.region == "pruner"}
    # Which is faster, one run of an emulator cannot tell: instructions are counted in test_native_arm64.py.
    assert "reaches the first token" in profile.explanation[0]
    weights = [bundle / "weights.ptd" for bundle in bundles]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert emulated.phone.files() == []
    assert emulated.daemon.running() == []
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == render(profile)
    assert "the phone around each run" in capsys.readouterr().out


def test_missing_tools_are_named_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as stopped:
        main()
    packages = "adb proot qemu-user-static mksh toybox g++-aarch64-linux-gnu"
    assert str(stopped.value) == f"tools are missing: apt-get install {packages}"
