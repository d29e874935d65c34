"""The C++ runner: building it into build/native, and what it printed."""

from __future__ import annotations

import fcntl
import importlib.util
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "runtimes/assets/photo.jpg"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: tests run in several."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "runtimes/native/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def built(kind: str) -> Path:
    """The folder of a build. Skips the test when a tool cannot be had, fails it when something does not compile."""
    script = build_script()
    script.OUTPUT.mkdir(parents=True, exist_ok=True)
    try:
        with locked(script.OUTPUT / f"{kind}.lock"):
            folder = script.build(kind, jobs=2)
    except script.Missing as error:
        pytest.skip(str(error))
    assert isinstance(folder, Path)
    return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What an answering runner printed. tokens: a list a turn; stages: kept of each; logits float32 [all tokens, V]."""

    text: str
    tokens: list[list[int]]
    kept: list[int]
    stages: list[list[int]]
    order: list[int]
    logits: NDArray[np.float32]
    stderr: str


def answer(command: list[str | Path], bundle: Path, image: Path, scratch: Path, *options: str) -> Told:
    """Let a runner answer. command: how it is started, without arguments."""
    logits = scratch / "logits.bin"
    asked = [*command, bundle, "--image", image, "--threads", "1", "--logits", logits, *options]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = np.fromfile(logits, np.float32)

    def ids(name: str) -> list[list[int]]:
        return [[int(word) for word in line.split()] for line in re.findall(rf"^{name}:(.*)$", done.stderr, re.M)]

    tokens = ids("tokens")
    (kept,) = ids(r"kept \d+ of \d+")
    return Told(
        text=done.stdout,
        tokens=tokens,
        kept=kept,
        stages=[*ids(r"stage \d+ kept \d+ of \d+"), kept],
        order=ids("order")[0],
        logits=rows.reshape(sum(map(len, tokens)), -1),
        stderr=done.stderr,
    )
