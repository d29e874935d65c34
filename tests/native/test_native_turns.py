"""The runner's session in two threads, and in callbacks that call it or fail; turns.cpp says what is asked of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from vlmp.runtimes.bundle.folder import read_manifest, write_manifest

ROUNDS = 25


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (0, "good\n"), done.stderr[-2000:]


@pytest.fixture(scope="module")
def bundle(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpruned bundle, whose tokenizer has a token beyond the model's vocabulary."""
    folder = tmp_path_factory.mktemp("turns") / "bundle"
    shutil.copytree(tiny("unpruned"), folder)
    manifest = read_manifest(folder)
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    plain = {flag: False for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    raw["added_tokens"].append({"id": manifest.vocab_size + 7, "content": "<far>", **plain})
    path.write_text(json.dumps(raw), encoding="utf-8")
    write_manifest(folder, manifest)
    return folder


def test_two_threads_get_the_answers_that_one_gets(host: Path, bundle: Path, photo: Path) -> None:
    run(host / "turns", "threads", bundle, photo, str(ROUNDS))


def test_callbacks_that_call_their_session_or_fail(host: Path, bundle: Path, photo: Path) -> None:
    run(host / "turns", "calls", bundle, photo)


def test_callbacks_under_the_sanitizers(sanitizers: Path, bundle: Path, photo: Path) -> None:
    run(sanitizers / "turns", "calls", bundle, photo)
