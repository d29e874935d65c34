"""The cross-built runner under QEMU: an ARM64 processor answers as this machine does. Nothing here is a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from arm64_instructions import QEMU, counted, counting
from native_cases import answer

PROMPT = ("--prompt", "What is in this picture?")
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
    arm64: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is missing: apt-get install gcc")
    command = [*counting(tmp_path), arm64 / "dist/vlmp_runner"]
    pruned, unpruned = (counted(command, tiny(name)) for name in ("pruned", "unpruned"))
    assert abs(pruned["vision"] / unpruned["vision"] - 1) < 0.01  # the same graph
    assert pruned["prefill"] < 0.85 * unpruned["prefill"]
    assert pruned["decode"] < unpruned["decode"]
