"""The native runner for ARM64 on bundles of vlmp-tiny, pruned against unpruned, through the real adb client.

The phone is emulated: that shows that files, commands and results are right, and nothing of how fast a phone is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Connected, connect, disconnect
from vlmp.export.config import ExportConfig
from vlmp.export.pipeline import export
from vlmp.runtimes.profile import cli
from vlmp.runtimes.profile.adb import phone
from vlmp.runtimes.profile.adb.runner import BUILDS
from vlmp.runtimes.profile.report import render
from vlmp.runtimes.profile.schema import REGIONS, read_profile

# Builds take minutes, and so do runs under emulation.
pytestmark = pytest.mark.slow

RUNNER = BUILDS / "arm64/dist/vlmp_runner"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As small as they can be: emulated, a turn takes seconds."""
    folder = tmp_path_factory.mktemp("bundles")
    for pruner in ("none", "vlm-pruner"):
        export(
            ExportConfig(
                model="vlmp-tiny", targets=("executorch",), output=folder / pruner, pruner=pruner, verify=False,
                keep=None if pruner == "none" else 0.25, image_size=(112, 112), text_len=16, max_new_tokens=8,
            )
        )  # fmt: skip
    return [folder / "none", folder / "vlm-pruner"]


@pytest.fixture
def emulated(adb_server: None, tmp_path: Path) -> Iterator[Connected]:
    one = connect(tmp_path / "phone", emulated=True)
    yield one
    disconnect(one)


@pytest.mark.skipif(not RUNNER.is_file(), reason="no runner for ARM64: python runtimes/native/build.py arm64")
def test_pruned_against_unpruned_on_an_emulated_phone(
    emulated: Connected, bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cli, "LEAST_RUNS", 2)
    monkeypatch.setattr(phone, "TRACED_RUNS", 1)
    out = tmp_path / "out.json"
    unpruned, pruned = map(str, bundles)
    argv = [unpruned, "--compare", pruned, "--device", "adb", "--runner", str(RUNNER), "--prompt", "What?"]
    argv += ["--runs", "2", "--cool-down", "0", "--decode-tokens", "2", "--threads", "1"]
    cli.main([*argv, "--json", str(out), "--html", str(tmp_path / "out.html")])
    profile = read_profile(out)
    assert (profile.machine.kind, profile.machine.name) == ("android", "Google Pixel 8")
    assert profile.machine.memory_mib == pytest.approx(7798128 / 1024)
    assert profile.machine.facts["runner"] == "glibc program with its own loader and libraries"
    assert "no NDK build" in profile.warnings[0]
    assert "executorch" in profile.machine.runtimes
    for bundle, kept in zip(profile.bundles, (16, 4), strict=True):
        assert bundle.manifest.kept_tokens == kept
        assert bundle.prefill_split.startswith("split by ExecuTorch's event tracer")
        for name, timed in bundle.phases.items():
            assert len(timed.samples_ms) == 2
            assert timed.median_ms > 0 or (name, kept) == ("prefill_pruner", 16)
        parts = [bundle.phases[f"prefill_{region}"].median_ms for region in REGIONS]  # type: ignore[index]
        assert sum(parts) == pytest.approx(bundle.phases["prefill"].median_ms)
        for method in ("vision", "prefill", "decode"):
            assert sum(one.ms for one in bundle.operators if one.method == method) > 0
        assert bundle.memory is not None
        assert bundle.memory.peak_rss_mib > bundle.size_mib
    assert profile.bundles[0].phases["prefill_after"].median_ms > 0
    assert {"topk.values", "argmax.out"} <= {one.op for one in profile.bundles[1].operators if one.region == "pruner"}
    assert "vlm-pruner reaches the first token" in profile.explanation[0]
    weights = [bundle / "weights.ptd" for bundle in bundles]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert emulated.phone.files() == []
    assert emulated.daemon.running() == []
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == render(profile)
    assert "the phone around each run" in capsys.readouterr().out
