"""Every parser of the runner under AddressSanitizer and UndefinedBehaviorSanitizer, from the seeds that are kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from native_cases import ROOT, answer

# Builds take minutes, and so do runs under emulation.
pytestmark = pytest.mark.slow

SEEDS = ROOT / "runtimes/native/fuzz/seeds"
RUNS = {"manifest": 100_000, "tokenizer": 8_000, "image": 40_000}
"""Some ten seconds each. For longer runs see docs/native-runner.md."""


@pytest.mark.parametrize("target", RUNS)
def test_fuzz(sanitizers: Path, tmp_path: Path, target: str) -> None:
    command: list[str | Path] = [sanitizers / f"fuzz_{target}", f"-runs={RUNS[target]}", "-seed=1", "-timeout=60"]
    options = ["-max_len=20000", "-max_total_time=60", f"-artifact_prefix={tmp_path}/"]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for seed in (SEEDS / target).iterdir():
        (corpus / seed.name).write_bytes(seed.read_bytes())
    done = subprocess.run([*command, *options, corpus], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stdout + done.stderr


def test_fuzzing_for_a_time(sanitizers: Path, tmp_path: Path) -> None:
    """As long as wanted, and without a trace when nothing was found."""
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    started = monotonic()
    command: list[str | Path] = [sanitizers / "fuzz_manifest", "-max_total_time=3", f"-artifact_prefix={found}/"]
    folders = [corpus, SEEDS / "manifest"]
    done = subprocess.run([*command, *folders], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stdout + done.stderr
    assert monotonic() - started >= 3
    assert list(found.iterdir()) == []


def test_an_answer_under_the_sanitizers(
    host: Path, sanitizers: Path, tiny: Callable[[str], Path], photo: Path, tmp_path: Path
) -> None:
    asked = ("--prompt", "What is in this picture?", "--reply", "How many?", "--temperature", "0.5", "--top-p", "0.9")
    found = answer([sanitizers / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked)
    assert found.tokens == answer([host / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked).tokens
