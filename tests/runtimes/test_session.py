"""The bookkeeping on tensors: where rows are stored, what is refused; and how a bundle is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from session_cases import BUCKET, LAYERS, ONE, ROOM, THREE, TINY, TWO, VISUAL, FakeSession, make_manifest
from vlmp.runtimes import load
from vlmp.runtimes.bundle.errors import UserError
from vlmp.runtimes.bundle.folder import write_manifest
from vlmp.runtimes.session import RUNTIMES
from vlmp.runtimes.traits import TRAITS, Traits, traits_of

IDS = [5, 6, 7]


@pytest.fixture
def session() -> FakeSession:
    return FakeSession(Path(), make_manifest())


@pytest.fixture
def visual() -> NDArray[np.float32]:
    return np.zeros((VISUAL, 5), np.float32)


def test_layers_between_stages_have_caches_of_their_own_size() -> None:
    def bases(stages: Sequence[tuple[int, int]]) -> list[int]:
        layers = make_manifest(stages=stages).shape.kv.layers
        assert {layer.slots - layer.base for layer in layers} == {BUCKET + ROOM}
        return [layer.base for layer in layers]

    assert [bases(stages) for stages in (ONE, TWO, THREE)] == [[7, 5, 5], [7, 6, 5], [7, 6, 5]]


@pytest.mark.parametrize("count", [0, BUCKET + 1])
def test_buckets_that_do_not_fit(session: FakeSession, visual: NDArray[np.float32], count: int) -> None:
    with pytest.raises(UserError, match=f"{count} text tokens: this bundle takes 1 to {BUCKET} at once"):
        session.prefill([5] * count, visual)
    session.script = iter([40, 41])
    session.prefill([5], visual)
    with pytest.raises(UserError, match=f"{count} text tokens: this bundle takes 1 to {BUCKET} at once"):
        session.extend([5] * count)


def test_tokens_that_are_taken_back_are_forgotten(session: FakeSession, visual: NDArray[np.float32]) -> None:
    session.script = iter([40, 41, 42])
    session.prefill(IDS, visual)
    before = session.progress
    session.decode(40)
    with pytest.raises(UserError, match="cannot go back to 5 text tokens: the caches hold 4"):
        session.rewind(before._replace(past=5))
    session.rewind(before)
    assert session.past == 3
    session.decode(50)
    for layer in range(LAYERS):
        assert session.stored(layer)[:4] == [[5, 0], [6, 1], [7, 2], [50, 3]]


def test_a_conversation_has_a_number_of_its_own(session: FakeSession, visual: NDArray[np.float32]) -> None:
    session.script = iter([40, 41, 42])
    numbers = []
    for _ in range(2):
        session.prefill(IDS, visual)
        numbers.append(session.progress.number)
    before = session.progress
    session.decode(40)
    session.rewind(before)
    assert session.progress.number == numbers[1] != numbers[0]
    session.reset()
    assert session.progress.number not in numbers
    with pytest.raises(UserError, match="cannot go back"):  # to another conversation
        session.rewind(before)


# --- Loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_text("graph")
    (tmp_path / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
    write_manifest(tmp_path, make_manifest())
    return tmp_path


def test_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "fake", "session_cases:FakeSession")
    session = load(str(folder))
    assert isinstance(session, FakeSession)
    assert session.load_ms > 0
    assert session.runtime == "fake 1"
    assert session.folder == folder


def test_bundles_that_cannot_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="target 'fake' is unknown: this vlmp runs onnx, executorch, coreml"):
        load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", "no_such_runtime.python:Session")
    with pytest.raises(UserError, match=r"needs no_such_runtime, which is not installed: pip install 'vlmp\[fake\]'"):
        load(folder)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "coremltools", None)
        without.delitem(sys.modules, RUNTIMES["coreml"].partition(":")[0], raising=False)
        without.setitem(RUNTIMES, "fake", RUNTIMES["coreml"])
        with pytest.raises(UserError, match="needs coremltools, which is not installed: pip install"):
            load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", "vlmp.runtimes.no_such_file:Session")
    with pytest.raises(ModuleNotFoundError):
        load(folder)
    monkeypatch.setitem(RUNTIMES, "fake", "session_cases:FakeSession")
    (folder / "a").write_text("gruph")
    with pytest.raises(UserError, match="a is damaged"):
        load(folder)
    assert load(folder, check_hashes=False)


def test_traits_are_those_of_a_target(session: FakeSession) -> None:
    assert set(TRAITS) <= set(RUNTIMES)
    assert traits_of("onnx") == session.traits == Traits()
    assert (traits_of("coreml").chooses_threads, traits_of("coreml").multiplies_integers) == (True, False)
    assert traits_of("coreml").interpreted is (sys.platform != "darwin")
