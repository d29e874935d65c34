"""The cross-built runner under QEMU: an ARM64 processor answers as this machine does. Nothing here is a time."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_cases import Told, answer

PROMPT = ("--prompt", "What is in this picture?")
# Not the default processor, with which QEMU 7.2 computes int8 products wrongly.
QEMU: list[str | Path] = ["qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu"]
LOGITS = {"pruned": 1e-5, "int4": 2e-2}
"""max |a - b| / max |b|: sums in another order; and where activations become integers, as runtimes/verify.py has it."""
KEPT = {"pruned": 1.0, "int4": 0.85}
"""Share of kept tokens in common; one of nine may be another at a near tie."""


@pytest.mark.parametrize("name", ["pruned", "int4"])
def test_arm64_answers_as_this_machine(
    host: Path, arm64: Path, tiny: Callable[[str], Path], photo: Path, tmp_path: Path, name: str
) -> None:
    asked = (*PROMPT, "--ignore-end", "--max-new-tokens", "4", "--reply", "How many are there?")
    found = answer([*QEMU, arm64 / "dist/vlmp_runner"], tiny(name), photo, tmp_path, *asked)
    wanted = answer([host / "vlmp_runner"], tiny(name), photo, tmp_path, *asked)
    assert found.text == wanted.text
    assert found.tokens == wanted.tokens
    assert np.isin(found.kept, wanted.kept).mean() >= KEPT[name]
    assert np.abs(found.logits - wanted.logits).max() <= LOGITS[name] * np.abs(wanted.logits).max()
    if name == "pruned":
        assert found.order == wanted.order


def test_pruning_saves_instructions_in_prefill_and_decode(
    arm64: Path, tiny: Callable[[str], Path], photo: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "count.so"
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing: apt-get install gcc")
    source = Path(__file__).with_name("count_instructions.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o", plugin, source], check=True)
    command: list[str | Path] = [QEMU[0], "-plugin", plugin, *QEMU[1:], arm64 / "dist/vlmp_runner"]
    counts = {}
    for name in ("pruned", "unpruned"):
        told = answer(command, tiny(name), photo, tmp_path, *PROMPT, "--ignore-end", "--max-new-tokens", "5")
        counts[name] = instructions(told)
    pruned, unpruned = counts["pruned"], counts["unpruned"]
    assert abs(pruned["vision"] / unpruned["vision"] - 1) < 0.01  # the same graph
    assert pruned["prefill"] < 0.85 * unpruned["prefill"]
    assert pruned["decode"] < unpruned["decode"]


def instructions(told: Told) -> dict[str, int]:
    """Executed by each phase: the plug-in tells the sum at each line of the runner, before the line is there."""
    sums = [(int(count), phase) for count, phase in re.findall(r"instructions (\d+)\n(\w+) [\d.]+ ms", told.stderr)]
    before = [0, *(count for count, _ in sums)]
    return {phase: count - earlier for (count, phase), earlier in zip(sums, before, strict=False)}
