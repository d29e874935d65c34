"""Every parser of the runner under AddressSanitizer and UndefinedBehaviorSanitizer, from the seeds that are kept."""

from __future__ import annotations

import json
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


def test_seeds_of_manifests_are_read(host: Path, photo: Path) -> None:
    """One that is refused at once would lead the fuzzer nowhere; `newer` is there to be refused."""
    for path in sorted((SEEDS / "manifest").iterdir()):
        done = subprocess.run([host / "probe", "pixels", photo, path], capture_output=True, check=False)
        assert (done.returncode == 0) == (path.stem != "newer"), (path.name, done.stderr)
    read = {path.stem: json.loads(path.read_bytes()) for path in (SEEDS / "manifest").iterdir()}
    assert [stage["index"] for stage in read["two-stages"]["shapes"][0]["stages"]] == [1, 2]
    assert "kept_0" in {spec["name"] for spec in read["two-stages"]["methods"]["prefill"]["outputs"]}


def test_seeds_of_tokenizers_are_read(host: Path, tmp_path: Path) -> None:
    for path in sorted((SEEDS / "tokenizer").iterdir()):
        file, zero, text = path.read_bytes().partition(b"\0")
        if not zero:
            continue
        (tmp_path / "tokenizer.json").write_bytes(file)
        command = [host / "probe", "encode", tmp_path / "tokenizer.json"]
        done = subprocess.run(command, input=json.dumps([text.decode()]), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (path.name, done.stderr)
    assert {"llama", "smollm", "llama3"} <= {path.name for path in (SEEDS / "tokenizer").iterdir()}


@pytest.mark.parametrize("name", ["pruned", "staged"])
def test_an_answer_under_the_sanitizers(
    host: Path, sanitizers: Path, tiny: Callable[[str], Path], photo: Path, tmp_path: Path, name: str
) -> None:
    asked = ("--prompt", "What is in this picture?", "--reply", "How many?", "--temperature", "0.5", "--top-p", "0.9")
    found = answer([sanitizers / "vlmp_runner"], tiny(name), photo, tmp_path, *asked)
    wanted = answer([host / "vlmp_runner"], tiny(name), photo, tmp_path, *asked)
    assert (found.tokens, found.stages) == (wanted.tokens, wanted.stages)
