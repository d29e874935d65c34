"""Every parser of the runner under AddressSanitizer and UndefinedBehaviorSanitizer, from the seeds that are kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from native_cases import ROOT, answer

SEEDS = ROOT / "runtimes/native/fuzz/seeds"
SECONDS = 40
"""For each parser. For longer runs see docs/native-runner.md."""


@pytest.mark.parametrize("parser", ["manifest", "tokenizer", "image"])
def test_fuzz(sanitizers: Path, tmp_path: Path, parser: str) -> None:
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    command: list[str | Path] = [sanitizers / f"fuzz_{parser}", f"-max_total_time={SECONDS}", "-timeout=60"]
    options = ["-seed=1", "-max_len=20000", f"-artifact_prefix={found}/"]
    started = monotonic()
    done = subprocess.run(
        [*command, *options, corpus, SEEDS / parser], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stdout + done.stderr
    assert monotonic() - started >= SECONDS
    assert list(found.iterdir()) == []


def test_an_answer_under_the_sanitizers(
    host: Path, sanitizers: Path, tiny: Callable[[str], Path], photo: Path, tmp_path: Path
) -> None:
    asked = ("--prompt", "What is in this picture?", "--reply", "How many?", "--temperature", "0.5", "--top-p", "0.9")
    found = answer([sanitizers / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked)
    assert found.tokens == answer([host / "vlmp_runner"], tiny("pruned"), photo, tmp_path, *asked).tokens
